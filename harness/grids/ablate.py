"""Both ablation grids of any method, from what its settings say of themselves.

Loss terms: ``full``; ``- TERM``, full without one term; ``bare``, the fewest terms with which the method
still has something to minimise; ``bare + TERM``, those and one more. Structure: ``SETTING=CHOICE`` for every
other choice of a setting that has choices. Rows are measured against ``full``, ``bare + TERM`` against
``bare``.

Which terms are enough for ``bare`` is found out, not declared: sets of weights are tried in order of size and
then of declaration, a round each on a toy problem, until one runs; ``keep`` names others. A row that cannot
run or changes nothing is left out with the reason. Two rows may be the same trials (of two terms, ``- b`` is
``bare``): these run once and stand in both comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from typing import Any, Literal

from harness import registry
from harness.config import Grid
from harness.errors import DfkdError, unknown
from harness.grids import remember
from harness.grids.start import Start
from harness.settings import Setting, resolve, settings_of
from harness.trials.toy import loss_of, obstacles

FULL, BARE = "full", "bare"
Part = Literal["losses", "structure"]


@dataclass(frozen=True)
class Row:
    """One row of an ablation.

    Attributes:
        label: as in the grid.
        changes: settings other than those of ``full``.
        against: the row it is measured against; empty for ``full``.
        what: for people.
        same: an earlier row of the same trials, or empty.
        setting: of a structural row, whose choice it is; empty for a row of loss terms.
    """

    label: str
    changes: dict[str, Any]
    against: str = FULL
    what: str = ""
    same: str = ""
    setting: str = ""


@dataclass
class Ablation:
    """A grid, its rows in order, and what is not among them: label -> why."""

    grid: Grid
    rows: list[Row]
    left_out: dict[str, str] = field(default_factory=dict)


def ablation(
    start: Start, *, over: Sequence[str] = (), keep: Sequence[str] = (), only: Part | None = None
) -> Ablation:
    """Build it.

    Args:
        start: the row that is ``full``.
        over: settings to vary; none for every weight that is on and every setting with choices.
        keep: weights that ``bare`` keeps; none to find out.
        only: one of the two grids.

    Raises:
        DfkdError: for a setting that cannot be ablated, a row that cannot run at all, or nothing to vary.
    """
    plan = _Plan(start)
    fields = plan.fields
    for name in over:
        if name not in fields:
            raise unknown(f"setting of {start.method}", name, fields)
        if not fields[name][1].term and not choices_of(*fields[name]):
            raise DfkdError(
                f"--over {name}: {start.method}.{name} is no loss weight and has no choices to go through; "
                f"`dfkd search {start.method} --over {name}` tunes a number"
            )
    told = f"ablation {start!r} over {list(over)} keep {list(keep)} only {only}"
    known = remember.by_code(told, lambda: _found(plan, over, keep, only))  # that takes torch, and seconds
    rows = [Row(**row) for row in known["rows"]]
    return Ablation(_grid(start, rows), rows, known["left_out"])


def _found(plan: _Plan, over: Sequence[str], keep: Sequence[str], only: Part | None) -> dict[str, Any]:
    fields = plan.fields
    if why := plan.why_not({}):
        raise DfkdError(f"{plan.start.label} itself cannot run: {why}")
    plan.add(Row(FULL, {}, "", f"{plan.start.label} as it stands"))
    wanted = [name for name in fields if not over or name in over]
    if only != "structure":
        _losses(plan, [name for name in wanted if fields[name][1].term], keep)
    if only != "losses":
        _structure(plan, [name for name in wanted if not fields[name][1].term])
    if len(plan.rows) == 1:
        reasons = "; ".join(f"{label}: {why}" for label, why in plan.left_out.items())
        raise DfkdError(f"{plan.start.method} has nothing to ablate: {reasons or 'no weight and no choice'}")
    return {"rows": [asdict(row) for row in plan.rows], "left_out": plan.left_out}


def choices_of(default: Any, meta: Setting) -> tuple[Any, ...]:
    """What a structural setting can be, or nothing for a number, a text or a loss weight."""
    if meta.term:
        return ()
    if meta.choices:
        return meta.choices
    if isinstance(default, bool):
        return (False, True)
    return meta.space.options if meta.space and meta.space.kind == "choice" else ()


class _Plan:
    """Rows so far, and what is known of rows that could be."""

    def __init__(self, start: Start) -> None:
        self.start = start
        self.cls = registry.methods.get(start.method)
        self.fields = settings_of(self.cls.HP)
        self.cells = [(task, pair) for task in start.grid.tasks for pair in start.grid.pairs]
        self.rows: list[Row] = []
        self.left_out: dict[str, str] = {}
        self._resolved: dict[str, str] = {}
        self._known: dict[str, dict[str, Any]] = {}

    def settings(self, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Every setting of the method with these changes, in each cell."""
        given = [self.start.given(*cell) for cell in self.cells]
        return [resolve(self.start.method, self.cls.HP, self.cls.PRESETS, {**g, **changes}) for g in given]

    def obstacle(self, changes: Mapping[str, Any]) -> str:
        """Why a row runs in none of the cells, or an empty text."""
        found = list(obstacles(self.start.method, self.settings(changes), self.cells))
        return found[0] if all(found) else ""

    def why_not(self, changes: Mapping[str, Any]) -> str:
        """`obstacle`, or why a row has nothing to minimise in any of the cells, or an empty text."""
        if why := self.obstacle(changes):
            return why
        found = [str(loss["error"]) for loss in self._losses(changes)]
        return found[0] if all(found) else ""

    def idle(self, changes: Mapping[str, Any], other: Mapping[str, Any]) -> list[str] | None:
        """The terms of a row where they are those of another one in every cell, else None."""
        pairs = zip(self._losses(changes), self._losses(other), strict=True)
        mine: list[str] = self._losses(changes)[0]["terms"]
        return mine if all(a["terms"] == b["terms"] for a, b in pairs) else None

    def _losses(self, changes: Mapping[str, Any]) -> list[dict[str, Any]]:
        settings, known = self.settings(changes), self._known  # cells often have the same
        return [
            known.get(repr(s)) or known.setdefault(repr(s), loss_of(self.start.method, s)) for s in settings
        ]

    def twin(self, changes: Mapping[str, Any]) -> str:
        """The row of equal settings, or an empty text; presets count by what they change."""
        return self._resolved.get(self._key(changes), "")

    def add(self, row: Row) -> None:
        """Take a row; the caller has looked that it runs."""
        same = self.twin(row.changes)
        self.rows.append(replace(row, same=same))
        self._resolved.setdefault(self._key(row.changes), row.label)

    def _key(self, changes: Mapping[str, Any]) -> str:
        plain = [{k: v for k, v in s.items() if k not in self.cls.PRESETS} for s in self.settings(changes)]
        return repr(plain)


