"""Which pictures the page shows: in its order, as long as there is room; the others are files beside it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from reports.figures.places import Picture

#: bytes of a page, its drawings included; "under 8 MB"
LIMIT = 8_000_000
#: what the page puts around a drawing, beyond what it says of one that is left out
_FRAME = 100


@dataclass(frozen=True)
class Drawing:
    """A picture as the page shows it: its element in the page's colours, None where it is left out."""

    picture: Picture
    svg: Markup | None = None

    @property
    def ratio(self) -> str:
        """Width over height, as CSS writes it."""
        width, height = re.findall(r'viewBox="0 0 (\S+) (\S+)"', self.picture.svg)[0]
        return f"{width}/{height}"


def fit(pictures: Sequence[Picture], room: int) -> list[Drawing]:
    """Each picture in turn, shown if it fits into what is left of ``room`` bytes."""
    drawings = []
    for picture in pictures:
        svg = picture.themed
        size = len(svg.encode()) + _FRAME
        drawings.append(Drawing(picture, svg if size <= room else None))
        room -= size if size <= room else 0
    return drawings


def said(drawings: Sequence[Drawing]) -> str:
    """What the page must say of pictures it does not show, "" for nothing."""
    shown = sum(each.svg is not None for each in drawings)
    if shown == len(drawings):
        return ""
    why = f"to keep this page under {LIMIT // 10**6} MB, the others are files in figures/"
    return f"{shown} of {len(drawings)} figures are shown: {why}."


#: at least as long as whatever `said` says
SAYS_MOST = "x" * 300
