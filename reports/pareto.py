"""Accuracy against cost: which rows nothing in their cell is both cheaper and better than."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from reports import select


def front(table: pd.DataFrame) -> list[bool]:
    """Whether each row is Pareto-optimal in mean top-1 and cost among the rows of its cell.

    Args:
        table: rows of `reports.tables.main`, with ``task``, ``teacher``, ``student``, ``teacher_digest``,
            ``reference``, ``stale``, ``ran``, ``seeds``, ``top1`` (higher is better), ``flops`` (lower is).

    Returns:
        True where no other row costs at most as much and is at least as good, and better in one of the two;
        equals are optimal together. A control takes part: a dear method that a cheap control matches is
        not optimal. References, stale rows, and rows whose seeds did not all run are neither marked nor
        compared with. A cell with a single row to compare has no front.
    """
    rows = select.records(table)
    cells: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        if _stands(row):
            cells.setdefault(tuple(row[name] for name in select.CELL), []).append(row)
    found = []
    for row in rows:
        others = cells.get(tuple(row[name] for name in select.CELL), [])
        found.append(_stands(row) and len(others) > 1 and not any(_beats(other, row) for other in others))
    return found


def _stands(row: Mapping[str, Any]) -> bool:
    whole = not row["reference"] and not row["stale"] and row["ran"] == row["seeds"]
    return whole and not math.isnan(row["top1"]) and not math.isnan(row["flops"])


def _beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    no_worse = one["flops"] <= other["flops"] and one["top1"] >= other["top1"]
    return bool(no_worse and (one["flops"] < other["flops"] or one["top1"] > other["top1"]))
