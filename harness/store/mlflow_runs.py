"""MLflow as a view of the trial directories: written by the driver alone, rebuilt from them at any time.

`Ledger` writes (through `harness.store.mlflow_tracker.Tracker`, which never stops a trial), `Download` reads.
The only home of mlflow, imported when it is used.
"""

from __future__ import annotations

import gc
import logging
import os
import shutil
import tempfile
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness import files
from harness.errors import DfkdError
from harness.store import mlflow_record as record
from harness.store.directory import Look, Store, TrialDir
from harness.store.mlflow_place import Place, mask, sqlite_file, told
from harness.store.mlflow_record import Live, Numbers

if TYPE_CHECKING:
    import numpy as np
    from mlflow import MlflowClient

    from harness.config import Trial

_ENV = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
}
_PAGE = 500  # runs in one request


@dataclass(frozen=True)
class Synced:
    """What `Tracker.sync` did, counted in runs."""

    created: int = 0
    completed: int = 0
    removed: int = 0
    unchanged: int = 0


class Recorded(NamedTuple):
    """What is asked of a run that MLflow holds; its own object takes five times the memory."""

    run_id: str
    status: str
    started: int
    artifacts: str
    tags: dict[str, str]


class Ledger:
    """The writing itself, one call after the other; every failure of MLflow comes through."""

    def __init__(self, place: Place) -> None:
        self.place = place

    def open(self) -> Ledger:
        """Connect; make database and experiment where there is none yet, one process at a time."""
        place, file = self.place, sqlite_file(self.place.uri)
        near = file or place.out / "mlflow"
        near.parent.mkdir(parents=True, exist_ok=True)
        place.out.mkdir(parents=True, exist_ok=True)
        with files.locked(near.with_name(near.name + ".lock")):  # MLflow's migrations take none
            if file is not None and not file.exists():
                # Killed half-way, a database stays unusable: it gets its name when it is whole.
                new = file.with_name(f".{file.name}.tmp")
                for left in (new, new.with_name(new.name + "-journal")):
                    left.unlink(missing_ok=True)
                _connect(f"sqlite:///{new}").search_experiments(max_results=1)
                new.replace(file)
            self.client = _connect(place.uri)
            found = self._experiment()
        self.experiment_id = found.experiment_id
        self.token = f"{found.experiment_id}@{found.creation_time}"
        place.remember(self.token)
        return self

    def _experiment(self) -> Any:
        from mlflow.exceptions import MlflowException

        place, named = self.place, self.client.get_experiment_by_name
        if (found := named(place.experiment)) is None:
            # A server keeps artifacts where it likes; a database does not say where.
            own = None if place.uri.startswith("http") else (place.out.absolute() / "mlartifacts").as_uri()
            with suppress(MlflowException):  # another machine was first
                self.client.create_experiment(place.experiment, own)
            found = named(place.experiment)
        if found is None:
            raise DfkdError(f"experiment {place.experiment!r} can neither be found nor created")
        if found.lifecycle_stage != "active":
            raise DfkdError(f"experiment {place.experiment!r} was deleted there; restore it")
        return found

    def begin(self, trial: Trial) -> Live:
        """The trial's run, RUNNING: looked up by the tag ``trial_id`` before it is created."""
        found = _runs(self.client, self.experiment_id, trial.id).get(trial.id)
        if not found:
            return self.create(trial)
        live = Live(trial, found[0].run_id, None)
        self.client.update_run(live.run_id, status="RUNNING")
        self._tag(live, {"status": "running", "record": ""})
        return live

    def create(self, trial: Trial) -> Live:
        """Another run for the trial."""
        from mlflow.entities import Param

        tags = {"trial_id": trial.id, "status": "running", "variant": trial.label or trial.method}
        run = self.client.create_run(self.experiment_id, tags=tags, run_name=trial.cell)
        params = [Param(k, v) for k, v in record.params(trial).items()]
        self.client.log_batch(run.info.run_id, params=params)
        return Live(trial, run.info.run_id)

    def log(self, live: Live, numbers: Numbers, after: int = 0) -> None:
        """Log numbers, stamped later than ``after`` (milliseconds): the latest value of a step counts."""
        from mlflow.entities import Metric

        now = max(int(time.time() * 1000), after + 1)
        metrics = [Metric(key, value, now, step) for (key, step), value in numbers.items()]
        self.client.log_batch(live.run_id, metrics=metrics)
        if live.have is not None:
            live.have |= numbers

    def complete(self, run: TrialDir, live: Live | None, status: str = "KILLED") -> None:
        """Make a run say what the directory says, the digest last."""
        want, after = record.record_of(run), 0
        live = live or self.begin(run.trial)
        have = live.have
        if have is None:
            have, after = _history(self.client, live.run_id)
        if have.keys() - want.numbers.keys():  # points of an attempt that was cut back: none can be unsaid
            self.remove(live.run_id)
            live, have = self.create(run.trial), {}
        self.log(live, record.missing(want.numbers, have), after)
        for name in want.tags["files"].split():
            self.client.log_artifact(live.run_id, str(run.path / name))
        for name in self.client.get_run(live.run_id).data.tags:
            if record.is_own(name) and name not in want.tags and name != "record":
                self.client.delete_tag(live.run_id, name)
        self._tag(live, want.tags)
        self.client.set_terminated(live.run_id, record.TERMINAL.get(want.status, status))
        self._tag(live, {"record": want.digest})
        self.place.mark(run, self.token, want.digest)

    def _tag(self, live: Live, tags: Mapping[str, str]) -> None:
        from mlflow.entities import RunTag

        self.client.log_batch(live.run_id, tags=[RunTag(k, v) for k, v in tags.items()])

    def remove(self, run_id: str) -> None:
        """Delete a run; it stays in MLflow's bin."""
        self.client.set_terminated(run_id, "KILLED")
        self.client.delete_run(run_id)

    def sync(self, trials: Sequence[Trial], dirs: Store) -> Synced:
        """As `harness.store.mlflow_tracker.Tracker.sync`."""
        self.open()
        done = Counter[str]()
        recorded = _runs(self.client, self.experiment_id)
        for run in map(dirs.run, trials):
            found = recorded.pop(run.id, [])
            if run.status() == "running" or not (found or record.has_story(run)):
                continue
            for double in found[1:]:
                self.remove(double.run_id)
                done["removed"] += 1
            digest = record.state_digest(run)
            if found and found[0].tags.get("record") == digest and found[0].status != "RUNNING":
                done["unchanged"] += 1
                self.place.mark(run, self.token, digest)
            else:
                live = Live(run.trial, found[0].run_id, None) if found else self.create(run.trial)
                self.complete(run, live)
                done["completed" if found else "created"] += 1
        for id, found in recorded.items():  # of other grids that wrote here: only no zombies
            path = dirs.out / "trials" / id
            for left in found:
                if left.status == "RUNNING" and path.exists() and not files.held(path / "lock"):
                    self.client.set_terminated(left.run_id, "KILLED")
        return Synced(**done)


