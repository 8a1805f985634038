"""Which figures a report has: what is measured, per (task, pair, teacher file), and over all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.figures import ablations, canvas, features
from reports.figures.bars import Bar, bars
from reports.figures.curves import learning_curves
from reports.figures.places import Picture, Place, kind, places_of
from reports.figures.ranks import Dot, cost, rank_diagram
from reports.figures.samples import Strip, sample_grid
from reports.figures.style import Style
from reports.numbers.findings import Findings
from reports.numbers.ranking import Ranking
from reports.numbers.rows import Arrays, Row, Runs, cell_of, gathered, labels, records, tiles, together
from reports.numbers.stats import Interval
from reports.numbers.sweeps import top1

#: a sample grid shows at most so many classes, spread evenly, and of each so many images
COLUMNS = 20
PER_CLASS = 2
#: bytes that the sample grids of a report may take together, as far as ten classes of each row leave a choice
BYTES = 3_000_000
#: points of a learning curve, evenly spread
CURVE = 50
#: rows of a figure; beyond them the best are drawn and the caption counts the others
MOST = 24
#: lines of one panel of learning curves; more than `CROWD` are spread over panels of at most `PANEL`
CROWD, PANEL = 13, 6

_AXES = {
    "updates": ("student_updates", 1.0, "student updates"),
    "cost": ("flops", 1e-12, "cost (TFLOP)"),
}


def draw(
    frame: pd.DataFrame,
    curves: pd.DataFrame,
    samples: Arrays,
    found: Findings,
    predictions: Arrays = lambda id: None,
) -> Iterator[Picture]:
    """Every figure of a report that says something.

    Args:
        frame: one row a trial, as `harness.store.frame.frame` makes it.
        curves: one row a point, as `harness.store.frame.curves` makes it.
        samples: trial id -> arrays of its ``samples.npz``, or None.
        found: of `reports.numbers.findings.work_out` for this frame.
        predictions: trial id -> arrays of its ``predictions.npz``, or None.
    """
    runs, every = Runs(curves), places_of(frame)
    clouds = features.clouds(every, samples)
    for place in every:
        shown, beyond = _best(place)
        yield from _bars(place, shown, beyond)
        yield from _curves(place, shown, beyond, runs)
        yield from _cost(place, found.table, shown, beyond)
        yield from ablations.draw(place, found.paired)
        yield from _samples(place, shown, beyond, samples, BYTES // len(every))
        if clouds and clouds.block == place.block and clouds.file == place.file:
            yield clouds
        yield from features.confusion(place, predictions)
    if every:
        yield from ranks(found.ranking, every[0].styles)


def _best(place: Place) -> tuple[list[Row], str]:
    """Rows that a figure shows, in the table's order, and a sentence on the others."""
    own = [row for row in place.rows if kind(row) == "method"]
    room = max(MOST - (len(place.rows) - len(own)), PANEL)
    kept = sorted(own, key=lambda row: -_mean(row))[:room]
    shown = [row for row in place.rows if kind(row) != "method" or any(row is k for k in kept)]
    left = len(place.rows) - len(shown)
    return shown, f" The {len(kept)} best rows of {len(own)}." if left else ""


def _mean(row: Row) -> float:
    mean = top1(row).mean
    return -math.inf if math.isnan(mean) else mean


def _bars(place: Place, shown: Sequence[Row], beyond: str) -> Iterator[Picture]:
    rows = [
        Bar(row.label, kind(row), top1(row), tuple(float(v) for v in row.done["top1"] if not math.isnan(v)))
        for row in shown
        if not math.isnan(top1(row).mean)
    ]
    if len(rows) > 1:
        chance = 100 / place.classes
        figure = bars(rows, place.styles, place.teacher, chance)
        caption = "Mean over seeds at the last point, in figures on the right; no interval for a single seed."
        short = [f"{r.label} ({len(r.ids)} of {r.declared})" for r in shown if len(r.ids) < r.declared]
        caption += f" Not all seeds ran: {', '.join(short)}." if short else ""
        yield place.picture("bars", "Top-1 by row", caption + beyond, figure)


def _curves(place: Place, shown: Sequence[Row], beyond: str, runs: Runs) -> Iterator[Picture]:
    caption = "Line: mean over seeds; band: lowest to highest seed. References grey, controls brown, dashed."
    panels = _panels(place, shown)
    for name, (column, scale, axis) in _AXES.items():
        data = _long(shown, runs, column, scale)
        if not data.empty:
            figure = learning_curves(data, place.styles, axis, place.teacher, panels)
            yield place.picture(f"curves-{name}", f"Learning curves against {axis}", caption + beyond, figure)


def _panels(place: Place, shown: Sequence[Row]) -> list[list[str]]:
    """Rows of one method together as far as they fit, none of more than `PANEL`; one panel for a few."""
    names = {row.label for row in shown}
    if len(names) <= CROWD:
        return [[n for n in place.styles if n in names]]
    own_method = [row.of("method") if kind(row) == "method" else "" for row in shown]
    families = gathered(zip(own_method, (row.label for row in shown), strict=True))
    panels: list[list[str]] = []
    given = False
    for own, family in families.items():
        for part in [family[i : i + PANEL] for i in range(0, len(family), PANEL)]:
            if panels and own and not given and len(panels[-1]) + len(part) <= PANEL:
                panels[-1] += part
            else:
                panels.append(list(part))
            given = not own
    return panels


