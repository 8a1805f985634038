"""Pictures inside the page, and what to do where they do not all fit.

Where the page would pass its limit the small pictures in the drawings lose colours; where that is not enough
the largest drawings are left out, and the page says so and names their files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup
from PIL import Image

from reports.figures.places import Picture
from reports.figures.svg import DATA, decoded, uri, written

#: bytes of a page, its drawings included; "under 8 MB"
LIMIT = 8_000_000
#: what the page puts around a drawing, beyond what it says of one that is left out
_FRAME = 100
_COLOURS = 64
_WEBP_QUALITY = 50


@dataclass(frozen=True)
class Drawing:
    """A picture as the page shows it.

    Attributes:
        svg: an element in the page's colours, "" where the picture is left out.
        ratio: width over height, as CSS writes it.
        exact: False where its small pictures lost colours.
    """

    picture: Picture
    svg: Markup
    ratio: str
    exact: bool

    @property
    def whole(self) -> bool:
        """Whether the page shows all of it, and no file is needed."""
        return bool(self.svg) and self.exact


def fit(pictures: Sequence[Picture], room: int) -> list[Drawing]:
    """What the page shows of each picture, within ``room`` bytes in all.

    All in full if that fits. Else all small pictures lose colours; then the largest drawings, the last of
    equal ones first, are left out until the rest fits.
    """
    drawings: list[Drawing] = []
    left = room
    for picture in pictures:
        drawings.append(_drawing(picture, exact=True))
        left -= _size(drawings[-1])
        if left < 0:
            return _fewer([_drawing(each, exact=not DATA.search(each.svg)) for each in pictures], room)
    return drawings


def _fewer(drawings: list[Drawing], room: int) -> list[Drawing]:
    left = room - sum(map(_size, drawings))
    largest = sorted(range(len(drawings)), key=lambda i: (_size(drawings[i]), i))
    while left < 0 and largest:  # a page may be over its limit by its numbers alone
        i = largest.pop()
        left += _size(drawings[i])
        drawings[i] = left_out([drawings[i].picture])[0]
    return drawings


def left_out(pictures: Sequence[Picture]) -> list[Drawing]:
    """The same pictures, none shown."""
    return [Drawing(picture, Markup(), "", False) for picture in pictures]


def said(drawings: Sequence[Drawing]) -> str:
    """What the page must say of pictures it does not show in full, "" for nothing."""
    shown = [each for each in drawings if each.svg]
    parts = []
    if len(shown) < len(drawings):
        parts.append(f"{len(shown)} of {len(drawings)} figures shown; the largest are files in figures/.")
    if few := sum(not each.exact for each in shown):
        plural = "s" if few > 1 else ""
        parts.append(f"{few} figure{plural} with fewer colours than the exact ones in figures/.")
    return f"To keep this page under {LIMIT // 10**6} MB: {' '.join(parts)}" if parts else ""


#: at least as long as whatever `said` says
SAYS_MOST = "x" * 300


def _size(drawing: Drawing) -> int:
    return len(drawing.svg.encode()) + _FRAME


def _drawing(picture: Picture, exact: bool) -> Drawing:
    svg = picture.svg if exact else coarse(picture.svg)
    width, height = re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0]
    return Drawing(picture, replace(picture, svg=svg).themed, f"{width}/{height}", exact)


def coarse(svg: str) -> str:
    """The same drawing with few colours in the small pictures inside; never more bytes than it had."""
    return DATA.sub(_coarse, svg)


def _coarse(found: re.Match[str]) -> str:
    small = Image.fromarray(decoded(found[1]))
    few = small.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
    made = [
        uri("png", written(few, "PNG", optimize=True)),
        uri("webp", written(small, "WEBP", quality=_WEBP_QUALITY)),
    ]
    return min(found[0], *made, key=len)
