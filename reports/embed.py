"""Pictures inside the page: the same drawing in fewer bytes, and what to do where they do not all fit.

A drawing's coordinates are rounded to a hundredth of a point, its small pictures written with as few bytes as
keep every pixel. Where the page would still pass its limit the small pictures lose colours; where that is not
enough the largest drawings are left out, and the page says so and names their files.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from reports.pictures import Picture

#: bytes of a page, its drawings included; "under 8 MB"
LIMIT = 8_000_000
#: what the page puts around a drawing, beyond what it says of one that is left out
_FRAME = 100
_DATA = re.compile(r"data:image/png;base64,([^\"]*)")
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
            return _fewer([_drawing(each, exact=not _DATA.search(each.svg)) for each in pictures], room)
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
    if coarse := sum(not each.exact for each in shown):
        plural = "s" if coarse > 1 else ""
        parts.append(f"{coarse} figure{plural} with fewer colours than the exact ones in figures/.")
    return f"To keep this page under {LIMIT // 10**6} MB: {' '.join(parts)}" if parts else ""


#: at least as long as whatever `said` says
SAYS_MOST = "x" * 300


def _size(drawing: Drawing) -> int:
    return len(drawing.svg.encode()) + _FRAME


def _drawing(picture: Picture, exact: bool) -> Drawing:
    svg = compact(picture.svg, exact)
    width, height = re.findall(r'viewBox="0 0 (\S+) (\S+)"', svg)[0]
    return Drawing(picture, replace(picture, svg=svg).themed, f"{width}/{height}", exact)


def compact(svg: str, exact: bool = True) -> str:
    """The same drawing in fewer bytes.

    Args:
        svg: as matplotlib writes it: paths of M, L, C, Q and z in absolute coordinates.
        exact: whether the small pictures inside keep every pixel.
    """
    svg = _DATA.sub(lambda found: _image(base64.b64decode(found[1]), exact), svg)
    svg = re.sub(r' d="([^"]*)"', lambda found: f' d="{path(found[1])}"', svg)
    svg = re.sub(r' (x|y)="(-?\d+\.\d{3,})"', lambda found: f' {found[1]}="{float(found[2]):.2f}"', svg)
    svg = re.sub(r' transform="rotate\(-?0 [^)]*\)"', "", svg)
    used = set(re.findall(r'"#([^"]+)"|url\(#([^)]+)\)', svg))
    names = {name for pair in used for name in pair}
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in names else "", svg)
    return re.sub(r">\s+<", ">\n<", svg)


def path(d: str) -> str:
    """A path in hundredths of a unit, relative to the point before; rounding errors do not add up."""
    parts: list[str] = []
    x = y = 0
    start = (0, 0)
    for letter, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        if letter not in "MLCQz":
            return d  # another writer's path stays as it is
        if letter == "z":
            parts.append("z")
            x, y = start
            continue
        at = [round(100 * float(v)) for v in rest.split()]
        if letter == "M":
            parts.append("M" + _numbers(at))
            start = (at[0], at[1])
        else:
            parts.append(letter.lower() + _numbers([v - (x, y)[i % 2] for i, v in enumerate(at)]))
        x, y = at[-2:]
    return "".join(parts)


def _numbers(hundredths: Sequence[int]) -> str:
    texts = [f"{v / 100:.2f}".rstrip("0").rstrip(".").replace("0.", ".", abs(v) < 100) for v in hundredths]
    joined = " ".join("0" if text in ("", "-0", "-") else text for text in texts)
    return joined.replace(" -", "-")


def _image(png: bytes, exact: bool) -> str:
    """A data URI of the same picture; ``exact`` or not, never more bytes than it had."""
    whole = np.asarray(Image.open(io.BytesIO(png)).convert("RGBA"))
    pixels = _unzoomed(whole)
    small, made = Image.fromarray(pixels), {"png": png}
    if exact:
        colours = np.ascontiguousarray(pixels).view(np.uint32)[..., 0]
        known, index = np.unique(colours, return_inverse=True)
        if len(known) <= 256:
            indexed = Image.fromarray(index.reshape(colours.shape).astype(np.uint8))
            indexed.putpalette(known.tobytes(), "RGBA")
            small = indexed
        made["PNG"] = _written(small, "PNG", optimize=True)
    else:
        few = small.quantize(_COLOURS, method=Image.Quantize.FASTOCTREE)
        made["PNG"] = _written(few, "PNG", optimize=True)
        made["WEBP"] = _written(small, "WEBP", quality=_WEBP_QUALITY)
    kind = min(made, key=lambda name: len(made[name]))
    return f"data:image/{kind.lower()};base64,{base64.b64encode(made[kind]).decode()}"


def _written(image: Image.Image, kind: str, **options: int) -> bytes:
    whole = io.BytesIO()
    image.save(whole, kind, **options)
    return whole.getvalue()


def _unzoomed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A pixel for every square of equal ones: the page enlarges without smoothing."""
    height, width = pixels.shape[:2]
    for zoom in range(8, 1, -1):
        if height % zoom == width % zoom == 0:
            small = pixels[::zoom, ::zoom]
            if (small.repeat(zoom, axis=0).repeat(zoom, axis=1) == pixels).all():
                return small
    return pixels
