"""Run what is missing, in this process or on Ray: teachers first, then trials, and look again."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.schedule import on_ray, preflight
from harness.schedule.attempt import Errand, attempt, ensure_teacher, in_a_line
from harness.schedule.board import Board, Summary
from harness.schedule.rungs import Climb
from harness.schedule.work import Engine, Work

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.schedule.progress import Progress
    from harness.store.mlflow_tracker import Tracker

#: a trial that a dying process held is taken by the next pass
_PASSES = 5
#: seconds in which the workers of a killed driver let go of their trials
GRACE = 10.0


def run_trials(
    trials: Sequence[Trial],
    errand: Errand,
    *,
    workers: int | None = None,
    address: str | None = None,
    tracker: Tracker | None = None,
    retry: Sequence[str] = (),
    progress: Progress | None = None,
    grace: float = GRACE,
) -> Summary:
    """Run the trials that have no outcome yet, their teachers first.

    Args:
        trials: those of a grid; one id is run once.
        errand: where things lie; what every worker is told.
        workers: trials at a time, as far as they fit; None takes what fits; 0 runs in this process
            without Ray.
        address: ``host:port`` or ``auto``, of a running Ray cluster that this machine belongs to.
        tracker: told of every trial; opened and closed here.
        retry: ``("failed",)`` runs failed and skipped trials again, from nothing.
        progress: told of every trial; None is silent.
        grace: as `run` takes it.

    Returns:
        Where every trial stands now. Ctrl-C and SIGTERM end it early: `Summary.interrupted`.

    Raises:
        DfkdError: for what can never work (`harness.schedule.preflight`), before anything starts.
    """
    began = time.monotonic()
    preflight.arguments(workers, errand.gpus, address, retry)
    board = Board(trials, errand.out, tracker, progress, again=bool(retry))
    interrupted = run(board, errand, workers, address, grace)
    return board.summary(time.monotonic() - began, interrupted)


def run(work: Work, errand: Errand, workers: int | None, address: str | None, grace: float = GRACE) -> bool:
    """Do what is open of the work; where nothing is, nothing is loaded or written.

    Args:
        work: which trials, and who hears of them; closed here.
        errand: what every worker is told.
        workers: as `run_trials` takes it.
        address: as `run_trials` takes it.
        grace: seconds to wait for trials that the workers of a killed driver still hold.

    Returns:
        Whether Ctrl-C or SIGTERM ended it early.

    Raises:
        DfkdError: for what can never work, before anything starts.
    """
    _wait_for_orphans(work, grace)
    todo, cause = work.open(), ""
    if not todo:
        return False
    preflight.writable("--out", errand.out)
    preflight.writable("the teachers' folder", errand.teachers_dir)
    preflight.reachable(address)
    try:
        made = nullcontext(_here(errand)) if workers == 0 else on_ray.engine(errand, workers, address, todo)
        with made as engine, _sigterm_as_ctrl_c():
            for _ in range(_PASSES):
                if not (todo := work.take()):
                    break
                if taught := _taught(engine, work, todo):
                    engine.trials(work, taught)
                _wait_for_orphans(work, grace)
    except KeyboardInterrupt:
        cause = "interrupted by Ctrl-C or SIGTERM"
        return True
    except Exception as error:
        cause = in_a_line(error)
        raise
    finally:
        work.close(cause)  # after Ray: no worker writes any more
    return False


def _taught(engine: Engine, work: Work, todo: Sequence[Trial]) -> list[Trial]:
    """Those of the trials that have a teacher now; the work hears of the others."""
    users: dict[tuple[object, ...], list[Trial]] = {}
    for t in todo:
        users.setdefault((t.task, t.teacher, t.recipe, t.teacher_seed, t.teacher_digest), []).append(t)
    groups = list(users.values())
    failed = engine.teachers(work, [group[0] for group in groups])
    for i, reason in failed.items():
        for trial in groups[i]:
            work.untaught(trial, reason)
    return [trial for i, group in enumerate(groups) if i not in failed for trial in group]


def _wait_for_orphans(work: Work, grace: float) -> None:
    """The workers of a killed driver hold their trials a moment longer; those of a living one stay."""
    deadline = time.monotonic() + grace
    while time.monotonic() < deadline:
        statuses = {run.status() for id, run in work.runs.items() if id not in work.tried}
        if "running" not in statuses or statuses & {"missing", "partial"}:
            return
        time.sleep(0.2)


class _Stop(BaseException):
    """Ends a trial from within, as Tune does: no failure, so no ``except Exception`` may take it for one."""


def _here(errand: Errand) -> Engine:
    """The engine of ``--workers 0``: one trial after the other, without Ray.

    Raises:
        DfkdError: when a GPU is wanted and there is none.
    """
    preflight.gpu_here(errand.gpus)

    def teachers(work: Work, todo: Sequence[Trial]) -> dict[int, str]:
        failed = {}
        for i, trial in enumerate(todo):
            try:
                if line := ensure_teacher(errand, trial):
                    work.say(line)
            except Exception as error:  # noqa: BLE001 - recorded with each of its trials
                failed[i] = in_a_line(error)
        return failed

    def trials(work: Work, todo: Sequence[Trial]) -> None:
        while trial := work.next():
            climb, outcome, cause = Climb(work.rungs.eta, work.rungs.by), "", ""

            def point(row: Mapping[str, Any], id: str = trial.id, climb: Climb = climb) -> None:
                work.row(id, row)
                judged = climb(row)
                if judged and work.rungs.stops(id, int(judged["rung"]), judged["score"]):
                    raise _Stop

            try:
                outcome = attempt(errand, work.runs[trial.id], partial(work.started, trial.id), point)
            except _Stop:
                outcome = "stopped"
            except Exception as error:  # noqa: BLE001 - the machine's, recorded: the others go on
                cause = in_a_line(error)
            work.ended(trial.id, outcome, cause)

    return Engine(teachers, trials)


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[None]:
    """A batch system's SIGTERM ends a run as Ctrl-C does; Ray's own handler prints a stack."""

    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
