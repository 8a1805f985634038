"""Rows against one another over all cells of a grid: paired tests with Holm, mean ranks, critical difference.

`comparisons` gives the tests (``comparisons.csv`` is exactly that), `ranks` what a critical-difference
diagram needs; `reports.tables.ranking` lays them out for people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from reports.numbers import stats, tests
from reports.numbers.rows import SAME, Row, cell_of, records, rows_of

_COLUMNS = (
    *("row", "against", "pairs", "asked", "cells", "top1_row", "top1_against", "difference", "half"),
    *("effect", "differing", "p", "p_smallest", "p_holm", "p_holm_smallest", "family", "verdict"),
)
_NAMED = ("task", "teacher", "student", "teacher_seed", "seed", "status", "top1", "data_digest")
#: what two trials must share to be a pair: task, teacher, student, teacher file, data, teacher seed, seed
_Unit = tuple[str, str, str, str, str, int, int]


@dataclass(frozen=True)
class Ranking:
    """Rows ranked in every cell, best first: the data of a critical-difference diagram.

    Attributes:
        names: labels of the rows, by mean rank, the best first; ties in the table's order.
        mean_ranks: of each over the cells; 1 is best.
        cells: (task, teacher, student, teacher file) of each.
        cd: mean ranks further apart than this differ (Nemenyi, 5 %); NaN where ``reason`` says why not.
        groups: places (first, last) in ``names`` of the longest runs of rows that cannot be told apart, two
            or more each; all of them where Friedman's test shows no difference at all. Empty without ``cd``.
        statistic, p: of Friedman's test; NaN without it.
        reason: why there is no test, "" where there is one.
        left_out: rows that do not stand in every cell -> why.
    """

    names: tuple[str, ...]
    mean_ranks: tuple[float, ...]
    cells: tuple[tuple[str, ...], ...]
    cd: float = math.nan
    groups: tuple[tuple[int, int], ...] = ()
    statistic: float = math.nan
    p: float = math.nan
    reason: str = ""
    left_out: dict[str, str] = field(default_factory=dict)


def comparisons(frame: pd.DataFrame, family: Sequence[tuple[str, str]] | None = None) -> pd.DataFrame:
    """Paired tests on top-1 at the last point, over every task, pair, teacher file and seed of the frame.

    Args:
        frame: one row a trial, as `harness.store.frame.frame` makes it.
        family: (row, the row it is measured against), which are then tested and nothing else; None for
            `every_two`.

    Returns:
        One row a comparison. ``pairs``: trials of equal seeds, teacher and data files, both done and not
        stale, out of ``asked``, in ``cells`` cells (`reports.numbers.rows.CELL`); over them the means,
        ``difference`` (row minus against, in points) and ``half`` of its 95 % t-interval; ``effect``,
        Hedges' g of the pairs (`reports.numbers.tests.effect`); ``p`` of the signed-rank test, ``p_smallest``
        that the ``differing`` pairs could give; ``p_holm`` over the ``family``: those comparisons that could
        reach 0.05 by themselves (the others can reject nothing, Tarone 1990); ``p_holm_smallest`` if every
        one of them came out as clear as it can. ``verdict``: "higher", "lower", "not shown at n = N",
        "not testable at n = N", "equal in every pair", "no pair", or "ranks and mean disagree" where p is
        small and one large difference has turned the mean.
    """
    rows = rows_of(frame)
    named = names(rows)
    values, asked = _units(rows, named)
    chosen = every_two(rows, named) if family is None else dict.fromkeys(family)
    compared = [_compare(row, base, values, asked) for row, base in chosen]
    tested = [each for each in compared if each["p_smallest"] <= tests.ALPHA]
    for name, adjusted in (("p", "p_holm"), ("p_smallest", "p_holm_smallest")):
        for each, p in zip(tested, tests.holm([each[name] for each in tested]), strict=True):
            each[adjusted] = p
    for each in compared:
        each["family"] = len(tested)
        each["verdict"] = _verdict(each)
    return pd.DataFrame(compared, columns=list(_COLUMNS))


def every_two(rows: Sequence[Row], named: Sequence[str]) -> list[tuple[str, str]]:
    """Every two rows that are data-free, no control and not the same trials under two names."""
    trials: dict[str, set[str]] = {}
    for row, name in zip(rows, named, strict=True):
        if not (row.flag("reference") or row.flag("control")):
            trials.setdefault(name, set()).update(row.trials["id"])
    own: dict[tuple[str, ...], str] = {}
    for name, ids in trials.items():
        own.setdefault(tuple(sorted(ids)), name)
    return list(combinations(own.values(), 2))


def names(rows: Sequence[Row]) -> list[str]:
    """Of each row: the variant, or the label that tells it from another one of the same variant."""
    kinds: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for row in rows:
        key = tuple(map(row.of, SAME))
        kinds.setdefault(key[:4], set()).add(key[4:])
    several = {place[3] for place, found in kinds.items() if len(found) > 1}
    return [row.label if row.of("variant") in several else row.of("variant") for row in rows]


def _units(
    rows: Sequence[Row], named: Sequence[str]
) -> tuple[dict[str, dict[_Unit, float]], dict[str, set[tuple[Any, ...]]]]:
    """Row -> its results by unit, and row -> (task, pair, seeds) it has a trial for, done or not."""
    values: dict[str, dict[_Unit, float]] = {}
    asked: dict[str, set[tuple[Any, ...]]] = {}
    for row, name in zip(rows, named, strict=True):
        mine, wanted = values.setdefault(name, {}), asked.setdefault(name, set())
        for t in records(row.trials[[n for n in _NAMED if n in row.trials]]):
            place = (str(t["task"]), str(t["teacher"]), str(t["student"]))
            seeds = (int(t["teacher_seed"]), int(t["seed"]))
            wanted.add((*place, *seeds))
            if t["status"] == "done" and not row.stale and not math.isnan(t["top1"]):
                mine[(*place, row.digest, str(t["data_digest"]), *seeds)] = float(t["top1"])
    return values, asked


def _compare(
    row: str, base: str, values: dict[str, dict[_Unit, float]], asked: dict[str, set[tuple[Any, ...]]]
) -> dict[str, Any]:
    ours, theirs = values.get(row, {}), values.get(base, {})
    units = [unit for unit in ours if unit in theirs]
    d = [ours[unit] - theirs[unit] for unit in units]
    over, test = stats.interval(d), tests.signed_rank(d)
    return {
        "row": row,
        "against": base,
        "pairs": len(d),
        "asked": len(asked.get(row, set()) & asked.get(base, set())),
        "cells": len({unit[:4] for unit in units}),
        "top1_row": stats.interval([ours[unit] for unit in units]).mean,
        "top1_against": stats.interval([theirs[unit] for unit in units]).mean,
        "difference": over.mean,
        "half": over.half,
        "effect": tests.effect(d),
        "differing": test.n,
        "way": test.way,
        "p": test.p if d else math.nan,
        "p_smallest": test.smallest if d else math.nan,
        "p_holm": math.nan,
        "p_holm_smallest": math.nan,
    }


def _verdict(row: dict[str, Any]) -> str:
    if not row["pairs"]:
        return "no pair"
    if not row["differing"]:
        return "equal in every pair"
    smallest = row["p_smallest"] if math.isnan(row["p_holm"]) else row["p_holm_smallest"]
    if smallest > tests.ALPHA:
        return f"not testable at n = {row['pairs']}"
    if row["p_holm"] > tests.ALPHA:
        return f"not shown at n = {row['pairs']}"
    if row["way"] * row["difference"] <= 0:
        return "ranks and mean disagree"
    return "higher" if row["difference"] > 0 else "lower"


def ranks(table: pd.DataFrame) -> Ranking:
    """Rank the data-free rows in every cell and test whether the ranks are chance.

    Args:
        table: of `reports.numbers.table.main`; a row is ranked in a cell if it has a ``rank`` there.

    Returns:
        Over the rows that are ranked in every cell and have trials of their own. No test for fewer than three
        rows, or fewer cells than could tell the first from the last (`reports.numbers.tests.cells_needed`).
    """
    known = [r for r in records(table) if not (r["reference"] or r["control"])]
    cells = list(dict.fromkeys(cell_of(r) for r in known if not math.isnan(r["rank"])))
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for r in known:
        mine = found.setdefault(r["label"], {})
        if not math.isnan(r["rank"]):
            mine[cell_of(r)] = r["top1"]
    twins = {label: {r["same_as"] for r in known if r["label"] == label} for label in found}
    rest = {label: f"the same trials as {of}" for label, (of, *more) in twins.items() if of and not more}
    rest |= {
        label: f"ranked in {len(mine)} of {len(cells)} cells"
        for label, mine in found.items()
        if label not in rest and len(mine) < len(cells)
    }
    whole = [label for label in found if cells and label not in rest]
    if not whole:
        return Ranking((), (), tuple(cells), reason="no row is ranked in every cell", left_out=rest)
    test = tests.friedman(np.array([[found[label][cell] for label in whole] for cell in cells]))
    order = sorted(range(len(whole)), key=lambda i: test.ranks[i])
    ranked, means = tuple(whole[i] for i in order), tuple(test.ranks[i] for i in order)
    if reason := _too_few(len(whole), len(cells)):
        return Ranking(ranked, means, tuple(cells), reason=reason, left_out=rest)
    cd = tests.critical_difference(len(whole), len(cells))
    shown = test.p <= tests.ALPHA
    groups = _groups(means, cd) if shown else ((0, len(whole) - 1),)
    return Ranking(ranked, means, tuple(cells), cd, groups, test.statistic, test.p, left_out=rest)


def _too_few(rows: int, cells: int) -> str:
    if rows < 3:
        return (
            f"{rows} row{'s' if rows > 1 else ''} ranked in every cell: Friedman's test is for three or more"
        )
    needed = tests.cells_needed(rows)
    if cells < needed:
        return f"{cells} cell{'s' if cells > 1 else ''}: {rows} rows need at least {needed} to be told apart"
    return ""


def _groups(means: Sequence[float], cd: float) -> tuple[tuple[int, int], ...]:
    """Longest runs of sorted mean ranks that span no more than the critical difference."""
    found: list[tuple[int, int]] = []
    for first in range(len(means)):
        last = max(i for i in range(first, len(means)) if means[i] - means[first] <= cd)
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
