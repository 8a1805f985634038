"""What a search leaves for people and scripts: its record (``search.json``), and a grid (``chosen.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from harness.config import Grid
from harness.grids.write import field
from harness.grids.write import source as grid_source

if TYPE_CHECKING:
    from harness.grids.draws import Axis
    from harness.grids.goal import Goal, Tried

#: seeds of the grid that holds the choice against what was before
_SEEDS = (0, 1, 2)


def record(
    goal: Goal, tries: Sequence[Tried], asked_for: int, complete: bool, used_up: bool
) -> dict[str, Any]:
    """What was asked, what was tried, what was chosen, as JSON has it.

    Args:
        goal: what was asked for.
        tries: every trial, in order.
        asked_for: how many there were to be.
        complete: whether all of them have ended.
        used_up: whether the space has no other settings.
    """
    best, t = goal.best(tries), goal.start
    return {
        "asked": {
            "method": t.method, "task": t.task, "teacher": t.teacher, "student": t.student,
            "budget": str(t.budget), "seed": t.seed, "precision": t.precision, "trials": asked_for,
            "by": goal.by, "draw": goal.draw, "eta": goal.eta,
            "over": {name: said(axis) for name, axis in goal.over.items()}, "given": goal.given,
        },
        "trials_used": used(tries),
        "stopped_early": sum(each.ended == "stopped" for each in tries),
        "complete": complete,
        "space_used_up": used_up,
        "chosen": _entry(goal, best) if best else None,
        "trials": [_entry(goal, each) for each in tries],
    }  # fmt: skip


def _entry(goal: Goal, each: Tried) -> dict[str, Any]:
    return {
        "number": each.number, "trial": each.id, "settings": each.values, "ended": each.ended,
        "budget_percent": goal.percent(each), "val_nll": each.val_nll, "val_top1": each.val_top1,
        "reason": each.reason,
    }  # fmt: skip


def used(tries: Sequence[Tried]) -> int:
    """Trials that were begun and ended, however: the effort."""
    return sum(each.ended != "open" for each in tries)


def said(axis: Axis) -> str:
    """A space in words."""
    space = axis.space
    if space.kind == "choice":
        return "one of " + ", ".join(map(str, space.options))
    return f"{space.low:g} to {space.high:g}" + (", by its logarithm" if space.kind == "log" else "")


def settings(goal: Goal, best: Tried) -> dict[str, Any]:
    """What to write into a grid's ``settings`` for the method: the choice over what was given."""
    return goal.given | best.values


def block(goal: Goal, tries: Sequence[Tried], best: Tried) -> str:
    """The lines to paste into a grid."""
    chosen = {goal.start.method: settings(goal, best)}
    return (field("settings", chosen) + field("note", note(goal, tries))).rstrip()


def note(goal: Goal, tries: Sequence[Tried]) -> str:
    """How the settings were found, for the grid's note and so for the report."""
    n = used(tries)
    stopped = f", worse ones stopped early (ASHA, eta = {goal.eta})" if goal.eta else ""
    least = "least val_nll" if goal.by == "val_nll" else "highest val_top1"
    return (
        f"Settings of {goal.start.method} found by `dfkd search`: {n} trial{'s' if n != 1 else ''} of "
        f"{goal.start.budget} on {goal.start.task}, seeded random draws over "
        f"{', '.join(goal.over)}{stopped}; {least} on the validation images, "
        f"seed {goal.start.seed}. No test image was seen."
    )


def source(goal: Goal, tries: Sequence[Tried], best: Tried) -> str:
    """A grid of the choice beside the settings that the search began with, on other seeds."""
    t = goal.start
    before = {name: t.settings[name] for name in goal.over}
    rows: dict[str, tuple[str, dict[str, Any]]] = {t.method: (t.method, {})}
    was = f"{t.method} before"
    if best.number:
        rows[was] = (t.method, before)
    grid = Grid(
        tasks=(t.task,),
        pairs=((t.teacher, t.student),),
        variants=rows,
        settings={t.method: settings(goal, best)},
        contrasts={t.method: was} if best.number else {},
        seeds=_SEEDS,
        teacher_seeds=(t.teacher_seed,),
        teacher_recipe=t.recipe.name,
        imported=t.teacher_digest,
        budget=t.budget,
        cpus_per_trial=t.cpus,
        precision=t.precision,
        channels_last=t.channels_last,
        compile=t.compile,
        note=note(goal, tries),
    )
    lines = [
        f"Trial {best.number} of {used(tries)}: val_nll {best.val_nll:.5g}, val_top1 {best.val_top1:.2f} %, "
        f"seed {t.seed}. Written by `dfkd search`; search.json beside it has them all.",
        "",
        "  Run:    dfkd run THIS_FILE",
    ]
    return grid_source(
        grid, f"What a search chose for {t.method} on {t.task}, beside what was before.", lines
    )
