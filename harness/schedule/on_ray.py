"""Runs what is missing of a grid or a search: in this process, or mapped over a cluster by Ray Tune.

Tune only maps: each of its runs is fresh, only trial ids go through it, and what a trial has done is in
its directory; of a search it also stops trials early. Resuming is the harness's own
(`harness.schedule.passes`,
`harness.grids.search`). The only home of ray, imported late, and as long as that makes it.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import DfkdError
from harness.schedule import preflight
from harness.schedule.attempt import Errand, _cause, _Post, attempt, ensure_teacher, in_a_line
from harness.schedule.board import Board, Engine, tell_teacher
from harness.schedule.preflight import _import_path
from harness.schedule.rungs import Climb

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.grids.search import Search

#: tries of a trial within one run, beyond the first, when its worker or node dies
_RETRIES = 2
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
            folder = str(stack.enter_context(files.scratch(Path(base), "dfkd-")) / "r")
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
    with files.scratch(errand.out, ".ray-") as folder:
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
