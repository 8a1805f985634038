"""Learning curves. The home of seaborn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from reports.figures.canvas import TEACHER, drawing, handle, legend_columns, short
from reports.figures.style import WIDTH, Style


def learning_curves(
    data: pd.DataFrame,
    styles: Mapping[str, Style],
    axis: str,
    teacher: float = math.nan,
    panels: Sequence[Sequence[str]] = (),
) -> Figure:
    """Accuracy over training: a line per row of the table, a band from the lowest to the highest seed.

    Args:
        data: long: ``label``, ``seed``, ``x`` and ``top1`` (percent); the seeds of a label share ``x``.
        styles: label -> how to draw it, in the order of the legend.
        axis: what ``x`` is, with its unit.
        teacher: accuracy to mark, or NaN.
        panels: labels of each panel, two panels side by side on common axes; by default one panel of all.
    """
    known = set(data["label"])
    panels = [[n for n in panel if n in known] for panel in panels or [list(styles)]]
    panels = [panel for panel in panels if panel]
    # Seaborn would take the same mean and band, point by point, in a hundred times the time.
    over = data[data["x"] > 0].groupby(["label", "x"], sort=False)["top1"].agg(["mean", "min", "max"])
    over = over.reset_index()
    with drawing():
        figure, axes = _alone(panels[0]) if len(panels) == 1 else _many(panels)
        for ax, panel in zip(axes, panels, strict=False):
            if not math.isnan(teacher):
                ax.axhline(teacher, zorder=1, **TEACHER)
            _lines(ax, over[over["label"].isin(panel)], panel, styles)
            _scales(ax, data, axis, teacher, narrow=len(panels) > 1)
            handles = [handle(styles[label], short(label)) for label in panel]
            if not math.isnan(teacher):
                handles.append(Line2D([], [], label="teacher", **TEACHER))
            if len(panels) == 1:
                columns = legend_columns([str(h.get_label()) for h in handles])
                figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=2.6)
            else:
                ax.legend(
                    handles=handles, loc="lower left", bbox_to_anchor=(-0.12, 1.01), fontsize=7.5,
                    handlelength=2.4, labelspacing=0.2, borderpad=0,
                )  # fmt: skip
        if len(panels) > 1:
            figure.supxlabel(axes[0].get_xlabel(), size=9.5)
            figure.supylabel(axes[0].get_ylabel(), size=9.5)
            for i, ax in enumerate(axes):
                ax.set(xlabel="", ylabel="")
                ax.tick_params(labelleft=i % 2 == 0)
    return figure


def _alone(panel: Sequence[str]) -> tuple[Figure, list[Any]]:
    names = [short(label) for label in panel]
    rows = math.ceil((len(panel) + 1) / legend_columns([*names, "teacher"]))
    figure = Figure(figsize=(WIDTH, 3.15 + 0.22 * rows), layout="constrained")
    return figure, [figure.subplots()]


def _many(panels: Sequence[Sequence[str]]) -> tuple[Figure, list[Any]]:
    """Two a line; each has its legend on top."""
    lines = math.ceil(len(panels) / 2)
    legends = [max(len(p) + 1 for p in panels[2 * i : 2 * i + 2]) for i in range(lines)]
    height = 0.35 + sum(1.75 + 0.15 * n for n in legends)
    apart = ConstrainedLayoutEngine(w_pad=0.08)  # labels at the ends of two axes do not meet
    figure = Figure(figsize=(WIDTH, height), layout=apart)
    axes = [figure.add_subplot(lines, 2, i + 1) for i in range(len(panels))]
    return figure, axes


def _lines(ax: Any, over: pd.DataFrame, panel: Sequence[str], styles: Mapping[str, Style]) -> None:
    sns.lineplot(
        over,
        x="x",
        y="mean",
        hue="label",
        style="label",
        hue_order=panel,
        style_order=panel,
        palette={label: styles[label].colour for label in panel},
        dashes={label: styles[label].dash or "" for label in panel},
        errorbar=None,
        estimator=None,
        legend=False,
        ax=ax,
    )
    for label in panel:
        run, style = over[over["label"] == label], styles[label]
        if (run["max"] > run["min"]).any():
            ax.fill_between(run["x"], run["min"], run["max"], color=style.colour, alpha=0.18, linewidth=0)
        every = run.iloc[:: -max(1, math.ceil(len(run) / 6))]  # a few markers, the last on the last point
        ax.plot(
            every["x"], every["mean"], linestyle="", marker=style.marker, color=style.colour, markersize=4.2,
            zorder=3,
        )  # fmt: skip


def _scales(ax: Any, data: pd.DataFrame, axis: str, teacher: float, narrow: bool) -> None:
    ends = data.groupby("label")["x"].max()
    if ends.max() > 5 * ends.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=4 if narrow else 7))
        ax.xaxis.set_minor_formatter(NullFormatter())
        axis += ", log scale"
        ax.set_xlim(right=1.05 * float(ends.max()), left=float(data[data["x"] > 0]["x"].min()) / 1.05)
    else:
        ax.set_xlim(0, 1.02 * float(ends.max()))
        ax.xaxis.set_major_locator(MaxNLocator(3 if narrow else 6))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
    # The early climb of every method looks alike; the axis starts below all that happens later.
    later = data[data["x"] >= 0.3 * data.groupby("label")["x"].transform("max")]["top1"]
    low = max(0.0, 5 * math.floor((float(later.min()) - 3) / 5))
    high = max(float(data["top1"].max()), -math.inf if math.isnan(teacher) else teacher)
    ax.set_ylim(low, min(101, high + 0.04 * (high - low) + 0.2))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.set(xlabel=axis, ylabel="test accuracy, top-1 (%)")
