"""What a search leaves for people and scripts: ``search.json``, ``trials.csv``, ``chosen.py``."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from harness import files
from harness.config import Grid
from harness.grids.write import literal
from harness.grids.write import source as grid_source

if TYPE_CHECKING:
    from harness.grids.draws import Axis
    from harness.grids.goal import Tried
    from harness.grids.search import Search

#: seeds of the grid that holds the choice against what was before
_SEEDS = (0, 1, 2)


def write(search: Search) -> None:
    """Write the record; the choice as a grid once every trial has ended.

    Raises:
        DfkdError: for a folder that cannot be written.
    """
    folder, best = search.folder, search.best()
    texts = {
        "search.json": json.dumps(record(search), indent=1) + "\n",
        "trials.csv": table(search),
    }
    if best and search.complete():
        texts["chosen.py"] = source(search, best)
    for name, text in texts.items():
        files.put(folder / name, text, anew=True)


def record(search: Search) -> dict[str, Any]:
    """What was asked, what was tried, what was chosen, as JSON has it."""
    goal, best, tries = search.goal, search.best(), search.tries()
    t = goal.start
    return {
        "asked": {
            "method": t.method, "task": t.task, "teacher": t.teacher, "student": t.student,
            "budget": str(t.budget), "seed": t.seed, "precision": t.precision, "trials": search.asked_for,
            "by": goal.by, "sampler": goal.sampler, "draw": goal.draw, "eta": goal.eta,
            "over": {name: said(axis) for name, axis in goal.over.items()}, "given": goal.given,
        },
        "trials_used": used(search),
        "stopped_early": sum(each.ended == "stopped" for each in tries),
        "complete": search.complete(),
        "space_used_up": search.exhausted,
        "chosen": _entry(search, best) if best else None,
        "trials": [_entry(search, each) for each in tries],
    }  # fmt: skip


def _entry(search: Search, each: Tried) -> dict[str, Any]:
    return {
        "number": each.number, "trial": each.id, "settings": each.values, "ended": each.ended,
        "budget_percent": percent(search, each), "val_nll": each.val_nll, "val_top1": each.val_top1,
        "reason": each.reason,
    }  # fmt: skip


def used(search: Search) -> int:
    """Trials that were begun and ended, however: the effort."""
    return sum(each.ended != "open" for each in search.tries())


def said(axis: Axis) -> str:
    """A space in words."""
    space = axis.space
    if space.kind == "choice":
        return "one of " + ", ".join(map(str, space.options))
    return f"{space.low:g} to {space.high:g}" + (", by its logarithm" if space.kind == "log" else "")


def table(search: Search) -> str:
    """The trials as CSV, one a row, a column for each setting searched over."""
    text = io.StringIO()
    out = csv.writer(text, lineterminator="\n")
    out.writerow(
        ["number", "trial", *search.goal.over, "ended", "budget_percent", *("val_nll", "val_top1"), "reason"]
    )
    for each in search.tries():
        numbers = ["" if v is None else repr(v) for v in (each.val_nll, each.val_top1)]
        shown = [each.values[name] for name in search.goal.over]
        out.writerow([each.number, each.id, *shown, each.ended, percent(search, each), *numbers, each.reason])
    return text.getvalue()


def percent(search: Search, each: Tried) -> float:
    """Of the budget, where a trial was looked at last."""
    return round(100.0 * each.point / search.rungs.points, 1)


def settings(search: Search, best: Tried) -> dict[str, Any]:
    """What to write into a grid's ``settings`` for the method: the choice over what was given."""
    return search.goal.given | best.values


def block(search: Search, best: Tried) -> str:
    """The lines to paste into a grid."""
    chosen = {search.goal.start.method: settings(search, best)}
    return f"settings={literal(chosen, 0, 10)},\nnote={literal(note(search))},"


def note(search: Search) -> str:
    """How the settings were found, for the grid's note and so for the report."""
    goal, n = search.goal, used(search)
    how = "Optuna's TPE" if goal.sampler == "optuna" else "seeded random draws"
    stopped = f", worse ones stopped early (ASHA, eta = {goal.eta})" if goal.eta else ""
    least = "least val_nll" if goal.by == "val_nll" else "highest val_top1"
    return (
        f"Settings of {goal.start.method} found by `dfkd search`: {n} trial{'s' if n != 1 else ''} of "
        f"{goal.start.budget} on {goal.start.task}, {how} over {', '.join(goal.over)}{stopped}; {least} on "
        f"the validation images, seed {goal.start.seed}. No test image was seen."
    )


def source(search: Search, best: Tried) -> str:
    """A grid of the choice beside the settings that the search began with, on other seeds."""
    goal, t = search.goal, search.goal.start
    before = {name: t.settings[name] for name in goal.over}
    rows: dict[str, tuple[str, dict[str, Any]]] = {t.method: (t.method, {})}
    was = f"{t.method} before"
    if best.number:
        rows[was] = (t.method, before)
    grid = Grid(
        tasks=(t.task,),
        pairs=((t.teacher, t.student),),
        variants=rows,
        settings={t.method: settings(search, best)},
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
        note=note(search),
    )
    lines = [
        f"Trial {best.number} of {used(search)}: val_nll {best.val_nll:.5g}, val_top1 {best.val_top1:.2f} %, "
        f"seed {t.seed}. Written by `dfkd search`; trials.csv beside it has them all.",
        "",
        "  Run:    dfkd run THIS_FILE",
    ]
    return grid_source(
        grid, f"What a search chose for {t.method} on {t.task}, beside what was before.", lines
    )
