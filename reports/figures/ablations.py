"""Figures of ablations: rows against their base, depth of CFE, settings alone and crossed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

import pandas as pd

from reports.figures import bars, canvas, maps
from reports.figures.places import Picture, Place
from reports.figures.sweeps import alone, depth
from reports.numbers import sweeps
from reports.numbers.rows import cell_of, records

#: settings drawn alone, one panel each
_PANELS = 8


def draw(place: Place, paired: pd.DataFrame | None) -> Iterator[Picture]:
    """The figures of one place, none where its rows vary nothing.

    Args:
        place: where.
        paired: of `reports.numbers.contrasts.paired`, or None.
    """
    if paired is not None:
        yield from _differences(place, paired)
    yield from _depths(place)
    crosses = sweeps.crosses(place.rows)
    yield from _crosses(place, crosses)
    yield from _alone(place, sweeps.sweeps(place.rows, crosses))


def _differences(place: Place, paired: pd.DataFrame) -> Iterator[Picture]:
    rows = [row for row in records(paired) if not math.isnan(row["difference"])]
    rows = [row for row in rows if cell_of(row) == place.key]
    bases = Counter(str(row["against"]) for row in rows)
    groups: dict[str, list[bars.Difference]] = {}
    for row in rows:
        label, base = str(row["row"]), str(row["against"])
        own = label.startswith(f"{base}: ")
        alone = own and bases[base] == 1  # a heading a line would say everything twice
        heading = "minus the row before the colon" if alone else f"minus {base}"
        name = label.removeprefix(f"{base}: ") if own and not alone else label
        found = bars.Difference(label, float(row["difference"]), float(row["half_seeds"]), name)
        groups.setdefault(heading, []).append(found)
    every = [row for rows in groups.values() for row in rows]
    if not every:
        return
    terms = [row for row in every if row.label.startswith("- ") or row.label.startswith("bare + ")]
    title = "What each row differs by from its base"
    if 2 * len(terms) >= len(every):
        title = "What each loss term gives"
        groups = {heading: sorted(rows, key=lambda row: row.value) for heading, rows in groups.items()}
    caption = "Mean over pairs of equal seeds, in points of top-1, with its paired 95 % t-interval"
    caption += "." if any(not math.isnan(row.half) for row in every) else ": none for a single pair."
    if bars.reach_of(every).cut:
        caption += " An interval that leaves the picture is cut; its number stands beside it."
    yield place.picture("differences", title, caption, bars.differences(groups, place.styles))


def _depths(place: Place) -> Iterator[Picture]:
    for i, choices in enumerate(sweeps.depths(place.rows)):
        caption = (
            "A point a choice of the generator's four norms (0 follows the first linear layer, 3 is the last "
            "before the image): mean and 95 % t-interval over seeds. Line: mean over choices of one depth."
        ) + canvas.cut([point.top1 for _, point in choices])
        figure = depth(choices, place.teacher)
        yield place.picture(_numbered("depth", i), "Depth of Categorical Feature Embedding", caption, figure)


def _crosses(place: Place, crosses: Sequence[sweeps.Cross]) -> Iterator[Picture]:
    for i, cross in enumerate(crosses):
        means = {at: top1.mean for at, top1 in cross.top1.items() if not math.isnan(top1.mean)}
        if len(means) < sweeps.FIELDS:
            continue
        empty = len(cross.rows) * len(cross.columns) - len(means)
        caption = f"{cross.method}: mean top-1 over seeds, in percent; all other settings equal."
        caption += f" {empty} combinations have no result." if empty else ""
        figure = maps.heat((cross.x, cross.columns), (cross.y, cross.rows), means)
        yield place.picture(_numbered("map", i), f"Top-1 over {cross.y} and {cross.x}", caption, figure)


def _alone(place: Place, found: Sequence[sweeps.Sweep]) -> Iterator[Picture]:
    if not found:
        return
    panels = [(_title(sweep, found), sweep.points) for sweep in found[:_PANELS]]
    caption = "One setting at a time, all others equal: mean and 95 % t-interval over seeds."
    if len(found) > _PANELS:
        caption += f" {_PANELS} of {len(found)} settings."
    caption += canvas.cut([point.top1 for _, points in panels for point in points])
    yield place.picture("settings", "Top-1 along a setting", caption, alone(panels))


def _title(sweep: sweeps.Sweep, every: Sequence[sweeps.Sweep]) -> str:
    """The setting; with its method, or what tells it from another sweep of it, where there are several."""
    title = sweep.setting
    if len({other.method for other in every}) > 1:
        title = f"{sweep.method}: {title}"
    twins = [o for o in every if (o.method, o.setting) == (sweep.method, sweep.setting)]
    own = [k for k, v in sweep.others.items() if any(o.others.get(k, v) != v for o in twins)]
    return title + (f" ({', '.join(f'{k}={sweep.others[k]}' for k in own)})" if own else "")


def _numbered(name: str, i: int) -> str:
    return f"{name}{i + 1}" if i else name
