"""The command that tunes a method's settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import printing
from harness.cli.choose import on_method
from harness.cli.options import OUT, Address, DataRoot, GpusPerTrial, Json, Out, Teachers, Workers
from harness.schedule.rungs import ETA, SEED, TRIALS

if TYPE_CHECKING:
    from harness.grids.goal import Goal
    from harness.grids.search import Search
    from harness.grids.start import Start
    from harness.schedule.attempt import Errand


@on_method("seeds", "equal_cost")
def search(
    start: Start,
    over: Annotated[
        str | None,
        typer.Option(help="Settings to search: a,b; by default all with a space but weights that are off."),
    ] = None,
    trials: Annotated[
        int, typer.Option(help="How many trials in all, the settings as they stand being the first.")
    ] = TRIALS,
    by: Annotated[
        Literal["val_top1", "val_nll"],
        typer.Option(help="What decides, on the validation images: most right, or least cross-entropy."),
    ] = "val_top1",
    draw: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of every trial; let no reported grid have the same.")
    ] = SEED,
    eta: Annotated[
        int, typer.Option(help="One trial in so many goes on at each rung; 0 stops none early.")
    ] = ETA,
    workers: Workers = None,
    gpus_per_trial: GpusPerTrial = 0.0,
    address: Address = None,
    out: Out = OUT,
    data_root: DataRoot = None,
    teachers: Teachers = None,
    as_json: Json = False,
) -> None:
    """Tune a method's settings on the validation images; the test images are never seen.

    Trials run on Ray Tune, worse ones stopped early by ASHA at 1/eta^2 and 1/eta of the budget; `--workers 0`
    runs them here, one after the other, by the same rule. The same command goes on where it was stopped, a
    larger --trials adds trials. Give every method that is to be compared the same number: it is told with the
    choice. Writes OUT/search/<method>-<task>-<pair>-<key>/: search.json, and chosen.py, a grid of the
    choice beside what was before.
    """
    from harness.schedule.attempt import Errand

    goal = _goal(start, over, by, draw, seed, eta)
    errand = Errand(out, teachers or out / "teachers", data_root, gpus=gpus_per_trial)
    found, interrupted = run_search(
        goal, errand, trials, workers=workers, address=address, tell=printing.note
    )
    _tell_search(found, as_json)
    if interrupted:
        printing.note("interrupted")
        raise typer.Exit(130)
    if not found.complete() or not goal.best(found.tries()):
        raise typer.Exit(1)


def _goal(start: Start, over: str | None, by: Any, draw: int, seed: int, eta: int) -> Goal:
    from harness import registry
    from harness.errors import DfkdError
    from harness.grids import draws, expand, override
    from harness.grids.goal import Goal
    from harness.schedule.rungs import points_for

    if eta < 0 or eta == 1 or eta > 10:
        raise DfkdError(f"--eta {eta}: give 0 (nothing is stopped early), or 2 to 10")
    grid = start.grid
    for option, places in (("--task", grid.tasks), ("--pair", grid.pairs)):
        if len(places) > 1:
            shown = ", ".join(p if isinstance(p, str) else ":".join(p) for p in places)
            raise DfkdError(f"a search is for one task and one pair: choose with {option} out of {shown}")
    changed = {"seeds": (seed,), "row_seeds": {}, "teacher_seeds": grid.teacher_seeds[:1], "metrics": ()}
    (trial,) = expand.remembered(grid.model_copy(update=changed))
    cls = registry.methods.get(start.method)
    return Goal(
        start=trial.model_copy(update={"points": points_for(eta), "label": start.method}),
        given=start.given(grid.tasks[0], grid.pairs[0]),
        over=draws.axes(start.method, cls.HP, override.words(over or ""), trial.settings),
        by=by,
        draw=draw,
        eta=eta,
    )


def _tell_search(found: Search, as_json: bool) -> None:
    from harness.grids import chosen

    goal, tries = found.goal, found.tries()
    best = goal.best(tries)
    if as_json:
        printing.dump(found.record() | {"folder": str(found.folder)})
        return
    mark = {best.id: "chosen"} if best and found.complete() else {}
    printing.table(
        [
            {
                "trial": each.number,
                **{name: each.values[name] for name in goal.over},
                "val_nll": each.val_nll,
                "val_top1": each.val_top1,
                "budget %": goal.percent(each),
                "ended": mark.get(each.id, each.ended),
                "why": each.reason,
            }
            for each in tries
        ]
    )
    print()
    ended, n = chosen.used(tries), len(tries)
    stopped = sum(each.ended == "stopped" for each in tries)
    print(f"{ended} of {max(n, found.asked_for)} trials used, {stopped} stopped early; {found.folder}")
    if found.exhausted:
        print(f"the space is used up: it has {n} different settings and no more were found")
    if not found.complete():
        print("nothing is chosen yet: the same command goes on from here")
    elif best is None:
        print("nothing is chosen: no trial went to its end")
    else:
        how = "the settings it began with" if not best.number else f"trial {best.number}"
        print(f"chosen: {how}; to paste into a grid:\n\n{chosen.block(goal, tries, best)}\n")
        print(f"dfkd run {found.folder / 'chosen.py'}   # beside what was before: other seeds, test images")


def run_search(
    goal: Goal,
    errand: Errand,
    trials: int = TRIALS,
    *,
    workers: int | None = None,
    address: str | None = None,
    tell: Callable[[str], None] | None = None,
) -> tuple[Search, bool]:
    """Run what is missing of a search; its teacher first.

    Args:
        goal: what is asked for.
        errand: where things lie, ``out`` being the store; trials see the validation images, whatever it says.
        trials: how many in all, those that ran before among them.
        workers: as `harness.schedule.run.run_trials` takes it.
        address: as `harness.schedule.run.run_trials` takes it.
        tell: hears a line whenever a trial ends.

    Returns:
        The search as it stands, and whether Ctrl-C or SIGTERM ended it early.

    Raises:
        DfkdError: for what can never work, before anything starts; for a teacher that cannot be had.
    """
    from harness.errors import DfkdError
    from harness.grids.search import Search
    from harness.schedule import preflight
    from harness.schedule.run import run

    preflight.arguments(workers, errand.gpus, address, ())
    if trials < 1:
        raise DfkdError(f"--trials {trials}: give 1 or more")
    search = Search(goal, errand.out, trials, tell)
    with search.held():
        search.check_origin(errand.teachers_dir)
        own = dataclasses.replace(errand, out=search.folder, on="val")
        interrupted = run(search, own, workers, address)
        search.save()
    return search, interrupted
