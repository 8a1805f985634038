"""Where a study of one method starts: its settings in a grid, or its own defaults on a task and pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harness import registry
from harness.config import Budget, Grid, one_line
from harness.errors import DfkdError, unknown
from harness.grids import expand, load, override
from harness.settings import coerce, settings_of


@dataclass(frozen=True)
class Start:
    """One row of a grid, to be varied.

    Attributes:
        grid: with this row alone; its tasks, pairs, seeds and budget are the study's.
        label: the row's.
        method: the row's.
        own: the row's own settings, over those that the grid has for the method.
        origin: the name of the grid it was taken from; empty for none.
    """

    grid: Grid
    label: str
    method: str
    own: dict[str, Any]
    origin: str = ""

    def given(self, task: str, pair: tuple[str, str]) -> dict[str, Any]:
        """What grid and row say of the method's settings there; defaults and presets fill in the rest."""
        return expand.given(self.grid, self.method, self.own, task, pair)

    def seeds(self) -> tuple[int, ...]:
        """The row's."""
        return self.grid.row_seeds.get(self.label, self.grid.seeds)


def begin(
    name: str,
    origin: str | None = None,
    *,
    seeds: Sequence[int] = (),
    tasks: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] = (),
    budget: Budget | None = None,
    equal_cost: str | None = None,
    sets: Sequence[override.Set] = (),
    precision: str | None = None,
    compile: bool | None = None,
) -> Start:
    """Find the row and change it as the command line says.

    Args:
        name: a method; with ``origin`` also the label of a row.
        origin: a grid file or the name of one; None: the method's own defaults, and then tasks, pairs and
            budget have to be given.
        seeds: instead of the grid's, as `harness.grids.override.override` takes them; so are the rest.
        tasks: the same.
        pairs: the same.
        budget: the same.
        equal_cost: the same.
        sets: the same, one value each.
        precision: the same.
        compile: the same.

    Raises:
        DfkdError: for a name nobody knows, several rows of that name, or a place that is missing.
    """
    several = next((s for s in sets if len(s.values) > 1), None)
    if several:
        raise DfkdError(
            f"--set {several.name}.{several.setting}={','.join(several.values)}: give one value to begin with"
        )
    grid = _bare(name, tasks, pairs, budget) if origin is None else load.load(origin)
    row = _row_of(grid, name, origin)
    changed = override.override(
        grid, methods=[row], seeds=seeds, tasks=tasks, pairs=pairs, budget=budget, equal_cost=equal_cost,
        sets=sets, precision=precision, compile=compile,
    )  # fmt: skip
    ((label, (method, own)),) = expand.rows_of(changed).items()
    fields = settings_of(registry.methods.get(method).HP)
    for setting in own:
        if setting not in fields:
            raise unknown(f"setting of {method}", setting, fields)
    typed = {k: coerce(method, k, v, *fields[k]) for k, v in own.items()}  # --set gives texts
    return Start(changed, label, method, typed, grid.name if origin else "")


def _bare(name: str, tasks: Sequence[str], pairs: Sequence[tuple[str, str]], budget: Budget | None) -> Grid:
    registry.methods.get(name)
    lacking = [
        option for option, value in (("--task", tasks), ("--pair", pairs), ("--budget", budget)) if not value
    ]
    if lacking or budget is None:
        raise DfkdError(
            f"{name} with its own defaults needs {', '.join(lacking)}; or give --from GRID (say digits), for "
            "a grid's settings, task, pair and budget"
        )
    try:
        return Grid(tasks=tuple(tasks), pairs=tuple(pairs), variants={name: (name, {})}, budget=budget)
    except ValidationError as error:
        raise DfkdError(one_line(error)) from None


def _row_of(grid: Grid, name: str, origin: str | None) -> str:
    """The label that is meant: of its own name, or the only row of the method."""
    rows = expand.rows_of(grid)
    found = [label for label, (method, _) in rows.items() if name in (label, method)]
    if name not in rows and len(found) > 1:
        raise DfkdError(
            f"grid {origin} has {len(found)} rows of {name}: give a row's label instead: "
            + "; ".join(repr(label) for label in found)
        )
    return name if name in rows or not found else found[0]
