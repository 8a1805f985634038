"""The same drawing in fewer bytes: a third to a half of what matplotlib writes, every pixel kept."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_DATA = re.compile(r"data:image/png;base64,([^\"]*)")
_TAG = re.compile(r"<[^>]+>")
_USES = re.compile(r'(?:<use xlink:href="(#[^"]+)" x="[^"]+" y="[^"]+" style="([^"]+)"/>)+')


def smaller(svg: str) -> str:
    """What matplotlib wrote, shorter.

    Comments, white space between elements, ids that nothing refers to and turns by zero degrees go; places
    are rounded to a hundredth of a point; equal markers share their style; pictures are packed again.

    Args:
        svg: as matplotlib writes it: paths of M, L, C, Q and z in absolute coordinates.
    """
    text = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    text = re.sub(r">\s+<", "><", text)
    used = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', "".join(_TAG.findall(text))))
    kept = {name for pair in used for name in pair}
    names = {name: f"i{i}" for i, name in enumerate(sorted(kept))}
    text = in_tags(text, lambda tag: _tag(tag, names))
    text = re.sub(r"<g>\s*</g>|<g/>", "", text)
    text = _USES.sub(_shared, text)
    return _DATA.sub(lambda m: _png(m[1]), text)


def in_tags(svg: str, change: Callable[[str], str]) -> str:
    """A document with its tags changed: what stands between them is somebody's text."""
    return _TAG.sub(lambda m: change(m[0]), svg)


def _tag(tag: str, names: Mapping[str, str]) -> str:
    tag = re.sub(r' id="([^"]+)"', lambda m: f' id="{names[m[1]]}"' if m[1] in names else "", tag)
    tag = re.sub(r'(href="#|url\(#)([^")]+)', lambda m: m[1] + names[m[2]], tag)
    tag = re.sub(r' transform="rotate\(-?0 [^"]*\)"', "", tag)
    tag = re.sub(r' d="([^"]*)"', lambda m: f' d="{path(m[1])}"', tag)
    return re.sub(r'( [xy]=")(-?\d+\.\d{3,})', lambda m: m[1] + _number(round(100 * float(m[2]))), tag)


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
    return " ".join(map(_number, hundredths)).replace(" -", "-")


def _number(hundredths: int) -> str:
    text = f"{hundredths / 100:.2f}".rstrip("0").rstrip(".").replace("0.", ".", abs(hundredths) < 100)
    return text if text not in ("", "-0", "-") else "0"


def _shared(uses: re.Match[str]) -> str:
    """A run of markers whose style is one: it stands once, around them."""
    style = f' style="{uses[2]}"'
    if uses[0].count("<use") < 2 or uses[0].count(style) != uses[0].count("<use"):
        return uses[0]
    return f"<g{style}>{uses[0].replace(style, '')}</g>"


def _png(encoded: str) -> str:
    """A data URI of the same pixels, with a palette where they have at most 256 colours."""
    packed = base64.b64decode(encoded)
    with Image.open(io.BytesIO(packed)) as image:
        pixels = _unzoomed(np.asarray(image.convert("RGBA")))
    colours = np.ascontiguousarray(pixels).view(np.uint32)[..., 0]
    known, index = np.unique(colours, return_inverse=True)
    small = Image.fromarray(pixels)
    if len(known) <= 256:
        small = Image.fromarray(index.reshape(colours.shape).astype(np.uint8))
        small.putpalette(known.tobytes(), "RGBA")
    again = io.BytesIO()
    small.save(again, "PNG", optimize=True)
    shorter = min(packed, again.getvalue(), key=len)
    return f"data:image/png;base64,{base64.b64encode(shorter).decode()}"


def _unzoomed(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A pixel for every square of equal ones: whoever shows the drawing enlarges without smoothing."""
    height, width = pixels.shape[:2]
    for zoom in range(8, 1, -1):
        if height % zoom == width % zoom == 0:
            small = pixels[::zoom, ::zoom]
            if (small.repeat(zoom, axis=0).repeat(zoom, axis=1) == pixels).all():
                return small
    return pixels
