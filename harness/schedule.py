"""Runs what is missing of a grid or a search: in this process, or mapped over a cluster by Ray Tune.

Tune only maps: each of its runs is fresh, only trial ids go through it, and what a trial has done is in
its directory; of a search it also stops trials early. Resuming is the harness's own (`harness.passes`,
`harness.search`). The only home of ray, imported late, and as long as that makes it.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import signal
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness import preflight
from harness.attempt import Errand, attempt, ensure_teacher, in_a_line
from harness.board import Board, Summary
from harness.errors import DfkdError
from harness.passes import (
    Engine,
    in_this_process,
    run_passes,
    search_here,
    tell_teacher,
    wait_for_orphans,
)
from harness.rungs import Climb

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.progress import Progress
    from harness.search import Search
    from harness.tracker import Tracker

#: tries of a trial within one run, beyond the first, when its worker or node dies
_RETRIES = 2
#: seconds between two reports of a worker, each a hand-shake of about 5 ms
_EVERY = 0.5
#: seconds without a place for any trial (a node was lost) after which waiting is given up
_NO_PLACE = 60.0

_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1",  # a trial without a share of a GPU sees none
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # only what comes to a rung is judged
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",  # nobody restores it
    "TUNE_WARN_INSUFFICENT_RESOURCE_THRESHOLD_S": "1000000",
}


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
        data_root: as `harness.trial.run_trial` takes it.
        teachers_dir: default ``<out>/teachers``.
        inception: as `harness.trial.run_trial` takes it.
        tracker: told of every trial; opened and closed here.
        retry: ``("failed",)`` runs failed and skipped trials again, from nothing.
        progress: told of every trial; None is silent.
        run_trial: ``module:function`` that runs a trial, imported by the workers.
        have_teacher: ``module:function`` that finds or trains a teacher.

    Returns:
        Where every trial stands now. Ctrl-C and SIGTERM end it early: `Summary.interrupted`.

    Raises:
        DfkdError: for what can never work (`harness.preflight`), before anything starts.
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


@contextmanager
def _on_ray(
    errand: Errand, workers: int | None, gpus: float, address: str | None, todo: Sequence[Trial]
) -> Iterator[Engine]:
    # What Ray has to say of a worker's death goes to stdout, whatever its settings.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), connected(address):
        _room(todo, gpus)
        _see_everything(errand, address)

        def teachers(board: Board, todo: Sequence[Trial]) -> dict[int, str]:
            return _have_teachers(errand, gpus, board, todo)

        def trials(board: Board, todo: Sequence[Trial]) -> None:
            if todo:
                room = _room(todo, gpus)
                _fit(errand, gpus, min(workers or room, room), board, todo)

        yield Engine(teachers, trials)


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Ray, quiet: the cluster at ``address``, else one of this machine's own that ends with the block.

    A connection that is there already is used and left alone.

    Raises:
        DfkdError: when no cluster answers.
    """
    for name, value in _ENV.items():
        os.environ.setdefault(name, value)
    if not address and "RAY_AUTH_MODE" not in os.environ:
        # Ray listens on every interface. A token of our own, and no file in the home folder.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    import ray

    if ray.is_initialized():
        yield
        return
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        place: dict[str, Any] = {"address": address}
        if not address:
            # Unix sockets lie in it and their names may have 107 bytes: TMPDIR may be too long.
            base = tempfile.gettempdir() if len(tempfile.gettempdir()) < 20 else "/tmp"
            # One level down: Ray opens its own folder to everybody, this one stays ours.
            folder = str(stack.enter_context(_scratch(Path(base), "dfkd-")) / "r")
            # "local", or else RAY_ADDRESS would decide.
            place = {"address": "local", "include_dashboard": False, "object_store_memory": 150 * 2**20}
            place["_temp_dir"] = folder
        stack.callback(ray.shutdown)
        try:
            ray.init(
                log_to_driver=False,
                logging_level="CRITICAL",
                runtime_env={"env_vars": {**_ENV, "PYTHONPATH": os.pathsep.join(_import_path())}},
                **place,
            )
        except Exception as error:
            what = f"--address {address}" if address else "Ray cannot start"
            raise DfkdError(f"{what}: {in_a_line(error)}") from error
        yield


