"""Figures of a report: learning curves and sample grids. The home of seaborn and matplotlib.

Each function returns a `matplotlib.figure.Figure`; nothing touches pyplot's own state. `svg` writes one as
text, the same bytes for the same figure, and `themed` turns its colours into the page's CSS variables.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from reports.look import RC, THEME, WIDTH, Style

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def learning_curves(
    data: pd.DataFrame, styles: Mapping[str, Style], axis: str, teacher: float = math.nan
) -> Figure:
    """Accuracy over training: a line per row of the table, a band from the lowest to the highest seed.

    Args:
        data: long: ``label``, ``seed``, ``x`` and ``top1`` (percent); the seeds of a label share ``x``.
        styles: label -> how to draw it, in the order of the legend.
        axis: what ``x`` is, with its unit.
        teacher: accuracy to mark, or NaN.
    """
    shown = [label for label in styles if (data["label"] == label).any()]
    with _drawing():
        names = {label: _short(label) for label in shown}
        columns = _legend_columns([*names.values(), "teacher"])
        rows = math.ceil((len(shown) + 1) / columns)
        figure = Figure(figsize=(WIDTH, 3.15 + 0.22 * rows), layout="constrained")
        ax = figure.subplots()
        if not math.isnan(teacher):
            ax.axhline(teacher, color=_MUTED, linewidth=1, linestyle=(0, (1, 2)), zorder=1)
        # Seaborn would take the same mean and band, point by point, in a hundred times the time.
        over = data[data["x"] > 0].groupby(["label", "x"], sort=False)["top1"].agg(["mean", "min", "max"])
        over = over.reset_index()
        sns.lineplot(
            over,
            x="x",
            y="mean",
            hue="label",
            style="label",
            hue_order=shown,
            style_order=shown,
            palette={label: styles[label].colour for label in shown},
            dashes={label: styles[label].dash or "" for label in shown},
            errorbar=None,
            estimator=None,
            legend=False,
            ax=ax,
        )
        for label in shown:
            run, style = over[over["label"] == label], styles[label]
            ax.fill_between(run["x"], run["min"], run["max"], color=style.colour, alpha=0.18, linewidth=0)
            _marks(ax, data[data["label"] == label], style)
        _scales(ax, data, axis, teacher)
        handles = [_handle(styles[label], names[label]) for label in shown]
        if not math.isnan(teacher):
            handles.append(Line2D([], [], color=_MUTED, linewidth=1, linestyle=(0, (1, 2)), label="teacher"))
        figure.legend(handles=handles, loc="outside lower left", ncols=columns, handlelength=2.6)
    return figure


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
    with _drawing():
        figure = Figure(figsize=(WIDTH, height))
        size = 8.0 if tile > 0.3 else 6.5
        for column, k in enumerate(classes):
            x = (column + 0.5) * tile / WIDTH
            figure.text(x, 1 - 0.14 / height, str(k), ha="center", va="center", size=size, color=_MUTED)
        for i, strip in enumerate(strips):
            top = height - 0.25 - i * strip_height
            y, right = (top - 0.13) / height, max(len(classes) * tile, 3.4) / WIDTH
            figure.text(0, y, _short(strip.label, 44), ha="left", va="center", size=9.5, color=_INK)
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


def png(figure: Figure, dpi: int = 150) -> bytes:
    """The figure as PNG on the light theme's paper."""
    buffer = io.BytesIO()
    with _drawing():
        figure.savefig(
            buffer, format="png", dpi=dpi, facecolor=THEME["paper"][0], metadata={"Software": None}
        )
    return buffer.getvalue()