class Download(Store):
    """The files that MLflow holds of a grid, as a store; each is fetched when it is first asked for."""

    def __init__(self, uri: str, experiment: str) -> None:
        """Name the place (`harness.store.mlflow_place.resolve_uri`, the grid's name); connects later."""
        folder = tempfile.mkdtemp(prefix="dfkd-mlflow-")
        super().__init__(Path(folder))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.uri, self.experiment = uri, experiment

    def run(self, trial: Trial) -> TrialDir:
        """The trial's directory, with what `TrialDir.look` and `TrialDir.curve` read."""
        self._fetch(trial.id, {"result.json", "failure.json", "curve.jsonl"})
        return super().run(trial)

    def look(self, trial: Trial) -> Look:
        """As of any store; of a trial that runs, that it runs."""
        if (run := self._runs.get(trial.id)) and run.status == "RUNNING":
            return Look("running", None, None, ())
        return super().look(trial)

    def _arrays(self, id: str, name: str) -> dict[str, np.ndarray] | None:
        self._fetch(id, {name})
        return super()._arrays(id, name)

    @cached_property
    def _runs(self) -> dict[str, Recorded]:
        file = sqlite_file(self.uri)
        if file is not None and not file.exists():
            raise DfkdError(f"no MLflow database {file}: run `dfkd sync` first")
        with told(self.uri):
            client = _connect(self.uri)
            found = client.get_experiment_by_name(self.experiment)
            if found is None:
                raise DfkdError(
                    f"MLflow at {mask(self.uri)} has no experiment {self.experiment!r}: run `dfkd sync`"
                )
            return {id: runs[0] for id, runs in _runs(client, found.experiment_id).items()}

    def _fetch(self, id: str, names: set[str]) -> None:
        if (run := self._runs.get(id)) is None:
            return
        from mlflow import artifacts

        home = self.out / "trials" / id
        for name in names & set(run.tags.get("files", "").split()):
            if not (home / name).exists():
                with told(self.uri, f"cannot give {name} of trial {id}"):
                    # the client's own way to a run's artifacts asks for the run again
                    file = f"{run.artifacts}/{name}"
                    artifacts.download_artifacts(file, dst_path=str(home), tracking_uri=self.uri)


def _connect(uri: str) -> MlflowClient:
    for name, value in _ENV.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    for noisy in ("mlflow", "alembic", "urllib3.connectionpool"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    return MlflowClient(uri)


def _runs(client: MlflowClient, experiment_id: str, id: str | None = None) -> dict[str, list[Recorded]]:
    """Trial id -> its runs, the one to keep first: terminal before running, then the oldest."""
    runs: dict[str, list[Recorded]] = {}
    token, text = None, "" if id is None else f"tags.trial_id = '{id}'"
    collects = gc.isenabled()
    gc.disable()  # looking through all that stays, over and over, doubles the time of reading thousands
    try:
        while True:
            page = client.search_runs([experiment_id], text, max_results=_PAGE, page_token=token)
            for run in page:
                info, tags = run.info, run.data.tags
                if name := tags.get("trial_id"):
                    found = Recorded(info.run_id, info.status, info.start_time, info.artifact_uri, tags)
                    runs.setdefault(name, []).append(found)
            if not (token := page.token):
                break
    finally:
        if collects:
            gc.enable()
    for several in runs.values():
        several.sort(key=lambda run: (run.status != "FINISHED", run.started, run.run_id))
    return runs


def _history(client: MlflowClient, run_id: str) -> tuple[Numbers, int]:
    """(metric, step) -> value logged last, and the latest time stamp in milliseconds."""
    numbers: Numbers = {}
    newest = 0
    for name in client.get_run(run_id).data.metrics:
        logged = [(m.timestamp, m.step, m.value) for m in client.get_metric_history(run_id, name)]
        numbers |= {(name, step): value for step, value in record.latest(logged).items()}
        newest = max([newest, *(time for time, _, _ in logged)])
    return numbers, newest
