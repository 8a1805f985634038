"""Maps: top-1 over two settings, a student's decisions against the teacher's, images in feature space."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from reports.figures.canvas import drawing, short
from reports.figures.style import CLASSES, THEME, WIDTH

_INK, _MUTED, _LINE, _SHADE, _PAPER, _HUE = (
    THEME[name][0] for name in ("ink", "muted", "line", "shade", "paper", "c0")
)
#: classes whose numbers fit into the fields of a confusion table
_WRITTEN = 12
#: seen on both papers: a picture of pixels cannot change its colour with the theme
_BETWEEN = "#2f8fd0"


@dataclass(frozen=True)
class Panel:
    """One row's map with two lines on top: its name, and a number in words."""

    label: str
    number: str


def heat(
    x: tuple[str, Sequence[float]], y: tuple[str, Sequence[float]], top1: Mapping[tuple[float, float], float]
) -> Figure:
    """Mean top-1 over two settings: the higher the fuller the colour, the number in its field.

    Args:
        x: name and values from left to right.
        y: name and values from below.
        top1: (y, x) -> percent; a field without one stays empty.
    """
    low, high = min(top1.values()), max(top1.values())
    tall = min(0.42, 3.6 / len(y[1]))
    with drawing():
        figure = Figure(figsize=(WIDTH, 0.75 + tall * len(y[1])), layout="constrained")
        ax = figure.subplots()
        size = 8.5 if len(x[1]) <= 8 else 6.5
        for i, row in enumerate(y[1]):
            for j, column in enumerate(x[1]):
                value = top1.get((row, column))
                if value is not None:
                    part = (value - low) / (high - low) if high > low else 0.5
                    _field(ax, j, i, f"{value:.1f}", 0.06 + 0.9 * part, size)
        _fields(ax, [f"{v:g}" for v in x[1]], [f"{v:g}" for v in y[1]])
        ax.set_ylim(-0.5, len(y[1]) - 0.5)
        ax.set(xlabel=x[0], ylabel=y[0])
    return figure


def confusion(panels: Sequence[tuple[Panel, NDArray[np.float64]]], rows: str) -> Figure:
    """What a student decides where the teacher, or the truth, says otherwise.

    Args:
        panels: with (K, K) tables whose rows add to 1, or are NaN for a class that never comes; equal K.
        rows: what the rows are.
    """
    K = len(panels[0][1])
    most = max(float(np.nanmax(np.where(np.eye(K, dtype=bool), 0, table), initial=0)) for _, table in panels)
    with drawing():
        figure, axes = _side_by_side(len(panels), 2.55)
        for ax, (panel, table) in zip(axes, panels, strict=True):
            if K <= _WRITTEN:
                for i in range(K):
                    for j in range(K):
                        share = float(table[i, j])
                        text = f"{100 * share:.0f}" if share >= 0.005 else ""
                        if i == j:
                            _field(ax, j, i, text, None, 6.5)
                        elif share >= 0.002:
                            _field(ax, j, i, text, _shade(share, most), 6.5)
                _fields(ax, [str(k) for k in range(K)], [str(k) for k in range(K)])
                ax.tick_params(labelsize=7)
            else:
                zoom = max(1, math.ceil(200 / K))
                pixels = _pixels(table, most).repeat(zoom, axis=0).repeat(zoom, axis=1)
                ax.imshow(pixels, interpolation="none", extent=(-0.5, K - 0.5, K - 0.5, -0.5))
                ax.grid(visible=False)
            ax.set_ylim(K - 0.5, -0.5)
            _headed(ax, panel)
        figure.supxlabel("the student's decision (class)", size=9.5)
        figure.supylabel(f"{rows} (class)", size=9.5)
    return figure


def clouds(
    panels: Sequence[tuple[Panel, NDArray[np.float64], NDArray[np.int64]]], classes: Sequence[int]
) -> Figure:
    """Images as points in the plane, coloured by class.

    Args:
        panels: with (n, 2) places and (n,) classes.
        classes: those shown, at most as many as `reports.figures.style.CLASSES` has.
    """
    with drawing():
        figure, axes = _side_by_side(len(panels), 2.45, 0.5)
        for ax, (panel, xy, own) in zip(axes, panels, strict=True):
            for (colour, marker), k in zip(CLASSES, classes, strict=False):
                look = {"marker": marker, "color": colour, "markersize": 3, "markeredgewidth": 0}
                ax.plot(*xy[own == k].T, linestyle="", alpha=0.75, **look)
            ax.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim")
            for spine in ax.spines.values():
                spine.set(visible=True, color=_LINE)
            _headed(ax, panel)
        handles = [
            Line2D([], [], linestyle="", marker=marker, color=colour, markersize=5, label=str(k))
            for (colour, marker), k in zip(CLASSES, classes, strict=False)
        ]
        figure.legend(
            handles=handles, loc="outside lower left", ncols=len(handles) if len(panels) > 1 else 5,
            title="class", alignment="left", handletextpad=0, columnspacing=0.9, handlelength=1.4,
        )  # fmt: skip
    return figure


def _side_by_side(n: int, tall: float, more: float = 0.25) -> tuple[Figure, list[Any]]:
    columns = min(n, 2)
    lines = math.ceil(n / columns)
    figure = Figure(figsize=(WIDTH if n > 1 else 0.62 * WIDTH, more + tall * lines), layout="constrained")
    return figure, [figure.add_subplot(lines, columns, i + 1) for i in range(n)]


def _headed(ax: Any, panel: Panel) -> None:
    ax.set_title(f"{short(panel.label)}\n{panel.number}", size=8.5, loc="left", color=_INK)


def _shade(share: float, most: float) -> float:
    """Fullness of the colour: square roots, so that a small confusion is seen beside a large one."""
    return 0.06 + 0.9 * math.sqrt(share / most) if most else 0.0


def _field(ax: Any, x: float, y: float, text: str, full: float | None, size: float) -> None:
    """A field with its number; ``full`` is how strong its colour is, None for one that is not compared."""
    face: Any = _SHADE if full is None else (_HUE, full)
    ax.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, linewidth=0))
    if text:
        colour = _MUTED if full is None else _PAPER if full > 0.75 else _INK
        ax.text(x, y, text, ha="center", va="center", size=size, color=colour)


def _fields(ax: Any, columns: Sequence[str], rows: Sequence[str]) -> None:
    ax.set_xlim(-0.5, len(columns) - 0.5)
    ax.set_xticks(range(len(columns)), columns)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[["left", "bottom"]].set_visible(False)


def _pixels(table: NDArray[np.float64], most: float) -> NDArray[np.uint8]:
    """(K, K, 4): the colour as full as `_shade` says, nothing on the diagonal."""
    share = np.nan_to_num(np.where(np.eye(len(table), dtype=bool), 0, table))
    full = np.where(share > 0, 0.06 + 0.9 * np.sqrt(share / (most or 1)), 0)
    pixels = np.empty((*table.shape, 4), np.uint8)
    pixels[..., :3] = np.round(255 * np.array(to_rgb(_BETWEEN)))
    pixels[..., 3] = np.round(255 * full)
    return pixels