def _import_path() -> list[str]:
    """What workers need beyond their own: folders of grids and plug-ins, not those of this Python."""
    own = tuple(sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib", "platlib", "scripts"))
    found = [os.path.abspath(p) for p in sys.path if not p.endswith(".zip")]
    return list(dict.fromkeys(p for p in found if not p.startswith(own)))


def _nodes() -> list[dict[str, Any]]:
    import ray

    return [n for n in ray.nodes() if n["Alive"]]


def _room(todo: Sequence[Trial], gpus: float) -> int:
    nodes = [n["Resources"] for n in _nodes()]
    return min(preflight.slots(nodes, cpus, gpus) for cpus in {t.cpus for t in todo})


def _see_everything(errand: Errand, address: str | None) -> None:
    nodes = _nodes()
    if len(nodes) == 1 and not address:
        return
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    sites = [
        preflight.Site("--out", errand.out, True),
        preflight.Site("the teachers' folder", errand.teachers_dir, True),
    ]
    for setting, path in (("--data-root", errand.data_root), ("--inception-weights", errand.inception)):
        if path and path.exists():
            sites.append(preflight.Site(setting, path, False))
    look = ray.remote(num_cpus=0, max_retries=0)(preflight.seen_from_here)

    def ask(i: int, token: str) -> str | None:
        where = NodeAffinitySchedulingStrategy(nodes[i]["NodeID"], soft=False)
        try:
            reply: str | None = ray.get(
                look.options(scheduling_strategy=where).remote(sites, token, str(i)), timeout=60
            )
        except Exception as error:  # noqa: BLE001 - a node that cannot do this can do nothing
            return f"no answer: {str(error).strip().splitlines()[-1]}"
        return reply

    preflight.visible(sites, [n["NodeManagerAddress"] for n in nodes], ask)


def _have_teachers(errand: Errand, gpus: float, board: Board, todo: Sequence[Trial]) -> dict[int, str]:
    import ray

    job = ray.remote(max_retries=_RETRIES)(ensure_teacher)
    jobs = {job.options(num_cpus=t.cpus, num_gpus=gpus).remote(errand, t): i for i, t in enumerate(todo)}
    failed, waiting = dict[int, str](), list(jobs)
    while waiting:
        (ready,), waiting = ray.wait(waiting)
        i = jobs[ready]
        try:
            tell_teacher(board, todo[i], ray.get(ready))
        except ray.exceptions.RayTaskError as error:
            failed[i] = in_a_line(getattr(error, "cause", None) or error)
        except ray.exceptions.RayError as error:
            failed[i] = _cause(str(error))
    return failed


class _Post:
    """Carries a trial's points from its worker to the driver, in bundles; what is to be judged, at once."""

    def __init__(self, report: Callable[[dict[str, Any]], None], climb: Climb | None = None) -> None:
        self._report, self._rows, self._sent = report, list[Mapping[str, Any]](), time.monotonic()
        self._climb = climb

    def start(self) -> None:
        self._report({"started": True})

    def row(self, row: Mapping[str, Any]) -> None:
        self._rows.append(row)
        judged = self._climb(row) if self._climb else {}
        if judged or time.monotonic() - self._sent >= _EVERY:
            self._report({"rows": self._rows, **judged})
            self._rows, self._sent = [], time.monotonic()

    def end(self, outcome: str) -> None:
        self._report({"rows": self._rows, "outcome": outcome})


class _Judged:
    """A search as Tune takes it: trials come from `Search.ask`, ASHA stops those that fall behind."""

    def __init__(self, search: Search) -> None:
        self.search, self.cpus = search, search.goal.start.cpus
        self.eta, self.by = search.goal.eta, search.goal.by

    def tune_config(self, workers: int) -> Any:
        from ray import tune
        from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
        from ray.tune.search import Searcher

        search = self.search

        class Asks(Searcher):
            """Hands Tune the ids that the search asks for."""

            def suggest(self, trial_id: str) -> Any:
                trial = search.ask()
                return {"id": trial.id} if trial else Searcher.FINISHED

            def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
                """Heard by the callback already."""

            def save(self, checkpoint_path: str) -> None:
                """Nobody restores it."""

            def __getstate__(self) -> dict[str, Any]:
                """Nothing, as the callback's."""
                return {}

        rules = FIFOScheduler()
        if self.eta:
            rules = ASHAScheduler(
                "rung", "score", "max", max_t=search.rungs.points, grace_period=1, reduction_factor=self.eta
            )
            for rung, scores in search.rungs.scores.items():  # what ran before, told as if it ran now
                for id, score in scores.items():
                    told = SimpleNamespace(trial_id=id)
                    rules.on_trial_add(None, told)
                    rules.on_trial_result(None, told, {"rung": rung, "score": score})
        # An actor whose trial was stopped still works at it: the next trial gets a fresh one.
        return tune.TuneConfig(
            search_alg=Asks(), num_samples=-1, scheduler=rules, max_concurrent_trials=workers
        )


def _fit(
    errand: Errand,
    gpus: float,
    workers: int,
    board: Board,
    todo: Sequence[Trial],
    judged: _Judged | None = None,
) -> None:
    """One fresh Tune run over the ids; with ``judged``, over those that a search asks for."""
    from ray import tune

    how = (judged.eta, judged.by) if judged else None

    def trial(config: dict[str, Any]) -> None:
        post = _Post(tune.report, Climb(*how) if how else None)
        post.end(attempt(errand, errand.load(config["id"]), post.start, post.row))

    cpus, each = {t.id: t.cpus for t in todo}, judged.cpus if judged else 1
    sized = tune.with_resources(
        trial, lambda config: tune.PlacementGroupFactory([{"CPU": cpus.get(config["id"], each), "GPU": gpus}])
    )
    mapped = tune.TuneConfig(max_concurrent_trials=workers, reuse_actors=True)
    with _scratch(errand.out, ".ray-") as folder:
        tune.Tuner(
            sized,
            param_space=None if judged else {"id": tune.grid_search(list(cpus))},
            tune_config=judged.tune_config(workers) if judged else mapped,
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=_RETRIES),
                callbacks=[_callback(board, gpus)],
                verbose=0,
            ),
        ).fit()