def svg(figure: Figure, name: str) -> str:
    """The figure as an SVG document in light colours; ``name`` makes its ids unique within a page."""
    buffer = io.StringIO()
    with _drawing(**{"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", buffer.getvalue(), flags=re.DOTALL)
    for before in (' id="', '"#', "url(#"):
        text = text.replace(before, f"{before}{name}-")
    seen = Counter[str]()

    def once(id: re.Match[str]) -> str:  # equal drawings have equal ids; a reference means the first
        seen[id[1]] += 1
        return id[0] if seen[id[1]] == 1 else f' id="{id[1]}-{seen[id[1]]}"'

    return re.sub(r' id="([^"]+)"', once, text)


def themed(svg: str, title: str) -> str:
    """An SVG document as an element of the page, its colours the page's variables."""
    text = svg[svg.index("<svg") :]
    for name, (light, _) in THEME.items():
        text = text.replace(light, f"var(--{name})")
    width, height = (float(v) for v in re.findall(r'viewBox="0 0 (\S+) (\S+)"', text)[0])
    text = re.sub(r'<svg(.*?) width="\S+pt" height="\S+pt"', r"<svg\1", text, count=1)
    safe = title.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace(
        "<svg", f'<svg role="img" aria-label="{safe}" style="aspect-ratio:{width:g}/{height:g}"', 1
    )


@contextmanager
def _drawing(**more: Any) -> Iterator[None]:
    with matplotlib.rc_context(RC | more), warnings.catch_warnings():
        # The reader's browser has the letters that the layout's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _marks(ax: Any, data: pd.DataFrame, style: Style) -> None:
    """A few markers along the mean, the last one on the last point."""
    mean = data.groupby("x")["top1"].mean()
    every = mean.iloc[:: -max(1, math.ceil(len(mean) / 6))]
    every = every[every.index > 0]
    ax.plot(
        every.index, every, linestyle="", marker=style.marker, color=style.colour, markersize=4.2, zorder=3
    )


def _handle(style: Style, name: str) -> Line2D:
    return Line2D(
        [], [], color=style.colour, linestyle=(0, style.dash) if style.dash else "-", marker=style.marker,
        markersize=4.2, label=name,
    )  # fmt: skip


def _scales(ax: Any, data: pd.DataFrame, axis: str, teacher: float) -> None:
    ends = data.groupby("label")["x"].max()
    if ends.max() > 5 * ends.min():
        ax.set_xscale("log")
        ax.xaxis.set_major_locator(LogLocator(numticks=7))
        ax.xaxis.set_minor_formatter(NullFormatter())
        axis += ", log scale"
    else:
        ax.set_xlim(left=0)
        ax.xaxis.set_major_locator(MaxNLocator(6))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.10g}"))
    # The early climb of every method looks alike; the axis starts below all that happens later.
    later = data[data["x"] >= 0.3 * data.groupby("label")["x"].transform("max")]["top1"]
    low = max(0.0, 5 * math.floor((float(later.min()) - 3) / 5))
    high = max(float(data["top1"].max()), -math.inf if math.isnan(teacher) else teacher)
    ax.set_ylim(low, min(101, high + 0.04 * (high - low) + 0.2))
    ax.yaxis.set_major_locator(MaxNLocator(6))
    ax.set(xlabel=axis, ylabel="test accuracy, top-1 (%)")


def _mosaic(strip: Strip, per_class: int) -> NDArray[np.uint8]:
    """(H, W, 4) the strip as one picture, transparent between tiles and where an image is missing."""
    known = next(image for images in strip.tiles for image in images)
    zoom = max(1, math.ceil(40 / known.shape[-1]))  # viewers smooth small pictures
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


def _short(label: str, most: int = 26) -> str:
    """A name fit for a picture: printable, not too long, and shown by matplotlib as it stands."""
    text = "".join(c if c.isprintable() else " " for c in label)
    text = text if len(text) <= most else text[: most - 1] + "…"
    return f"\u200b{text}" if text.startswith("_") else text  # a leading underscore hides a legend's entry


def _legend_columns(names: Sequence[str]) -> int:
    """As many columns as fit the width, at about 0.075 inch a letter and 0.6 inch a handle."""
    for columns in (4, 3, 2):
        rows = math.ceil(len(names) / columns)
        longest = [max(map(len, names[i : i + rows])) for i in range(0, len(names), rows)]
        if sum(0.6 + 0.075 * letters for letters in longest) <= WIDTH:
            return columns
    return 1