# --- loss terms ---------------------------------------------------------------------------------


def _losses(plan: _Plan, wanted: Sequence[str], keep: Sequence[str]) -> None:
    weights = {name: meta for name, (_, meta) in plan.fields.items() if meta.term}
    for name in keep:
        if name not in weights:
            raise unknown(f"loss weight of {plan.start.method} in --base", name, weights)
    full = plan.settings({})
    on = {name: meta for name, meta in weights.items() if any(s[name] != meta.off for s in full)}
    for name in [n for n in wanted if n not in on]:
        plan.left_out[f"- {_term(weights, name)}"] = (
            f"{name} = {weights[name].off:g} in full: it is off already"
        )
    if not on:
        plan.left_out["loss terms"] = "no weight of its loss is on: there is no term to take away"
        return
    for name in [n for n in on if n in wanted]:
        term = _term(weights, name)
        _try(plan, Row(f"- {term}", {name: on[name].off}, FULL, f"without {on[name].help}"), {})
    base = _base(plan, on, keep)
    if base is None:
        plan.left_out[BARE] = "it has something to minimise only with every one of its terms"
        return
    told = " + ".join(_term(weights, n) for n in base) or "what has no weight"
    bare = Row(BARE, {n: m.off for n, m in on.items() if n not in base}, FULL, f"{told} alone")
    added = [n for n in on if n in wanted and n not in base]
    if added:
        plan.add(bare)
    for name in added:
        rest = {n: m.off for n, m in on.items() if n not in base and n != name}
        row = Row(f"{BARE} + {_term(weights, name)}", rest, BARE, f"{told}, and {on[name].help}")
        _try(plan, row, bare.changes)


