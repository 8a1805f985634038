"""Tells MLflow of trials while they run, and completes its record afterwards from their directories."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DfkdError
from harness.store import mlflow_record
from harness.store.directory import Store
from harness.store.mlflow_place import Place, mask, reason, resolve_uri, told
from harness.store.mlflow_record import Live
from harness.store.mlflow_runs import Ledger, Synced

if TYPE_CHECKING:
    from harness.config import Trial

#: Points are logged in bundles: one write in so many seconds, whatever the number of trials.
_EVERY = 5.0
#: what happened, to which trial, and what else there is to it
_Word = tuple[str, "Trial | None", Any]


def needs_sync(trials: Iterable[Trial], dirs: Store, uri: str | None, experiment: str) -> bool:
    """Whether MLflow may lack something of these trials; loads no MLflow and asks no server."""
    place = Place(resolve_uri(uri, dirs.out), dirs.out, experiment)
    token = place.token()
    return any(
        token is None or not place.is_marked(run, token, mlflow_record.state_digest(run))
        for run in map(dirs.run, trials)
        if mlflow_record.has_story(run) and run.status() != "running"
    )


class Tracker:
    """Tells MLflow of trials as they run, from a thread of its own: a slow server delays nobody.

    When MLflow fails, one line goes to stderr, and nothing more is sent until `sync`.
    """

    def __init__(self, uri: str | None, out: Path, experiment: str) -> None:
        """Name the place; connects to nothing.

        Raises:
            DfkdError: for a URI that cannot be one.
        """
        self.uri = resolve_uri(uri, out)
        self.failed = False
        self._dirs = Store(out)
        self._place = Place(self.uri, self._dirs.out, experiment)
        self._queue: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Start writing; a new database is made meanwhile, once, under a lock."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="tracker", daemon=True)
            self._thread.start()

    def start(self, trial: Trial) -> None:
        """The trial runs: its MLflow run is found by the tag ``trial_id``, or created."""
        self._put(("start", trial, None))

    def point(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """The trial's curve has another row."""
        self._put(("point", trial, dict(row)))

    def end(self, trial: Trial, status: str = "KILLED") -> None:
        """The trial runs no longer: its directory tells the rest.

        Args:
            trial: which.
            status: FINISHED, FAILED or KILLED; counts where the directory holds no outcome.
        """
        self._put(("end", trial, status))

    def close(self, wait: float = 30.0) -> None:
        """Write what is queued, for at most ``wait`` seconds; trials not ended count as killed."""
        if self._thread is None:
            return
        self._queue.put(("stop", None, None))
        self._thread.join(wait)
        if self._thread.is_alive():
            self._give_up(f"not done after {wait:g} s")
        self._thread = None

    def sync(self, trials: Sequence[Trial], dirs: Store) -> Synced:
        """Make MLflow's record of these trials equal to their directories; idempotent.

        Creates runs that are missing, completes those that lack something, removes doubles, and leaves
        none RUNNING but those a live lock stands for.

        Raises:
            DfkdError: when MLflow cannot be reached.
        """
        self.close()
        with told(self.uri):
            return Ledger(self._place).sync(trials, dirs)

    def complete(self, trials: Sequence[Trial]) -> None:
        """`sync` where MLflow may lack something of these trials; nothing is loaded where it cannot.

        When MLflow fails, or has failed before, that is a line on stderr and no more.
        """
        if self.failed or not needs_sync(trials, self._dirs, self.uri, self._place.experiment):
            return
        try:
            self.sync(trials, self._dirs)
        except DfkdError as error:
            print(f"{error}; `dfkd sync` completes the record", file=sys.stderr, flush=True)

    def _write(self) -> None:
        ledger, live, rows = Ledger(self._place), dict[str, Live](), dict[str, mlflow_record.Numbers]()

        def begin(trial: Trial) -> Live:
            if trial.id not in live:
                live[trial.id] = ledger.begin(trial)
            return live[trial.id]

        def end(trial: Trial, status: str) -> None:
            ledger.complete(self._dirs.run(trial), live.pop(trial.id, None), status)

        try:
            ledger.open()
            due = time.monotonic() + _EVERY
            while not self.failed:
                kind, trial, more = self._next(due if rows else None)
                if trial is not None and kind == "point":
                    begin(trial)
                    rows.setdefault(trial.id, {}).update(mlflow_record.row_numbers(more))
                if kind in ("end", "stop") or (rows and time.monotonic() >= due):
                    for id, numbers in rows.items():
                        ledger.log(live[id], numbers)
                    rows.clear()
                if not rows:
                    due = time.monotonic() + _EVERY
                if trial is not None and kind == "start":
                    begin(trial)
                elif trial is not None and kind == "end":
                    end(trial, more)
                elif kind == "stop":
                    for left in [state.trial for state in live.values()]:
                        end(left, "KILLED")
                    return
        except Exception as error:  # noqa: BLE001 - whatever it is, trials go on
            self._give_up(reason(error))

    def _put(self, word: _Word) -> None:
        if not self.failed:
            self._queue.put(word)

    def _next(self, due: float | None) -> _Word:
        with suppress(queue.Empty):
            return self._queue.get(timeout=None if due is None else max(0.0, due - time.monotonic()))
        return ("flush", None, None)

    def _give_up(self, reason: str) -> None:
        if not self.failed:
            self.failed = True
            line = f"MLflow at {mask(self.uri)} is unreachable: {reason}; trials go on, run `dfkd sync` later"
            print(line, file=sys.stderr, flush=True)
