"""Top-1 along a setting: how deep CFE goes, and one setting at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from reports.figures.canvas import TEACHER, beside, drawing, reach, short
from reports.figures.style import THEME, WIDTH
from reports.numbers.stats import Interval
from reports.numbers.sweeps import Point

_ACCENT, _INK, _MUTED = (THEME[name][0] for name in ("accent", "ink", "muted"))


def depth(choices: Sequence[tuple[str, Point]], teacher: float) -> Figure:
    """Top-1 against how many norms are categorical: a point a choice, a line through the means.

    Args:
        choices: (choice, point) by depth; choices of one depth stand side by side.
        teacher: accuracy to mark where the rows come near it, or NaN.
    """
    counts = [point.value for _, point in choices]
    widest = max(counts.count(n) for n in set(counts))
    step = min(0.14, 0.84 / widest)
    x = []
    for i, n in enumerate(counts):
        place, among = i - counts.index(n), counts.count(n)
        x.append(n + step * (place - (among - 1) / 2))
    with drawing():
        figure = Figure(figsize=(WIDTH, 3.4), layout="constrained")
        ax = figure.subplots()
        depths = sorted(set(counts))
        means = [float(np.mean([p.top1.mean for _, p in choices if p.value == n])) for n in depths]
        ax.plot(depths, means, color=_ACCENT, linewidth=1.3, alpha=0.6, zorder=2)
        for at, (_, point) in zip(x, choices, strict=True):
            _point(ax, at, point.top1)
        _reach(ax, [p.top1 for _, p in choices], teacher)
        ax.set_xlim(min(counts) - 0.5, max(counts) + 0.5)
        ax.set_xticks(depths, [f"{n:.0f}" for n in depths])
        ax.xaxis.remove_overlapping_locs = False  # a choice may stand right above its number
        ax.set_xticks(x, [_norms(choice) for choice, _ in choices], minor=True, rotation=90)
        ax.tick_params(axis="x", which="minor", length=2, labelsize=7, labelcolor=_MUTED)
        ax.tick_params(axis="x", which="major", length=0, pad=34, labelsize=9.5, labelcolor=_INK)
        ax.grid(visible=False, axis="x")
        ax.set(xlabel="categorical normalisations (above: which)", ylabel="top-1 (%)")
    return figure


def _norms(choice: str) -> str:
    """``drop1`` as the norms it leaves, 0+2+3."""
    if not choice.startswith("drop"):
        return choice
    return "+".join(str(i) for i in range(4) if str(i) != choice.removeprefix("drop"))


def alone(panels: Sequence[tuple[str, Sequence[Point]]]) -> Figure:
    """A panel a setting on one scale of top-1.

    Args:
        panels: (title, points by value), at least one; values that span a factor of eight get a log axis, or
            stand equally spaced where 0 is among them.
    """
    columns = min(len(panels), 2)
    lines = math.ceil(len(panels) / columns)
    with drawing():
        figure = Figure(figsize=(WIDTH, 0.3 + (2.6 if columns == 1 else 2.05) * lines), layout="constrained")
        axes = [figure.add_subplot(lines, columns, i + 1) for i in range(len(panels))]
        for i, (ax, (title, points)) in enumerate(zip(axes, panels, strict=True)):
            values = [point.value for point in points]
            spaced = min(values) <= 0 < max(values) and max(values) > 10 * min(v for v in values if v > 0)
            logarithmic = min(values) > 0 and max(values) >= 8 * min(values)
            x = [float(j) for j in range(len(values))] if spaced else values
            ax.plot(x, [p.top1.mean for p in points], color=_ACCENT, linewidth=1.3, alpha=0.6, zorder=2)
            for at, point in zip(x, points, strict=True):
                _point(ax, at, point.top1)
            if logarithmic:
                ax.set_xscale("log")
            names = [f"{value:g}" for value in values]
            wide = WIDTH / columns - (0.7 if columns == 1 else 0.55)
            kept = _apart(np.log(x) if logarithmic else np.array(x), names, wide)
            ax.set_xticks([x[j] for j in kept], [names[j] for j in kept])
            ax.xaxis.set_minor_locator(NullLocator())
            _reach(ax, [p.top1 for _, group in panels for p in group], math.nan)
            how = ", equally spaced" if spaced else ", log scale" if logarithmic else ""
            ax.set_xlabel(short(title, 30) + how)
            ax.tick_params(labelleft=i % columns == 0)
        figure.supylabel("top-1 (%)", size=9.5)
    return figure


def _point(ax: Any, x: float, top1: Interval) -> None:
    half = None if math.isnan(top1.half) else top1.half
    ax.errorbar(
        x, top1.mean, yerr=half, marker="o", color=_ACCENT, markersize=5, elinewidth=1.1, capsize=2, zorder=3
    )


def _apart(x: np.ndarray, names: Sequence[str], wide: float) -> list[int]:
    """Places of the values whose labels have room on an axis of so many inches, from the left."""
    inches = (x - x[0]) * 0.9 * wide / (x[-1] - x[0])
    kept: list[int] = []
    for i, at in enumerate(inches):
        if not kept or at - inches[kept[-1]] >= 0.05 + 0.04 * (len(names[i]) + len(names[kept[-1]])):
            kept.append(i)
    return kept


def _reach(ax: Any, shown: Sequence[Interval], teacher: float) -> None:
    """The scale is that of `reach`, and holds the teacher where that is near."""
    means = [top1.mean for top1 in shown]
    span = max(max(means) - min(means), 1.0)
    low, high, _ = reach(shown)
    if min(means) - span <= teacher <= max(means) + span:
        low, high = min(low, teacher), max(high, teacher)
        ax.axhline(teacher, zorder=1, **TEACHER)
        beside(ax, teacher, "teacher", 1.01, 8, _MUTED)
    pad = max(0.08 * (high - low), 0.3)
    ax.set_ylim(max(0, low - pad), min(101.5, high + pad))
    ax.yaxis.set_major_locator(MaxNLocator(5))
