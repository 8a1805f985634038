"""Work mapped over a cluster by Ray Tune.

Tune only maps: each of its runs is fresh, only trial ids go through it, and what a trial has done is in
its directory; where the work has rungs it also stops trials early. Resuming is the harness's own
(`harness.schedule.run`). The only home of ray, imported late.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from harness import files
from harness.errors import DfkdError
from harness.schedule import preflight
from harness.schedule.attempt import Errand, Post, attempt, cause_of, ensure_teacher, in_a_line
from harness.schedule.rungs import Climb, Rungs
from harness.schedule.work import Engine, Work
from harness.store.directory import TrialDir

if TYPE_CHECKING:
    from harness.config import Trial

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
def engine(
    errand: Errand, workers: int | None, address: str | None, todo: Sequence[Trial]
) -> Iterator[Engine]:
    """The engine of every other ``--workers``: Ray maps teachers and trials over the machines that it has.

    Args:
        errand: what every worker is told.
        workers: trials at a time, as far as they fit; None takes what fits.
        address: as `connected` takes it.
        todo: trials that must have a place.

    Raises:
        DfkdError: for what Ray could never place, a node that does not share the driver's files, or no Ray.
    """
    # What Ray has to say of a worker's death goes to stdout, whatever its settings.
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), connected(address):
        _room(todo, errand.gpus)
        if address or len(_nodes()) > 1:
            _see_everything(errand)
        yield Engine(partial(_have_teachers, errand), partial(_fit, errand, workers))


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
                runtime_env={"env_vars": {**_ENV, "PYTHONPATH": os.pathsep.join(preflight.import_path())}},
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


def _see_everything(errand: Errand) -> None:
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = _nodes()
    sites = preflight.sites(errand.out, errand.teachers_dir, errand.data_root, errand.inception)
    look = ray.remote(num_cpus=0, max_retries=0)(preflight.seen_from_here)

    def ask(i: int, token: str) -> str | None:
        where = NodeAffinitySchedulingStrategy(nodes[i]["NodeID"], soft=False)
        try:
            asked = look.options(scheduling_strategy=where).remote(sites, token, str(i))
            return ray.get(asked, timeout=60)
        except Exception as error:  # noqa: BLE001 - a node that cannot do this can do nothing
            return f"no answer: {str(error).strip().splitlines()[-1]}"

    preflight.visible(sites, [n["NodeManagerAddress"] for n in nodes], ask)


def _have_teachers(errand: Errand, work: Work, todo: Sequence[Trial]) -> dict[int, str]:
    import ray

    job = ray.remote(max_retries=_RETRIES)(ensure_teacher)
    jobs = {
        job.options(num_cpus=t.cpus, num_gpus=errand.gpus).remote(errand, t): i for i, t in enumerate(todo)
    }
    failed, waiting = dict[int, str](), list(jobs)
    while waiting:
        (ready,), waiting = ray.wait(waiting)
        try:
            if line := ray.get(ready):
                work.say(line)
        except ray.exceptions.RayTaskError as error:
            failed[jobs[ready]] = in_a_line(getattr(error, "cause", None) or error)
        except ray.exceptions.RayError as error:
            failed[jobs[ready]] = cause_of(str(error))
    return failed


def _fit(errand: Errand, workers: int | None, work: Work, todo: Sequence[Trial]) -> None:
    """One fresh Tune run over what `Work.next` hands out."""
    from ray import tune

    gpus, rungs, room = errand.gpus, (work.rungs.eta, work.rungs.by), _room(todo, errand.gpus)

    def trial(config: dict[str, Any]) -> None:
        post = Post(tune.report, Climb(*rungs))
        run = TrialDir.at(errand.out / "trials" / config["id"])
        post.end(attempt(errand, run, post.start, post.row))

    sized = tune.with_resources(
        trial, lambda config: tune.PlacementGroupFactory([{"CPU": config["cpus"], "GPU": gpus}])
    )
    with files.scratch(errand.out, ".ray-") as folder:
        tune.Tuner(
            sized,
            tune_config=tune.TuneConfig(
                search_alg=_asks(work),
                num_samples=-1,
                scheduler=_asha(work.rungs),
                max_concurrent_trials=min(workers or room, room),
                # An actor whose trial was stopped still works at it: the next trial gets a fresh one.
                reuse_actors=not work.rungs.eta,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                failure_config=tune.FailureConfig(max_failures=_RETRIES),
                callbacks=[_callback(work, gpus)],
                verbose=0,
            ),
        ).fit()


def _asks(work: Work) -> Any:
    from ray.tune.search import Searcher

    class Asks(Searcher):
        """Hands Tune the trials that the work has next: their ids, and what size they are."""

        def __init__(self, work: Work) -> None:
            super().__init__()
            self.work = work

        def suggest(self, trial_id: str) -> Any:
            trial = self.work.next()
            return {"id": trial.id, "cpus": trial.cpus} if trial else Searcher.FINISHED

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            """Heard by the callback already."""

        def save(self, checkpoint_path: str) -> None:
            """Nobody restores it."""

        def __getstate__(self) -> dict[str, Any]:
            """Nothing, as the callback's."""
            return {}

    return Asks(work)


def _asha(rungs: Rungs) -> Any:
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if not rungs.eta:
        return FIFOScheduler()
    asha = ASHAScheduler(
        "rung", "score", "max", max_t=rungs.points, grace_period=1, reduction_factor=rungs.eta
    )
    for rung, scores in rungs.scores.items():  # what ran before, told as if it ran now
        for id, score in scores.items():
            told = SimpleNamespace(trial_id=id)
            asha.on_trial_add(None, told)
            asha.on_trial_result(None, told, {"rung": rung, "score": score})
    return asha


def _callback(work: Work, gpus: float) -> Any:
    from ray import tune

    class Listener(tune.Callback):
        """Hears in the driver what workers report."""

        def __init__(self, work: Work) -> None:
            self.work, self.over = work, set[str]()
            self.looked = self.placed = time.monotonic()

        def __getstate__(self) -> dict[str, Any]:
            """Nothing: Tune pickles its callbacks for a restore that never comes; work cannot be."""
            return {}

        def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Any, **info: Any) -> None:
            id = trial.config["id"]
            if result.get("started"):
                self.work.started(id)
            for row in result.get("rows") or ():
                self.work.row(id, row)
            if outcome := result.get("outcome"):
                self.over.add(id)
                self.work.ended(id, outcome)

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            """Ended without an outcome: stopped early."""
            if trial.config["id"] not in self.over:
                self.work.ended(trial.config["id"], "stopped")

        def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            text = ""
            with suppress(OSError):  # a full disk has no such file
                text = Path(trial.error_file).read_text()
            self.work.ended(trial.config["id"], "", cause_of(text))

        def on_step_end(self, iteration: int, trials: Any, **info: Any) -> None:
            """Never wait for ever: a node may have gone that alone could place what is left."""
            now = time.monotonic()
            if now - self.looked < _NO_PLACE / 10:
                return
            self.looked = now
            waiting = [self.work.trials[t.config["id"]] for t in trials if t.status == "PENDING"]
            if not waiting or any(t.status == "RUNNING" for t in trials):
                self.placed = now
                return
            try:
                _room(waiting, gpus)
                self.placed = now
            except DfkdError:
                if now - self.placed > _NO_PLACE:
                    raise

    return Listener(work)