def _long(rows: Sequence[Row], curves: Runs, column: str, scale: float) -> pd.DataFrame:
    parts = []
    for row in rows:
        found = together(curves, row.ids, [column, "top1"])
        if found:
            points = found["top1"].shape[1]
            kept = np.arange(points)[:: -math.ceil(points / CURVE)][::-1]  # the last point is always there
            top1s = pd.DataFrame(found["top1"][:, kept], columns=scale * found[column][:, kept].mean(axis=0))
            long = top1s.T.melt(var_name="seed", value_name="top1", ignore_index=False)
            parts.append(long.rename_axis("x").reset_index().assign(label=row.label))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _cost(place: Place, table: pd.DataFrame, shown: Sequence[Row], beyond: str) -> Iterator[Picture]:
    """Accuracy against cost, where costs differ by a tenth or more."""
    names = {row.label for row in shown}
    dots = [
        Dot(row["label"], Interval(row["top1"], row["top1_half"], row["top1_n"]),
                   row["flops"] / 1e12, bool(row["pareto"]))
        for row in _standing(table, place)
        if row["label"] in names and row["flops"] > 0 and not math.isnan(row["top1"])
    ]  # fmt: skip
    costs = [dot.tflop for dot in dots]
    if len(dots) > 2 and max(costs) > 1.1 * min(costs):
        caption = (
            "Mean and 95 % t-interval over seeds. On the front, and outlined: data-free rows and controls "
            "than which none is both cheaper and better; references and rows with failed seeds are not "
            "compared."
        ) + canvas.cut([dot.top1 for dot in dots])
        figure = cost(dots, place.styles, place.teacher)
        yield place.picture("pareto", "Accuracy against cost", caption + beyond, figure)


def _standing(table: pd.DataFrame, place: Place) -> list[dict[str, Any]]:
    """Rows of the main table that belong to a place and stand."""
    return [row for row in records(table) if not row["stale"] and cell_of(row) == place.key]


def _samples(
    place: Place, shown: Sequence[Row], beyond: str, samples: Arrays, room: int
) -> Iterator[Picture]:
    """The sample grid: of each method, the images of its first seed that has any."""
    made, without, k = [], [], 0 if math.isnan(place.classes) else int(place.classes)
    found = {}
    for row in shown:
        ids = row.done.sort_values("seed")["id"]
        arrays = next((a for id in ids if (a := samples(str(id))) is not None and len(a["images"])), None)
        if arrays is None:
            without.append(row.label)
        else:  # 2,000 images of every row would be gigabytes
            found[row.label] = {name: arrays[name] for name in ("images", "y", "t")}
            k = max(k, int(labels(arrays).max()) + 1) if math.isnan(place.classes) else k
    if not found:
        return
    columns, per_class = _size(found, k, room)
    wanted = sorted({round(i) for i in np.linspace(0, k - 1, columns)})
    for label, arrays in found.items():
        by = "by label asked" if (arrays["y"] >= 0).any() else "by the teacher's label"
        made.append(Strip(label, by, tiles(arrays, wanted, per_class)))
    elsewhere = [strip.label for strip in made if not any(strip.tiles)]
    made = [strip for strip in made if any(strip.tiles)]
    if not made:
        return
    caption = (
        "What the student was trained on at the end, first seed. Columns are classes: the label asked for, "
        "or the teacher's decision where a method asks for none; “none”: no such image among the samples."
    )
    if k > len(wanted):
        caption += f" {len(wanted)} of {k} classes."
    if elsewhere:
        caption += f" No image of these classes: {', '.join(elsewhere)}."
    if without:
        caption += f" No images of its own: {', '.join(without)}."
    figure = sample_grid(made, wanted, per_class)
    yield place.picture("samples", "Samples, same labels for all", caption + beyond, figure)


def _size(found: Mapping[str, Mapping[str, NDArray[Any]]], k: int, room: int) -> tuple[int, int]:
    """Columns, and images of a class, so that a sample grid takes about ``room`` bytes and a screen."""
    height, width = next(iter(found.values()))["images"].shape[-2:]
    each = room / (len(found) * 2 * height * width)  # a byte a pixel, and what base64 and magnifying add
    per_class = PER_CLASS if len(found) <= CROWD and each >= PER_CLASS * min(k, COLUMNS) else 1
    return min(k, COLUMNS, max(10, int(each // per_class))), per_class


def ranks(ranking: Ranking, styles: Mapping[str, Style]) -> Iterator[Picture]:
    """The critical-difference diagram over all cells; without a test it says so.

    Args:
        ranking: of `reports.numbers.ranking.ranks`; of one cell, or fewer than three rows, there is none.
        styles: label -> how to draw it.
    """
    n = len(ranking.cells)
    if n < 2 or len(ranking.names) < 3:
        return
    names, means = ranking.names[:MOST], ranking.mean_ranks[:MOST]
    groups = [(a, min(b, len(names) - 1)) for a, b in ranking.groups if a < len(names) - 1]
    title, reason = "Mean ranks and critical difference", ""
    caption = (
        f"Mean rank over {n} cells (task, pair, teacher file); rows joined by a bar are not told apart "
        "(Friedman, Nemenyi, 5 %)."
    )
    if ranking.reason:
        title, reason = "Mean ranks", f"not testable at n = {n}"
        caption = f"Mean rank over {n} cells. Not testable at n = {n}: {ranking.reason}."
    if len(ranking.names) > MOST:
        caption += f" The {MOST} best rows of {len(ranking.names)}."
    figure = rank_diagram(names, means, ranking.cd, groups, styles, reason)
    yield Picture("ranks", "across", "", title, caption, canvas.svg(figure, "ranks"))
