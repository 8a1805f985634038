"""Rows that differ in one or two settings alone: what can be drawn as a curve or as a map."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Any

from reports.numbers import stats
from reports.numbers.rows import Row, named

#: the setting that says which of CPSC's four norms are categorical
DEPTH = "cfe_layers"
#: a setting's curve has at least so many values, a map so many filled fields
POINTS, FIELDS = 3, 6


@dataclass(frozen=True)
class Point:
    """A value of a setting, the row that has it, and its top-1 over seeds in percent."""

    value: float
    label: str
    top1: stats.Interval


@dataclass(frozen=True)
class Sweep:
    """Rows of one method that differ in ``setting`` alone, by value; ``others`` is what they share."""

    method: str
    setting: str
    points: tuple[Point, ...]
    others: dict[str, Any]


@dataclass(frozen=True)
class Cross:
    """Rows of one method that differ in two settings alone.

    Attributes:
        x, y: names of the settings.
        columns, rows: their values, rising.
        top1: (row, column) -> over seeds; a field without a row is absent.
    """

    method: str
    x: str
    y: str
    columns: tuple[float, ...]
    rows: tuple[float, ...]
    top1: dict[tuple[float, float], stats.Interval]


def depth(choice: Any) -> int | None:
    """How many of the four norms a value of ``cfe_layers`` makes categorical; None for no such value."""
    named = {"full": 4, "none": 0, "drop0": 3, "drop1": 3, "drop2": 3, "drop3": 3}
    if choice in named:
        return named[choice]
    parts = str(choice).split("+")
    return len(parts) if all(part.isdigit() for part in parts) else None


def depths(rows: Sequence[Row], least: int = POINTS) -> list[list[tuple[str, Point]]]:
    """(choice, point) by depth, of rows that differ in ``cfe_layers`` alone and have ``least`` depths."""
    found = []
    for group in _alike(rows, (DEPTH,)):
        by_choice = {
            str(own[DEPTH]): (n, row) for own, row in group if (n := depth(own.get(DEPTH))) is not None
        }
        points = [(choice, Point(float(n), row.label, top1(row))) for choice, (n, row) in by_choice.items()]
        if len({point.value for _, point in points}) >= least:
            found.append(sorted(points, key=lambda p: (p[1].value, p[0])))
    return found


def sweeps(rows: Sequence[Row], crosses: Sequence[Cross] = ()) -> list[Sweep]:
    """Numeric settings that rows vary alone, with three values or more; not those that a cross has."""
    crossed = {(c.method, name) for c in crosses for name in (c.x, c.y)}
    found = []
    for name in _numeric(rows):
        for group in _alike(rows, (name,)):
            own = {float(settings[name]): row for settings, row in group if _number(settings.get(name))}
            method = group[0][1].of("method")
            if len(own) >= POINTS and (method, name) not in crossed:
                points = tuple(Point(v, own[v].label, top1(own[v])) for v in sorted(own))
                others = {k: v for k, v in group[0][0].items() if k != name}
                found.append(Sweep(method, name, points, others))
    return found


def crosses(rows: Sequence[Row]) -> list[Cross]:
    """Pairs of numeric settings that rows vary as a cross: half of the fields filled, six or more.

    Two settings varied one at a time from a common row are none: nowhere do four fields make a square.
    """
    found = []
    for pair in combinations(_numeric(rows), 2):
        y, x = pair
        for group in _alike(rows, pair):
            own = {
                (float(s[y]), float(s[x])): row for s, row in group if _number(s.get(y)) and _number(s.get(x))
            }
            values, columns = (tuple(sorted({at[i] for at in own})) for i in (0, 1))
            if len(own) < FIELDS or 2 * len(own) < len(values) * len(columns) or not _square(set(own)):
                continue
            method = group[0][1].of("method")
            found.append(Cross(method, x, y, columns, values, {at: top1(c) for at, c in own.items()}))
    return found


def top1(row: Row) -> stats.Interval:
    """Of a row, over its seeds."""
    return stats.interval([float(v) for v in row.done["top1"]])


def _alike(rows: Sequence[Row], free: Sequence[str]) -> Iterator[list[tuple[dict[str, Any], Row]]]:
    """Rows of equal method, budget, precision and settings but for ``free``; one row of equal settings."""

    def rest(entry: tuple[dict[str, Any], Row]) -> str:
        own, row = entry
        kept = {k: v for k, v in own.items() if k not in free}
        same = map(row.of, ("method", "budget", "precision"))
        return json.dumps([*same, kept], sort_keys=True)

    every = [(own, row) for row in rows if all(name in (own := named(row.of("settings"))) for name in free)]
    for _, group in groupby(sorted(every, key=rest), key=rest):
        once = {json.dumps(own, sort_keys=True): (own, row) for own, row in reversed(list(group))}
        yield list(once.values())[::-1]


def _numeric(rows: Sequence[Row]) -> list[str]:
    """Settings that have two numbers or more among rows of one method, in alphabetical order."""
    values: dict[tuple[str, str], set[float]] = {}
    for row in rows:
        for name, value in named(row.of("settings")).items():
            if _number(value):
                values.setdefault((row.of("method"), name), set()).add(float(value))
    return sorted({name for (_, name), seen in values.items() if len(seen) > 1})


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _square(filled: set[tuple[float, float]]) -> bool:
    """Whether two rows and two columns meet in four filled fields."""
    at: dict[float, set[float]] = {}
    for y, x in filled:
        at.setdefault(y, set()).add(x)
    return any(len(one & two) > 1 for one, two in combinations(at.values(), 2))