def _callback(board: Board, gpus: float) -> Any:
    from ray import tune

    class Listener(tune.Callback):
        """Hears in the driver what workers report."""

        def __init__(self, board: Board) -> None:
            self.board, self.over = board, set[str]()
            self.looked = self.placed = time.monotonic()

        def __getstate__(self) -> dict[str, Any]:
            """Nothing: Tune pickles its callbacks for a restore that never comes; a board cannot be."""
            return {}

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            id = trial.config["id"]
            if result.get("started"):
                self.board.started(id)
            for row in result.get("rows") or ():
                self.board.row(id, row)
            if outcome := result.get("outcome"):
                self.over.add(id)
                self.board.ended(id, outcome)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            """Ended without an outcome: a search's trial that was stopped early."""
            if trial.config["id"] not in self.over:
                self.board.ended(trial.config["id"], "stopped")

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            text = ""
            with suppress(OSError):  # a full disk has no such file
                text = Path(trial.error_file).read_text()
            self.board.ended(trial.config["id"], "", _cause(text))

        def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
            """Never wait for ever: a node may have gone that alone could place what is left."""
            now = time.monotonic()
            if now - self.looked < _NO_PLACE / 10:
                return
            self.looked = now
            waiting = [self.board.trials[t.config["id"]] for t in trials if t.status == "PENDING"]
            if not waiting or any(t.status == "RUNNING" for t in trials):
                self.placed = now
                return
            try:
                _room(waiting, gpus)
                self.placed = now
            except DfkdError:
                if now - self.placed > _NO_PLACE:
                    raise

    return Listener(board)


def _cause(text: str) -> str:
    """Why a worker ended, in a line, from what Ray says of it."""
    if "running low on memory" in text:
        return "its node ran out of memory and Ray killed the worker"
    if "node has died" in text or "node was terminated" in text:
        return "its node was lost"
    if "actor died" in text or "worker died" in text:
        return "its worker process was killed"
    lines = text.strip().splitlines()
    return lines[-1] if lines else "its worker ended without a result"


@contextmanager
def _scratch(base: Path, prefix: str) -> Iterator[Path]:
    """A folder of our own under ``base``, gone afterwards; sweeps those whose driver was killed."""
    for left in base.glob(f"{prefix}*.lock"):
        with suppress(Timeout, OSError), FileLock(left, timeout=0):
            shutil.rmtree(left.with_suffix(""), ignore_errors=True)
            left.unlink(missing_ok=True)
    folder = base / f"{prefix}{secrets.token_hex(5)}"
    lock = folder.with_suffix(".lock")
    try:
        with FileLock(lock):
            folder.mkdir(mode=0o700)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)
