"""Rows of a grid against one another, seed by seed: differences, intervals, a verdict in words.

`paired` gives the numbers (``contrasts.csv`` is exactly that); `reports.tables.contrasts` lays them out for
people.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.numbers import stats
from reports.numbers.rows import PAIR, Arrays, by_seed, homes, once, records, says

_COLUMNS = (
    *("task", "teacher", "student", "teacher_digest", "data_digest", "row", "against", "pairs", "asked"),
    *("top1_row", "top1_against", "difference", "half_seeds", "half_joint", "resolution", "verdict"),
    *("missing", "unavailable"),
)


@dataclass
class _Pairs:
    """Trials of two rows with one teacher file and data: ``done`` in pairs, ``gaps`` (reason, seed)."""

    done: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)
    gaps: list[tuple[str, str]] = field(default_factory=list)
    asked: int = 0


def paired(frame: pd.DataFrame, contrasts: Mapping[str, str], predictions: Arrays) -> pd.DataFrame:
    """One row per (task, pair, teacher file, contrast), in the order of frame and contrasts.

    Args:
        frame: one row a trial, as `harness.store.frame.frame` makes it.
        contrasts: row label -> label of the row it is measured against.
        predictions: trial id -> ``y`` and ``s`` of its ``predictions.npz``, or None.

    Returns:
        ``pairs``: trials of equal teacher seed and seed, both done and not stale, out of ``asked``; over
        them ``top1_row`` and ``top1_against`` in percent, ``difference`` in points, ``half_seeds``
        (95 % t-interval over seeds), ``half_joint`` (seeds and test images, `reports.numbers.stats.crossed`)
        and
        ``resolution`` (images alone). NaN where there is none. ``verdict``: "lower" or "higher"; "not shown
        at n = N" where the joint interval holds 0; "below resolution" where the difference is less than the
        test set can tell; or why there is none. ``missing``: why pairs lack; ``unavailable``: why
        predictions do.
    """
    rows = records(once(frame))
    places: dict[tuple[str, ...], dict[str, dict[tuple[int, int], dict[str, Any]]]] = {}
    for row, (teacher, data, _) in zip(rows, homes(rows), strict=True):
        place = places.setdefault(tuple(str(row[name]) for name in PAIR), {})
        seeds = (int(row["teacher_seed"]), int(row["seed"]))
        place.setdefault(str(row["variant"]), {})[seeds] = row | {"home": (teacher, data)}
    read = cache(predictions)
    made = [
        dict(zip(PAIR, place, strict=True))
        | {"teacher_digest": home[0], "data_digest": home[1], "row": label, "against": base}
        | _measure(pairs, read)
        for place, known in places.items()
        for label, base in contrasts.items()
        for home, pairs in _match(label, known.get(label, {}), base, known.get(base, {})).items()
    ]
    return pd.DataFrame(made, columns=list(_COLUMNS))


def _match(
    label: str,
    mine: Mapping[tuple[int, int], dict[str, Any]],
    base: str,
    theirs: Mapping[tuple[int, int], dict[str, Any]],
) -> dict[tuple[str, str], _Pairs]:
    """(teacher digest, data digest) -> pairs; one that lacks goes where its standing half is."""
    found: dict[tuple[str, str], _Pairs] = {}
    for seeds in sorted({*mine, *theirs}):
        one, two = mine.get(seeds), theirs.get(seeds)
        gaps = [f"{name}: {why}" for name, side in ((label, one), (base, two)) if (why := _lacks(side))]
        standing = next((side for side in (one, two) if not _lacks(side)), None) or one or two
        assert standing is not None
        if one and two and not gaps and one["home"] != two["home"]:
            gaps = ["another teacher file or other data"]
        group = found.setdefault(standing["home"], _Pairs())
        group.asked += one is not None and two is not None
        group.gaps += [(gap, str(seeds[1])) for gap in gaps]
        if one and two and not gaps:
            group.done.append((one, two))
    return found


def _lacks(trial: Mapping[str, Any] | None) -> str:
    """Why a trial cannot stand in a pair, or an empty text."""
    if trial is None:
        return "no such seed in the grid"
    if trial["status"] != "done":
        return says(str(trial["status"]), str(trial["reason"]))
    return f"stale: {trial['stale']}" if trial["stale"] else ""


def _measure(pairs: _Pairs, predictions: Arrays) -> dict[str, Any]:
    ours, theirs = ([float(sides[i]["top1"]) for sides in pairs.done] for i in (0, 1))
    seeds = stats.interval([a - b for a, b in zip(ours, theirs, strict=True)])
    joint, unavailable = stats.Crossed(math.nan, math.nan, math.nan), ""
    if pairs.done:
        d = _outcomes(pairs, predictions)
        joint, unavailable = (joint, d) if isinstance(d, str) else (stats.crossed(d), "")
    return {
        "pairs": len(pairs.done),
        "asked": pairs.asked,
        "top1_row": stats.interval(ours).mean,
        "top1_against": stats.interval(theirs).mean,
        "difference": seeds.mean,
        "half_seeds": seeds.half,
        "half_joint": joint.half,
        "resolution": joint.images,
        "verdict": verdict(len(pairs.done), seeds.mean, joint),
        "missing": by_seed(pairs.gaps),
        "unavailable": unavailable,
    }


def _outcomes(pairs: _Pairs, predictions: Arrays) -> NDArray[np.float64] | str:
    """(pairs, images) of 100 where the row alone is right, -100 where its base alone is; or why not."""
    rows, lacking = [], 0
    labels = None
    for one, two in pairs.done:
        found = [p for side in (one, two) if (p := predictions(str(side["id"]))) is not None]
        if len(found) < 2:
            lacking += 1
            continue
        labels = found[0]["y"] if labels is None else labels
        if not all(np.array_equal(p["y"], labels) for p in found):
            return "predictions are of different test images"
        right = [p["s"] == labels for p in found]
        rows.append(100.0 * (right[0].astype(np.float64) - right[1]))
    if lacking:
        return f"{lacking} of {len(pairs.done)} pairs have no predictions.npz"
    return np.stack(rows)


def verdict(n: int, difference: float, joint: stats.Crossed) -> str:
    """What n pairs show, in words; see `paired`."""
    if n < 2:
        return f"not testable at n = {n}"
    if math.isnan(joint.half):
        return "not testable without predictions"
    if abs(difference) < joint.images:
        return "below resolution"
    if abs(difference) <= joint.half:
        return f"not shown at n = {n}"
    return "higher" if difference > 0 else "lower"
