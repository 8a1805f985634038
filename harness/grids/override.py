"""A grid with what the command line changes of it. Loads no torch where it can."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from harness.config import Budget, Grid, one_line
from harness.errors import DfkdError, unknown
from harness.grids.expand import rows_of
from harness.settings import settings_of

_T = TypeVar("_T")


class Set(NamedTuple):
    """One ``--set name.setting=v1,v2``."""

    name: str
    setting: str
    values: tuple[str, ...]


def override(
    grid: Grid,
    *,
    methods: Sequence[str] = (),
    seeds: Sequence[int] = (),
    teacher_seeds: Sequence[int] = (),
    tasks: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] = (),
    budget: Budget | None = None,
    equal_cost: str | None = None,
    sets: Sequence[Set] = (),
    precision: str | None = None,
    compile: bool | None = None,
) -> Grid:
    """The grid with what the command line changes; empty and None change nothing.

    Args:
        grid: as it was loaded.
        methods: rows to keep, by label or by method; a registered method that has no row gets one. A
            contrast goes with either of its rows, also where ``sets`` renames them.
        seeds: instead of the grid's, for every row.
        teacher_seeds: instead of the grid's.
        tasks: the same.
        pairs: the same.
        budget: for every row, those with one of their own too.
        equal_cost: the row whose spend every row gets.
        sets: a row of each value, ``cpsc beta=0`` and ``cpsc beta=1``; several multiply. What names a row
            outdoes what names a method, which outdoes ``*``.
        precision: instead of the grid's.
        compile: the same.

    Raises:
        DfkdError: for a row, method or setting that is not there, or an illegal value.
    """
    changes: dict[str, Any] = {
        "seeds": tuple(seeds), "tasks": tuple(tasks), "pairs": tuple(pairs), "precision": precision,
        "compile": compile, "equal_cost": equal_cost, "teacher_seeds": tuple(teacher_seeds),
    }  # fmt: skip
    changes = {k: v for k, v in changes.items() if v not in ((), None)}
    budgets, row_seeds = dict(grid.budgets), {} if seeds else dict(grid.row_seeds)
    contrasts = dict(grid.contrasts)
    if budget is not None:
        changes["budget"], budgets = budget, {}
        changes["on"] = {k: part.model_copy(update={"budget": None}) for k, part in grid.on.items()}
    if methods or sets:
        rows = {label: (label, row) for label, row in _picked(grid, methods).items()}
        if sets:
            rows = _multiplied(rows, sets)
        anchor = equal_cost or grid.equal_cost  # its settings and budget are asked for even without a row
        kept = {method for _, (method, _) in rows.values()} | {anchor}
        if anchor and grid.variants != "all" and anchor in grid.variants:
            kept.add(grid.variants[anchor][0])
            changes["unlisted"] = {anchor: grid.variants[anchor]}
        changes["variants"] = {label: row for label, (_, row) in rows.items()}
        changes["settings"] = {k: v for k, v in grid.settings.items() if k == "*" or k in kept}
        named = {anchor: budgets[anchor]} if anchor in budgets else {}
        budgets = named | {label: budgets[was] for label, (was, _) in rows.items() if was in budgets}
        row_seeds = {label: row_seeds[was] for label, (was, _) in rows.items() if was in row_seeds}
        contrasts = {label: base for label, base in contrasts.items() if {label, base} <= rows.keys()}
    try:
        named_rows = {"budgets": budgets, "row_seeds": row_seeds, "contrasts": contrasts}
        return Grid(**(dict(grid) | changes | named_rows))
    except ValidationError as error:
        raise DfkdError(one_line(error)) from None


_Row = tuple[str, dict[str, Any]]


def _picked(grid: Grid, methods: Sequence[str]) -> dict[str, _Row]:
    if not methods:
        return rows_of(grid)
    from harness import registry

    registered = registry.methods.names()
    rows = {m: (m, {}) for m in registered} if grid.variants == "all" else dict(grid.variants)
    picked: dict[str, _Row] = {}
    for name in methods:
        if name in rows:
            found = {name: rows[name]}
        else:
            found = {label: row for label, row in rows.items() if row[0] == name}
        if not found:
            if name not in registered:
                raise unknown("row or method", name, {*rows, *registered})
            found = {name: (name, {})}
        picked |= found
    return picked


def _multiplied(rows: dict[str, tuple[str, _Row]], sets: Sequence[Set]) -> dict[str, tuple[str, _Row]]:
    """New label -> (label before, row)."""
    from harness import registry

    by_method = {method for _, (method, _) in rows.values()}
    for each in sets:
        if each.name != "*" and each.name not in rows and each.name not in by_method:
            raise unknown("row or method in --set", each.name, {*rows, *by_method, "*"})
    common = {e.setting for e in sets if e.name == "*"}
    owners = {m: set(settings_of(registry.methods.get(m).HP)) for m in by_method} if common else {}
    for setting in sorted(common):
        if not any(setting in names for names in owners.values()):
            raise unknown("setting of any row", setting, set().union(*owners.values()))
    made: dict[str, tuple[str, _Row]] = {}
    for label, (was, (method, own)) in rows.items():
        axes: dict[str, tuple[str, ...]] = {}
        for rank in range(3):
            for each in sets:
                if rank == _rank(each.name, label, method, rows) and (rank or each.setting in owners[method]):
                    axes[each.setting] = each.values
        for values in product(*axes.values()):
            given = dict(zip(axes, values, strict=True))
            name = " ".join([label, *(f"{k}={v}" for k, v in given.items())])
            made[name] = (was, (method, own | given))
    return made


def _rank(name: str, label: str, method: str, labels: Iterable[str]) -> int | None:
    """How closely a ``--set`` means a row: 2 by its label, 1 by its method, 0 by ``*``; None not at all."""
    if name == "*":
        return 0
    if name in labels:
        return 2 if name == label else None
    return 1 if name == method else None


def parse_set(text: str) -> Set:
    """Read ``name.setting=v1,v2``.

    Raises:
        DfkdError: for anything else.
    """
    target, equals, values = text.partition("=")
    name, dot, setting = target.rpartition(".")
    listed = words(values)
    if not (equals and dot and name and setting and listed):
        raise DfkdError(f"--set {text!r} is not NAME.SETTING=VALUE[,VALUE...] (say cpsc.beta=0,1)")
    return Set(name.strip(), setting.strip(), tuple(listed))


def parse_seeds(text: str, option: str = "--seeds") -> list[int]:
    """Read ``0,1,2``, ``0-4`` or a mixture.

    Args:
        text: what was given.
        option: to which option, for messages.

    Raises:
        DfkdError: for anything else.
    """
    found: list[int] = []
    for part in words(text):
        first, dash, last = part.partition("-")
        if not (first.isdecimal() and (last.isdecimal() if dash else True)):
            raise DfkdError(f"{option} {text!r} is not a list like 0,1,2 or a range like 0-4")
        found += range(int(first), int(last or first) + 1)
    if not found:
        raise DfkdError(f"{option} {text!r} names no seed")
    return _once(found)


def parse_pair(text: str) -> tuple[str, str]:
    """Read ``teacher:student``.

    Raises:
        DfkdError: for anything else.
    """
    teacher, _, student = text.partition(":")
    if not teacher or not student or ":" in student:
        raise DfkdError(f"--pair {text!r} is not TEACHER:STUDENT (say wrn16_2:wrn16_1)")
    return teacher, student


def words(text: str) -> list[str]:
    """The parts of a list written with commas, each once."""
    return _once([part.strip() for part in text.split(",") if part.strip()])


def _once(values: Iterable[_T]) -> list[_T]:
    return list(dict.fromkeys(values))
