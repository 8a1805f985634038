"""Sample grids: what students were trained on, a strip of images a row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reports.figures.canvas import drawing, short
from reports.figures.style import THEME, WIDTH

_INK, _MUTED = THEME["ink"][0], THEME["muted"][0]


@dataclass(frozen=True)
class Strip:
    """One method's part of a sample grid.

    Attributes:
        label: the row's name; ``by`` says what decides an image's column.
        tiles: per class, its images (C, H, W) uint8; none where the class never appears.
    """

    label: str
    by: str
    tiles: list[list[NDArray[np.uint8]]]


def sample_grid(strips: Sequence[Strip], classes: Sequence[int], per_class: int) -> Figure:
    """What students were trained on: a strip per method, a column per class, the same classes for all.

    Args:
        strips: at least one.
        classes: the class of each column.
        per_class: images under one another in a strip; a class with fewer leaves the rest blank, and one
            without any says ``none``.
    """
    tile = min(WIDTH / len(classes), 0.62)
    head, gap = 0.3, 0.14
    strip_height = head + per_class * tile + gap
    height = 0.25 + len(strips) * strip_height
    with drawing():
        figure = Figure(figsize=(WIDTH, height))
        size = 8.0 if tile > 0.3 else 6.5
        for column, k in enumerate(classes):
            x = (column + 0.5) * tile / WIDTH
            figure.text(x, 1 - 0.14 / height, str(k), ha="center", va="center", size=size, color=_MUTED)
        for i, strip in enumerate(strips):
            top = height - 0.25 - i * strip_height
            y, right = (top - 0.13) / height, max(len(classes) * tile, 3.4) / WIDTH
            figure.text(0, y, short(strip.label, 44), ha="left", va="center", size=9.5, color=_INK)
            figure.text(right, y, strip.by, ha="right", va="center", size=8, color=_MUTED)
            bottom = top - head - per_class * tile
            box = (0, bottom / height, len(classes) * tile / WIDTH, per_class * tile / height)
            ax = figure.add_axes(box)
            ax.set_axis_off()
            ax.imshow(_mosaic(strip, per_class), interpolation="none", extent=(0, len(classes), per_class, 0))
            ax.set(xlim=(0, len(classes)), ylim=(per_class, 0), aspect="auto")
            for column, images in enumerate(strip.tiles):
                if not images:
                    ax.text(column + 0.5, 0.5, "none", ha="center", va="center", size=size - 1, color=_MUTED)
    return figure


def _mosaic(strip: Strip, per_class: int) -> NDArray[np.uint8]:
    """(H, W, 4) the strip as one picture, transparent between tiles and where an image is missing."""
    known = next(image for images in strip.tiles for image in images)
    zoom = max(1, math.ceil(24 / known.shape[-1]))  # viewers smooth small pictures
    height, width = (zoom * side for side in known.shape[-2:])
    gap = max(1, width // 16)
    canvas = np.zeros((per_class * (height + gap), len(strip.tiles) * (width + gap), 4), np.uint8)
    for column, images in enumerate(strip.tiles):
        for row in range(per_class):
            y, x = row * (height + gap) + gap // 2, column * (width + gap) + gap // 2
            if row < len(images):
                canvas[y : y + height, x : x + width] = _rgba(images[row], zoom)
            elif not images and row == 0:  # an outline around the word
                canvas[y : y + height, x : x + width, :3] = [int(_MUTED[i : i + 2], 16) for i in (1, 3, 5)]
                canvas[y : y + height, x : x + width, 3] = 70
                canvas[y + 1 : y + height - 1, x + 1 : x + width - 1, 3] = 0
    return canvas


def _rgba(image: NDArray[np.uint8], zoom: int) -> NDArray[np.uint8]:
    rgb = image if len(image) == 3 else np.repeat(image[:1], 3, axis=0)
    whole = np.concatenate([rgb, np.full_like(rgb[:1], 255)]).transpose(1, 2, 0)
    return whole.repeat(zoom, axis=0).repeat(zoom, axis=1)