def _try(plan: _Plan, row: Row, other: Mapping[str, Any]) -> None:
    """Take a row of losses unless it cannot run, or has the terms of the row with changes ``other``."""
    why = plan.why_not(row.changes)
    if not why and (terms := plan.idle(row.changes, other)) is not None:
        why = f"its loss has the terms it has otherwise: {', '.join(terms) or 'none'}"
    if why:
        plan.left_out[row.label] = why
    else:
        plan.add(row)


def _base(plan: _Plan, on: Mapping[str, Setting], keep: Sequence[str]) -> tuple[str, ...] | None:
    """Weights that ``bare`` keeps: those asked for, or the first smallest set that runs."""

    def without(kept: Sequence[str]) -> dict[str, Any]:
        return {n: m.off for n, m in on.items() if n not in kept}

    if keep:
        for name in keep:
            if name not in on:
                raise DfkdError(f"--base {name}: {plan.start.method}.{name} is off in full")
        if why := plan.why_not(without(keep)):
            raise DfkdError(f"--base {','.join(keep)} cannot run: {why}")
        return tuple(n for n in on if n in keep)
    sets = (kept for size in range(len(on)) for kept in combinations(on, size))
    return next((kept for kept in sets if not plan.why_not(without(kept))), None)


def _term(weights: Mapping[str, Setting], name: str) -> str:
    """A weight's term, as logs call it; where several weights share one, the weight's own name."""
    term = weights[name].term or name
    return term if sum(m.term == term for m in weights.values()) == 1 else name


def _structure(plan: _Plan, wanted: Sequence[str]) -> None:
    full = plan.settings({})
    for name in wanted:
        default, meta = plan.fields[name]
        for option in choices_of(default, meta):
            if all(s[name] == option for s in full):
                continue
            was = " or ".join(dict.fromkeys(_said(s[name]) for s in full))
            what = f"{_said(option)} instead of {was}: {meta.help}"
            row = Row(f"{name}={_said(option)}", {name: option}, FULL, what, setting=name)
            if plan.twin(row.changes) == FULL:
                plan.left_out[row.label] = "changes no other setting: it is full"
            elif why := plan.obstacle(row.changes):
                plan.left_out[row.label] = why
            else:
                plan.add(row)


def _said(option: Any) -> str:
    return str(option).lower() if isinstance(option, bool) else str(option)


# --- the grid -----------------------------------------------------------------------------------


def _grid(start: Start, rows: Sequence[Row]) -> Grid:
    """The start's grid with these rows in place of its one."""
    grid, label = start.grid, start.label
    anchor = FULL if grid.equal_cost == label else grid.equal_cost
    changes: dict[str, Any] = {
        "name": "",
        "variants": {row.label: (start.method, start.own | row.changes) for row in rows},
        "contrasts": {row.label: row.against for row in rows if row.against},
        "seeds": start.seeds(),
        "row_seeds": {},
        "budget": grid.budgets.get(label, grid.budget),
        "budgets": {k: v for k, v in grid.budgets.items() if k == anchor},
        "equal_cost": anchor,
    }
    kept = {"*", start.method, *(method for method, _ in grid.unlisted.values())}
    parts = {
        place: part.model_copy(update={"settings": {k: v for k, v in part.settings.items() if k in kept}})
        for place, part in grid.on.items()
    }
    on = {place: part for place, part in parts.items() if part.settings or part.budget or part.note}
    return Grid(**(dict(grid) | changes | {"on": on}))
