"""The order of a run, whoever does the work: prepare what is open, teachers, trials, and look again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.errors import DiskError
from harness.schedule import preflight
from harness.schedule.attempt import Errand, attempt, ensure_teacher, in_a_line
from harness.schedule.board import Board, Engine, tell_teacher
from harness.schedule.rungs import Climb
from harness.store.directory import Busy, TrialDir

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.grids.search import Search

#: a trial that a dying process held is taken by the next pass
_PASSES = 5
#: seconds in which the workers of a killed driver let go of their trials
_GRACE = 10.0


def run_passes(engine: Engine, board: Board, again: bool) -> None:
    """Try every open trial once.

    Args:
        engine: does the work.
        board: knows the trials.
        again: failed and skipped ones too, from nothing.
    """
    for _ in range(_PASSES):
        todo = [t for t in board.open(again) if _prepare(board.runs[t.id], again)]
        again = False
        if not todo:
            return
        board.plan(todo)
        _have_teachers(engine, board, todo)
        engine.trials(board, [t for t in todo if t.id not in board.tried])
        wait_for_orphans(board)


def _have_teachers(engine: Engine, board: Board, todo: Sequence[Trial]) -> None:
    """Trials without a teacher end here, with its reason."""
    users: dict[tuple[object, ...], list[Trial]] = {}
    for t in todo:
        users.setdefault((t.task, t.teacher, t.recipe, t.teacher_seed, t.teacher_digest), []).append(t)
    groups = list(users.values())
    for i, reason in engine.teachers(board, [group[0] for group in groups]).items():
        for trial in groups[i]:
            with suppress(DiskError):
                board.runs[trial.id].fail("infra", f"no teacher: {reason}")
            board.ended(trial.id, "")


def _prepare(run: TrialDir, again: bool) -> bool:
    """Write what the worker reads; False if the trial is settled by now, or somebody else's."""
    with suppress(Busy), run.lock():
        settled = run.settled()
        if settled == "done" or (settled in ("failed", "skipped") and not again):
            return False
        if settled in ("failed", "skipped"):  # what broke it may be in the checkpoint
            shutil.rmtree(run.path / "checkpoint", ignore_errors=True)
            run.cut(0)
        run.prepare()
        return True
    return False


def wait_for_orphans(board: Board) -> None:
    """The workers of a killed driver hold their trials a moment longer; those of a living one stay."""
    deadline = time.monotonic() + _GRACE
    while time.monotonic() < deadline:
        statuses = {run.status() for id, run in board.runs.items() if id not in board.tried}
        if "running" not in statuses or statuses & {"missing", "partial"}:
            return
        time.sleep(0.2)


class _Stop(BaseException):
    """Ends a trial from within, as Tune does: no failure, so no ``except Exception`` may take it for one."""


def search_here(search: Search, errand: Errand) -> None:
    """The trials of a search, one after the other, without Ray; stopped early by the same rule."""
    while trial := search.ask():
        climb = Climb(search.goal.eta, search.goal.by)
        outcome, cause = "", ""

        def point(row: Mapping[str, Any], id: str = trial.id, climb: Climb = climb) -> None:
            search.row(id, row)
            judged = climb(row)
            if judged and search.rungs.stops(id, int(judged["rung"]), judged["score"]):
                raise _Stop

        try:
            outcome = attempt(errand, search.runs[trial.id], partial(search.started, trial.id), point)
        except _Stop:
            outcome = "stopped"
        except Exception as error:  # noqa: BLE001 - the machine's, recorded: the others go on
            cause = in_a_line(error)
        search.ended(trial.id, outcome, cause)


def in_this_process(errand: Errand, gpus: float) -> Engine:
    """The engine of ``--workers 0``: one trial after the other, without Ray.

    Raises:
        DfkdError: when a GPU is wanted and there is none.
    """
    preflight.gpu_here(gpus)

    def teachers(board: Board, todo: Sequence[Trial]) -> dict[int, str]:
        failed = {}
        for i, trial in enumerate(todo):
            try:
                tell_teacher(board, trial, ensure_teacher(errand, trial))
            except Exception as error:  # noqa: BLE001 - recorded with each of its trials
                failed[i] = in_a_line(error)
        return failed

    def trials(board: Board, todo: Sequence[Trial]) -> None:
        for t in todo:
            start, point = partial(board.started, t.id), partial(board.row, t.id)
            outcome, cause = "", ""
            try:
                outcome = attempt(errand, board.runs[t.id], start, point)
            except Exception as error:  # noqa: BLE001 - the machine's, recorded: the others go on
                cause = in_a_line(error)
            board.ended(t.id, outcome, cause)

    return Engine(teachers, trials)
