"""Rows beside one another as bars: top-1, and differences to the row each is measured against."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from reports.figures.canvas import POINTS, TEACHER, Reach, beside, drawing, reach, short
from reports.figures.style import THEME, WIDTH, Style
from reports.numbers.stats import Interval

_INK, _MUTED, _LINE, _PAPER = (THEME[name][0] for name in ("ink", "muted", "line", "paper"))
_CHANCE: dict[str, Any] = {"color": _MUTED, "linewidth": 1, "linestyle": (0, (5, 2))}
_HATCH = {"method": "", "control": r"\\\\", "reference": "///"}
#: inches of a row
_ROW = 0.23


@dataclass(frozen=True)
class Bar:
    """One row: mean and half of the t-interval (NaN below two), top-1 of each seed, all in percent."""

    label: str
    kind: str
    top1: Interval
    seeds: tuple[float, ...]


@dataclass(frozen=True)
class Difference:
    """A row minus the row it is measured against, in points.

    Attributes:
        label: the row's.
        value: mean over pairs; ``half`` of its t-interval, NaN where there is none.
        name: what stands beside the bar.
    """

    label: str
    value: float
    half: float
    name: str


def bars(rows: Sequence[Bar], styles: Mapping[str, Style], teacher: float, chance: float) -> Figure:
    """Top-1 of every row: the whole scale, and a close-up where the best rows stand close together.

    Args:
        rows: at least one, from top to bottom.
        styles: label -> how to draw it.
        teacher: accuracy to mark, or NaN.
        chance: likewise, of guessing.
    """
    near = _close_up(rows, teacher)
    with drawing(**{"hatch.linewidth": 0.6}):
        lines = 2 if len({row.kind for row in rows}) > 1 else 1
        apart = ConstrainedLayoutEngine(w_pad=0.1)  # labels at the ends of two axes do not meet
        figure = Figure(figsize=(WIDTH, 0.75 + 0.2 * lines + _ROW * len(rows)), layout=apart)
        axes = figure.subplots(
            1, 2 if near else 1, sharey=True, squeeze=False, width_ratios=[1, 1.5][-2 if near else 1 :]
        )[0]
        for ax in axes:
            for value, line in ((teacher, TEACHER), (chance, _CHANCE)):
                if not math.isnan(value):
                    ax.axvline(value, zorder=3, **line)
            _lines_of(ax, len(rows))
            ax.tick_params(axis="y", labelcolor=_INK)
        for y, row in enumerate(rows):
            colour = styles[row.label].colour
            _bar(axes[0], y, row.top1.mean, colour)
            if row.kind != "method":  # a hatch drops the tint: it gets a bar of its own
                look = {"facecolor": "none", "edgecolor": colour, "linewidth": 0, "hatch": _HATCH[row.kind]}
                axes[0].barh(y, row.top1.mean, height=0.7, **look)
            _interval(axes[-1], row.top1, y, colour)
            few = len(row.seeds) <= 10  # many seeds would hide the interval
            axes[-1].plot(
                row.seeds, [y] * len(row.seeds), linestyle="", marker=styles[row.label].marker,
                markersize=3.6 if few else 2.4, markerfacecolor=_PAPER if few else colour,
                markeredgecolor=colour, markeredgewidth=0.9 if few else 0, alpha=1 if few else 0.4,
                zorder=5 if few else 3,
            )  # fmt: skip
            text = f"{row.top1.mean:.2f}"
            if not math.isnan(row.top1.half):  # the close-up may cut the interval: here it is whole
                text += f" ± {row.top1.half:.2f}"
            beside(axes[-1], y, text)
        axes[0].set_xlim(0, 100)
        axes[0].xaxis.set_major_locator(MaxNLocator(2 if near else 5))
        axes[0].set_yticks(range(len(rows)), [short(row.label) for row in rows])
        axes[0].set_xlabel("top-1 (%)")
        if near:
            axes[1].set_xlim(*near)
            axes[1].xaxis.set_major_locator(MaxNLocator(5))
            axes[1].set_xlabel("close-up (%)")
            for y, row in enumerate(rows):
                if row.top1.mean < near[0]:
                    look = {"va": "center", "size": 8, "color": _MUTED}
                    axes[1].annotate("◂", (near[0], y), xytext=(1, 0), textcoords="offset points", **look)
        handles = _bar_handles(rows, teacher, chance)
        figure.legend(handles=handles, loc="outside lower left", ncols=3, handlelength=1.8, columnspacing=1.2)
    return figure


def _close_up(rows: Sequence[Bar], teacher: float) -> tuple[float, float] | None:
    """The range of the rows within fifteen points of the best, where that shows more than the whole scale."""
    best = max(row.top1.mean for row in rows)
    near = [v for row in rows for v in (*row.seeds, row.top1.mean) if row.top1.mean >= best - 15]
    if len(rows) < 2 or min(near) < 30:
        return None
    high = max(near) if math.isnan(teacher) else max(*near, teacher)
    pad = max(0.3, 0.06 * (high - min(near)))
    return min(near) - pad, high + pad


def _bar_handles(rows: Sequence[Bar], teacher: float, chance: float) -> list[Any]:
    present = {row.kind for row in rows}
    made: list[Any] = [
        Patch(fc="none" if _HATCH[kind] else _tint(_MUTED), ec=_MUTED, hatch=_HATCH[kind], label=name)
        for kind, name in (
            ("method", "data-free"),
            ("control", "control"),
            ("reference", "reference: sees real data"),
        )
        if kind in present and len(present) > 1
    ]
    dot: dict[str, Any] = {
        "marker": "o",
        "markersize": 3.6,
        "markerfacecolor": _PAPER,
        "markeredgecolor": _MUTED,
    }
    made.append(Line2D([], [], linestyle="", label="a seed", **dot))
    if any(row.top1.n > 1 for row in rows):
        made.append(Line2D([], [], color=_MUTED, linewidth=2, label="95 % t-interval"))
    for value, line, name in ((teacher, TEACHER, "teacher"), (chance, _CHANCE, "chance")):
        if not math.isnan(value):
            made.append(Line2D([], [], label=name, **line))
    return made


def _interval(ax: Any, top1: Interval, y: float, colour: str) -> None:
    if not math.isnan(top1.half):
        ends = (max(0, top1.mean - top1.half), min(100, top1.mean + top1.half))
        ax.plot(ends, [y, y], color=colour, linewidth=2, solid_capstyle="butt", zorder=4)
    ax.plot([top1.mean] * 2, [y - 0.3, y + 0.3], color=colour, linewidth=1.6, solid_capstyle="butt", zorder=4)


def _lines_of(ax: Any, n: int) -> None:
    """A line for each of n rows, the first on top."""
    ax.set_ylim(n - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.grid(visible=False, axis="y")


def _bar(ax: Any, y: float, value: float, colour: str) -> None:
    ax.barh(y, value, height=0.7, facecolor=_tint(colour), edgecolor=colour, linewidth=0.8, zorder=2)


def _tint(colour: str) -> tuple[str, float]:
    return (colour, 0.35)


def reach_of(rows: Sequence[Difference]) -> Reach:
    """The scale of `differences`: with zero, and every interval as far as `canvas.reach` goes."""
    return reach([Interval(0.0, 0.0, 0), *(Interval(row.value, row.half, 0) for row in rows)], 0.1, POINTS)


def differences(groups: Mapping[str, Sequence[Difference]], styles: Mapping[str, Style]) -> Figure:
    """What rows differ by from the row they are measured against: a bar from zero with its interval.

    Args:
        groups: heading -> rows under it, none empty.
        styles: label -> how to draw it.
    """
    lines: list[tuple[str, Difference | None]] = []
    for heading, rows in groups.items():
        lines += [(heading, None), *((row.name, row) for row in rows)]
    with drawing():
        figure = Figure(figsize=(WIDTH, 0.6 + _ROW * len(lines)), layout="constrained")
        ax = figure.subplots()
        ax.axvline(0, color=_INK, linewidth=1, zorder=3)
        for y, (_, row) in enumerate(lines):
            if row is None:
                continue
            colour = styles[row.label].colour if row.label in styles else _MUTED
            _bar(ax, y, row.value, colour)
            text = f"{row.value:+.2f}"
            if not math.isnan(row.half):
                ax.errorbar(row.value, y, xerr=row.half, color=_INK, elinewidth=1.1, capsize=2, zorder=4)
                text += f" ± {row.half:.2f}"
            beside(ax, y, text.replace("-", "\N{MINUS SIGN}"))
        ax.set_yticks(range(len(lines)), [short(label, 34) for label, _ in lines])
        for (_, row), tick in zip(lines, ax.get_yticklabels(), strict=True):
            tick.set(weight="bold" if row is None else "normal", color=_MUTED if row is None else _INK)
        shown = [row for _, row in lines if row is not None]
        low, high, _ = reach_of(shown)
        ax.set_xlim(low - 0.03 * (high - low), high + 0.03 * (high - low))
        _lines_of(ax, len(lines))
        ax.xaxis.set_major_locator(MaxNLocator(5))
        ax.set_xlabel("difference in top-1 (points)")
    return figure
