"""Where rows stand: accuracy against cost with its front, mean ranks with the critical difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from reports.figures.canvas import TEACHER, drawing, handle, legend_columns, reach, short
from reports.figures.style import THEME, WIDTH, Style
from reports.numbers.stats import Interval

_INK, _LINE = THEME["ink"][0], THEME["line"][0]
#: inches of a row
_ROW = 0.23


@dataclass(frozen=True)
class Dot:
    """One row against its cost: ``flops`` in TFLOP, whether nothing is cheaper and better."""

    label: str
    top1: Interval
    tflop: float
    optimal: bool


def cost(dots: Sequence[Dot], styles: Mapping[str, Style], teacher: float) -> Figure:
    """Accuracy against cost on a log axis, with the front of those that nothing cheaper matches.

    Args:
        dots: at least one.
        styles: label -> how to draw it.
        teacher: accuracy to mark, or NaN.
    """
    with drawing():
        names = [short(dot.label) for dot in dots]
        size = 9 if len(dots) <= 13 else 7.5
        columns = legend_columns([*names, "Pareto front", "teacher"], size)
        rows = math.ceil((len(dots) + 2) / columns)
        figure = Figure(figsize=(WIDTH, 2.9 + 0.022 * size * rows), layout="constrained")
        ax = figure.subplots()
        handles = []
        for dot, name in zip(dots, names, strict=True):
            style = styles[dot.label]
            half = None if math.isnan(dot.top1.half) else dot.top1.half
            ax.errorbar(
                dot.tflop, dot.top1.mean, yerr=half, marker=style.marker, color=style.colour, markersize=6.5,
                markeredgecolor=_INK if dot.optimal else style.colour, elinewidth=1.2, zorder=3,
            )  # fmt: skip
            handles.append(handle(style, name))
            handles[-1].set(linestyle="", markersize=6)
        front = sorted((dot.tflop, dot.top1.mean) for dot in dots if dot.optimal)
        low, high, _ = reach([dot.top1 for dot in dots])
        ends = min(d.tflop for d in dots) / 1.3, max(d.tflop for d in dots) * 1.3
        if front:
            x, y = zip(*front, strict=True)
            ax.step([*x, ends[1]], [*y, y[-1]], where="post", color=_INK, linewidth=1, zorder=2)
            handles.append(Line2D([], [], color=_INK, linewidth=1, label="Pareto front"))
        if not math.isnan(teacher):
            ax.axhline(teacher, zorder=1, **TEACHER)
            handles.append(Line2D([], [], label="teacher", **TEACHER))
            high = max(high, teacher)
        pad = 0.08 * (high - low) + 0.3
        ax.set(xscale="log", xlim=ends, ylim=(max(0, low - pad), min(101, high + pad)))
        _plain_log(ax)
        ax.set(xlabel="cost (TFLOP), log scale", ylabel="top-1 (%)")
        figure.legend(
            handles=handles, loc="outside lower left", ncols=columns, handlelength=1.6, fontsize=size
        )
    return figure


def _plain_log(ax: Any) -> None:
    """Numbers in full on a log axis; within a decade also 2 and 5."""
    low, high = ax.get_xlim()
    subs = (1,) if high / low > 300 else (1, 2, 5) if high / low > 4 else (1, 1.5, 2, 3, 4, 5, 7)
    ax.xaxis.set_major_locator(LogLocator(subs=subs, numticks=12))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_minor_formatter(NullFormatter())


def rank_diagram(
    names: Sequence[str],
    means: Sequence[float],
    cd: float,
    groups: Sequence[tuple[int, int]],
    styles: Mapping[str, Style],
    reason: str = "",
) -> Figure:
    """Critical-difference diagram (Demsar 2006), a row a line so that no two names meet.

    Args:
        names: best first.
        means: mean rank of each; 1 is best.
        cd: mean ranks further apart than this differ, NaN where ``reason`` says why there is no test.
        groups: (first, last) in ``names`` of rows that are not told apart: a bar on the right each.
        styles: label -> how to draw it.
        reason: why there is no test, for the axis.
    """
    with drawing():
        figure = Figure(figsize=(WIDTH, 1.05 + _ROW * len(names)), layout="constrained")
        ax, side = figure.subplots(1, 2, sharey=True, width_ratios=[5, max(0.6, 0.2 * len(groups))])
        for y, (name, mean) in enumerate(zip(names, means, strict=True)):
            style = styles[name]
            ax.plot([1, mean], [y, y], color=_LINE, linewidth=1, zorder=1)
            ax.plot(mean, y, marker=style.marker, color=style.colour, markersize=6, zorder=3)
        for x, (first, last) in enumerate(groups):
            side.plot([x, x], [first - 0.2, last + 0.2], color=_INK, linewidth=3, solid_capstyle="butt")
        side.set(xlim=(-0.7, max(len(groups), 2) - 0.3))
        side.set_axis_off()
        top = -0.8 if math.isnan(cd) else -1.9
        ax.set(xlim=(0.8, max(len(names), 2) + 0.2), ylim=(len(names) - 0.4, top))
        if not math.isnan(cd):
            ax.errorbar(1 + cd / 2, -1.1, xerr=cd / 2, color=_INK, capsize=3, linewidth=1.4)
            look = {"textcoords": "offset points", "va": "center", "size": 8.5}
            ax.annotate(f"critical difference {cd:.2f}", (1 + cd, -1.1), xytext=(6, 0), **look)
        ax.set_yticks(range(len(names)), [short(name) for name in names])
        ax.tick_params(axis="y", length=0, labelcolor=_INK)
        ax.grid(visible=False, axis="y")
        ax.xaxis.set_major_locator(MaxNLocator(8, integer=True))
        ax.set_xlabel("mean rank (1 is best)" + (f"; {reason}" if reason else ""))
    return figure
