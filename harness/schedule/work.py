"""What the scheduler is handed: work, one trial after the other, and ears for how each of them goes.

A grid's trials are all there from the start (`harness.schedule.board`), a search's come as it learns
(`harness.grids.search`). Whoever does the work, here or on Ray, knows no more of either than this.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DiskError
from harness.schedule.rungs import Rungs
from harness.store.directory import TrialDir

if TYPE_CHECKING:
    from harness.config import Trial


class Work(ABC):
    """Trials to run, and where each of them stands.

    Attributes:
        out: where their directories lie, in ``trials``.
        trials, runs: id -> trial, id -> its directory, as far as they are known.
        tried: ids that have ended; none is tried twice.
        running: ids that a worker holds.
        rungs: where a trial may be stopped early; nowhere, unless somebody says so.
    """

    def __init__(self, trials: Iterable[Trial], out: Path) -> None:
        """Take the trials that are known, each id once."""
        self.out = out
        self.trials: dict[str, Trial] = {}
        self.runs: dict[str, TrialDir] = {}
        self.tried, self.running = set[str](), set[str]()
        self.rungs = Rungs(0)
        self._rows: dict[str, Mapping[str, Any]] = {}
        for trial in trials:
            self.add(trial)

    def add(self, trial: Trial) -> None:
        """There is this trial, too."""
        self.trials[trial.id], self.runs[trial.id] = trial, TrialDir(self.out, trial)

    # --- what is to be done ---------------------------------------------------------------------------

    @abstractmethod
    def open(self) -> list[Trial]:
        """Trials that are to be run, or one that stands for them: each teacher is one of theirs."""

    def take(self) -> list[Trial]:
        """The same, made ready: from now on `next` hands them out."""
        return self.open()

    @abstractmethod
    def next(self) -> Trial | None:
        """The next trial, its directory ready for a worker; None when there is no other."""

    # --- what is heard --------------------------------------------------------------------------------

    @abstractmethod
    def say(self, line: str) -> None:
        """Tell the user."""

    @abstractmethod
    def untaught(self, trial: Trial, reason: str) -> None:
        """The trial's teacher cannot be had."""

    def started(self, id: str) -> None:
        """A worker holds the trial."""
        self.running.add(id)

    def row(self, id: str, row: Mapping[str, Any]) -> None:
        """Its curve has another row."""
        self._rows[id] = row

    def ended(self, id: str, outcome: str, cause: str = "") -> None:
        """The trial runs no longer: ``stopped`` early, or as its directory says, else for ``cause``."""
        if outcome == "busy" or id in self.tried:
            return
        run, last = self.runs[id], self._rows.pop(id, {})
        self.running.discard(id)
        self.tried.add(id)
        # A full disk may refuse the record; the trial is open all the same, and so run again.
        with suppress(DiskError):
            if outcome == "stopped":
                run.write_json("stopped.json", dict(last))
            elif run.settled() in ("missing", "partial") and run.failure() is None:
                run.fail("killed", cause or "its worker ended without a result")
        self.tell(id, cause)

    @abstractmethod
    def tell(self, id: str, cause: str) -> None:
        """The trial has ended, and its record is written."""

    def close(self, cause: str) -> None:
        """No worker is left: what still counts as running was killed, by ``cause``."""
        for id in sorted(self.running):
            self.ended(id, "", cause)


@dataclass(frozen=True)
class Engine:
    """Something that can do the work.

    Attributes:
        teachers: has a teacher for each of the trials given and says so; returns the index of those
            that failed with the reason.
        trials: tries each that `Work.next` hands out once, and tells the work; none needs more than
            those given.
    """

    teachers: Callable[[Work, Sequence[Trial]], dict[int, str]]
    trials: Callable[[Work, Sequence[Trial]], None]
