"""From a grid, which is data, to its trials: rows spelled out, settings resolved, budgets made equal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness import registry
from harness.config import Budget, Grid, Recipe, Trial
from harness.errors import DfkdError, unknown
from harness.grids import remember
from harness.settings import resolve, settings_of
from harness.tasks.catalog import describe, recipe, version

#: teacher, student
Pair = tuple[str, str]
#: row label -> (method, its own settings)
Rows = dict[str, tuple[str, dict[str, Any]]]


def remembered(grid: Grid) -> list[Trial]:
    """As `trials_of`; without torch where they were asked for before and no code has changed since.

    Raises:
        DfkdError: as `trials_of`.
    """
    found = remember.by_code(f"trials {grid!r}", lambda: [t.model_dump(mode="json") for t in trials_of(grid)])
    return [Trial.model_validate(fields) for fields in found]


def trials_of(grid: Grid) -> list[Trial]:
    """Every trial of the grid, in the order of its rows.

    Raises:
        DfkdError: for an unknown method, setting, task, net, recipe or metric.
    """
    rows = rows_of(grid)
    _check(grid, rows)
    return [
        trial
        for task in grid.tasks
        for pair in grid.pairs
        for trial in _trials_of_cell(grid, rows, task, pair)
    ]


def rows_of(grid: Grid) -> Rows:
    """Row label -> (method, its own settings), with "all" spelled out.

    A plug-in that cannot be imported has no row: `dfkd methods` lists it with its error.
    """
    if grid.variants != "all":
        return dict(grid.variants)
    return {name: (name, {}) for name in registry.methods.available()}


def recipe_of(grid: Grid, task: str, pair: Pair) -> Recipe:
    """How the teacher of a cell is trained.

    Raises:
        DfkdError: for an unknown recipe.
    """
    own = [part.teacher_recipe for part in grid.at(task, pair) if part.teacher_recipe]
    return recipe(own[-1] if own else grid.teacher_recipe, task)


def given(grid: Grid, method: str, own: Mapping[str, Any], task: str, pair: Pair) -> dict[str, Any]:
    """What the grid says of a method's settings in a cell, a row's ``own`` over the rest."""
    known = settings_of(registry.methods.get(method).HP)
    found: dict[str, Any] = {}
    for part in (grid.settings, *(each.settings for each in grid.at(task, pair))):
        found |= {k: v for k, v in part.get("*", {}).items() if k in known} | part.get(method, {})
    return found | dict(own)


def resolved(grid: Grid, method: str, own: Mapping[str, Any], task: str, pair: Pair) -> dict[str, Any]:
    """Every setting of a row in a cell.

    Raises:
        DfkdError: for an unknown setting or an illegal value.
    """
    cls = registry.methods.get(method)
    return resolve(method, cls.HP, cls.PRESETS, given(grid, method, own, task, pair))


def _check(grid: Grid, rows: Rows) -> None:
    """That every name in the grid is known."""
    from harness.nets.catalog import nets

    for label in grid.budgets:
        if label not in rows and label != grid.equal_cost:
            raise unknown("row in budgets", label, rows)
    for label in grid.row_seeds:
        if label not in rows:
            raise unknown("row in row_seeds", label, rows)
    for label, base in grid.contrasts.items():
        for each in (label, base):
            if each not in rows:
                raise unknown("row in contrasts", each, rows)
        if label == base:
            raise DfkdError(f"contrasts: row {label!r} is measured against itself")
    if grid.metrics:
        from harness.metrics.base import chosen

        chosen(grid.metrics)  # raises for one nobody knows
    methods = [m for m, _ in rows.values()]
    for key in {*grid.settings, *(k for part in grid.on.values() for k in part.settings)}:
        if key != "*" and key not in methods and key not in registry.methods.names():
            raise unknown("method in settings", key, [*methods, "*"])
    for key in grid.on:
        head, _, last = key.rpartition(" ")
        of_pair = last.count(":") == 1 and not last.startswith("folder:")
        for net in last.split(":") if of_pair else ():
            nets.check(net)
        if head or not of_pair:
            version(head if of_pair else key)
    for pair in grid.pairs:
        for net in pair:
            nets.check(net)


def _trials_of_cell(grid: Grid, rows: Rows, task: str, pair: Pair) -> Iterator[Trial]:
    """The trials of a task and pair."""
    own = {label: resolved(grid, *row, task, pair) for label, row in rows.items()}
    equal = _equal(grid, rows, task, pair)
    for label, (method, _) in rows.items():
        for teacher_seed in grid.teacher_seeds:
            for seed in grid.row_seeds.get(label, grid.seeds):
                yield Trial(
                    task=task,
                    task_version=version(task),
                    teacher=pair[0],
                    student=pair[1],
                    method=method,
                    method_version=registry.methods.get(method).VERSION,
                    settings=own[label],
                    recipe=recipe_of(grid, task, pair),
                    teacher_seed=teacher_seed,
                    teacher_digest=grid.imported,
                    budget=equal or grid.budget_of(label, task, pair),
                    precision=grid.precision,
                    channels_last=grid.channels_last,
                    compile=grid.compile,
                    seed=seed,
                    label=label,
                    points=grid.points_of(task, pair),
                    cpus=grid.cpus_per_trial,
                    metrics=grid.metrics,
                )


def _equal(grid: Grid, rows: Rows, task: str, pair: Pair) -> Budget | None:
    """What every row may spend on a task and pair, to four digits; None where rows have their own."""
    label = grid.equal_cost
    if label is None:
        return None
    from harness.trials.costs import flops_per_update

    known = {*rows, *grid.unlisted, *registry.methods.names()}
    if label not in known:
        raise unknown("row in equal_cost", label, known)
    budget = grid.budget_of(label, task, pair)
    if budget.unit == "flops":
        return budget
    if budget.unit == "rounds":
        raise DfkdError(
            f"equal_cost = {label!r}: its budget {budget} must be in student_updates or flops, "
            "since how many updates a round has is the method's own affair"
        )
    method, own = {**grid.unlisted, **rows}.get(label, (label, {}))
    flops = flops_per_update(method, resolved(grid, method, own, task, pair), describe(task), pair)
    return Budget(amount=float(f"{flops * budget.amount:.4g}"), unit="flops")
