"""Run what is missing, in this process or on Ray."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DfkdError
from harness.schedule import preflight
from harness.schedule.attempt import Errand, in_a_line
from harness.schedule.board import Board, Engine, Summary
from harness.schedule.on_ray import _fit, _Judged, _on_ray, _room
from harness.schedule.passes import in_this_process, run_passes, search_here, wait_for_orphans

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.grids.search import Search
    from harness.schedule.progress import Progress
    from harness.store.mlflow_tracker import Tracker


def run_trials(
    trials: Sequence[Trial],
    out: Path,
    *,
    workers: int | None = None,
    gpus_per_trial: float = 0.0,
    address: str | None = None,
    data_root: Path | None = None,
    teachers_dir: Path | None = None,
    inception: Path | None = None,
    tracker: Tracker | None = None,
    retry: Sequence[str] = (),
    progress: Progress | None = None,
    run_trial: str = Errand.run_trial,
    have_teacher: str = Errand.have_teacher,
) -> Summary:
    """Run the trials that have no outcome yet, their teachers first.

    Args:
        trials: those of a grid; one id is run once.
        out: the store; trial directories lie in ``<out>/trials``.
        workers: trials at a time, as far as they fit; None takes what fits; 0 runs in this process
            without Ray.
        gpus_per_trial: a share of a GPU, or a whole number.
        address: ``host:port`` or ``auto``, of a running Ray cluster that this machine belongs to.
        data_root: as `harness.trials.trial.run_trial` takes it.
        teachers_dir: default ``<out>/teachers``.
        inception: as `harness.trials.trial.run_trial` takes it.
        tracker: told of every trial; opened and closed here.
        retry: ``("failed",)`` runs failed and skipped trials again, from nothing.
        progress: told of every trial; None is silent.
        run_trial: ``module:function`` that runs a trial, imported by the workers.
        have_teacher: ``module:function`` that finds or trains a teacher.

    Returns:
        Where every trial stands now. Ctrl-C and SIGTERM end it early: `Summary.interrupted`.

    Raises:
        DfkdError: for what can never work (`harness.schedule.preflight`), before anything starts.
    """
    began = time.monotonic()
    preflight.arguments(workers, gpus_per_trial, address, retry)
    out = Path(out).absolute()
    errand = Errand(
        out=out,
        data_root=Path(data_root).absolute() if data_root else None,
        teachers_dir=Path(teachers_dir or out / "teachers").absolute(),
        device="cuda" if gpus_per_trial else "cpu",
        inception=Path(inception).absolute() if inception else None,
        run_trial=run_trial,
        have_teacher=have_teacher,
    )
    board, interrupted, cause = Board(trials, out, tracker, progress), False, ""
    wait_for_orphans(board)  # a driver killed a moment ago: its trials are about to be free
    todo = board.open(again=bool(retry))
    if todo:
        preflight.writable("--out", out)
        preflight.writable("the teachers' folder", errand.teachers_dir)
        preflight.reachable(address)
        try:
            if workers == 0:
                with _sigterm_as_ctrl_c():
                    run_passes(in_this_process(errand, gpus_per_trial), board, bool(retry))
            else:
                with _on_ray(errand, workers, gpus_per_trial, address, todo) as engine, _sigterm_as_ctrl_c():
                    run_passes(engine, board, bool(retry))
        except KeyboardInterrupt:
            interrupted, cause = True, "interrupted by Ctrl-C or SIGTERM"
        except Exception as error:
            cause = in_a_line(error)
            raise
        finally:
            board.close(cause)  # after Ray: no worker writes any more
    return board.summary(time.monotonic() - began, interrupted)


def run_search(
    search: Search, errand: Errand, workers: int | None, gpus_per_trial: float, address: str | None
) -> bool:
    """Run the trials that a search asks for, its teacher first; arguments as `run_trials` takes them.

    Returns:
        Whether Ctrl-C or SIGTERM ended it early.

    Raises:
        DfkdError: for what can never work, or a teacher that cannot be had.
    """
    cause, one = "", [search.goal.start]
    preflight.reachable(address)

    def have_teacher(engine: Engine) -> None:
        if reasons := engine.teachers(search, one):
            raise DfkdError(f"no teacher: {reasons[0]}")

    try:
        if workers == 0:
            engine = in_this_process(errand, gpus_per_trial)
            with _sigterm_as_ctrl_c():
                have_teacher(engine)
                search_here(search, errand)
        else:
            with _on_ray(errand, workers, gpus_per_trial, address, one) as engine, _sigterm_as_ctrl_c():
                have_teacher(engine)
                room = _room(one, gpus_per_trial)
                _fit(errand, gpus_per_trial, min(workers or room, room), search, [], _Judged(search))
    except KeyboardInterrupt:
        cause = "interrupted by Ctrl-C or SIGTERM"
    except Exception as error:
        cause = in_a_line(error)
        raise
    finally:
        search.close(cause)
    return bool(cause)


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
