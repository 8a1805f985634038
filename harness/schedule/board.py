"""Where every trial of a run stands, as its driver knows it; passed on to the tracker and to the progress."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harness.config import Trial

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DiskError
from harness.store import warnings
from harness.store.directory import TrialDir

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.schedule.progress import Progress
    from harness.store.mlflow_tracker import Tracker


@dataclass(frozen=True)
class Summary:
    """How a run ended: every trial stands in exactly one of the lists.

    Attributes:
        done, failed, skipped: settled, by this run or before.
        busy: held by another process.
        open: killed, or stopped by the machine: the next run goes on with them.
        ran: how many of them this run worked on.
        seconds: wall time.
        interrupted: by Ctrl-C or SIGTERM.
    """

    done: tuple[Trial, ...]
    failed: tuple[Trial, ...]
    skipped: tuple[Trial, ...]
    busy: tuple[Trial, ...]
    open: tuple[Trial, ...]
    ran: int
    seconds: float
    interrupted: bool = False

    def __str__(self) -> str:
        """One line for people."""
        counts = [(len(self.done), "done"), (len(self.failed), "failed"), (len(self.skipped), "skipped")]
        counts += [(len(self.busy), "running elsewhere"), (len(self.open), "to be run again")]
        told = ", ".join(f"{n} {word}" for n, word in counts if n) or "nothing to do"
        tail = "; the same command goes on from here" if self.open else ""
        return f"{'interrupted: ' if self.interrupted else ''}{told}{tail}"


class Board:
    """What the driver knows of the trials."""

    def __init__(
        self, trials: Sequence[Trial], out: Path, tracker: Tracker | None, progress: Progress | None
    ) -> None:
        """Take the trials, each id once."""
        self.trials = {t.id: t for t in trials}
        self.runs = {id: TrialDir(out, t) for id, t in self.trials.items()}
        self.tracker, self.progress = tracker, progress
        self.tried: set[str] = set()
        self.running: set[str] = set()

    def open(self, again: bool = False) -> list[Trial]:
        """Trials that nobody holds and this run has not tried; with failed ones if ``again``."""
        wanted = {"missing", "partial"} | ({"failed", "skipped"} if again else set())
        return [
            t for id, t in self.trials.items() if id not in self.tried and self.runs[id].status() in wanted
        ]

    def say(self, line: str) -> None:
        """Tell the user."""
        if self.progress:
            self.progress.say(line)

    def plan(self, trials: Sequence[Trial]) -> None:
        """These will be run now."""
        if self.tracker:
            self.tracker.open()
        if self.progress:
            self.progress.plan({t.id: 1.0 - self._share(t) for t in trials})

    def started(self, id: str) -> None:
        """A worker holds the trial."""
        self.running.add(id)
        if self.tracker:
            self.tracker.start(self.trials[id])
        if self.progress:
            self.progress.begin(self.trials[id])

    def row(self, id: str, row: Mapping[str, Any]) -> None:
        """Its curve has another row."""
        if self.tracker:
            self.tracker.point(self.trials[id], row)
        if self.progress:
            self.progress.point(self.trials[id], row)

    def ended(self, id: str, outcome: str, cause: str = "") -> None:
        """The trial runs no longer: its directory says how it went, else ``cause`` does."""
        if outcome == "busy" or id in self.tried:
            return
        run, trial = self.runs[id], self.trials[id]
        self.running.discard(id)
        self.tried.add(id)
        status: str = run.settled()
        if status in ("missing", "partial"):
            status = "open"
            if run.failure() is None:
                # A full disk may refuse the record; the trial is open all the same, and so run again.
                with suppress(DiskError):
                    run.fail("killed", cause or "its worker ended without a result")
        if self.tracker:
            ends = {"done": "FINISHED", "failed": "FAILED", "skipped": "FAILED"}
            self.tracker.end(trial, ends.get(status, "KILLED"))
        if self.progress:
            self.progress.end(trial, status, _told(run, cause))

    def close(self, cause: str) -> None:
        """No worker is left: what still counts as running was killed, by ``cause``."""
        for id in sorted(self.running):
            self.ended(id, "", cause)
        if self.tracker:
            self.tracker.close()
        if self.progress:
            self.progress.close()

    def summary(self, seconds: float, interrupted: bool) -> Summary:
        """Where every trial stands, by its directory."""
        names = {"missing": "open", "partial": "open", "running": "busy"}
        lists: dict[str, list[Trial]] = {n: [] for n in ("done", "failed", "skipped", "busy", "open")}
        for id, trial in self.trials.items():
            status = self.runs[id].status()
            lists[names.get(status, status)].append(trial)
        tuples = {name: tuple(found) for name, found in lists.items()}
        return Summary(**tuples, ran=len(self.tried), seconds=seconds, interrupted=interrupted)

    def _share(self, trial: Trial) -> float:
        curve = self.runs[trial.id].curve()
        return min(1.0, curve[-1]["point"] / trial.points) if curve else 0.0


def _told(run: TrialDir, cause: str) -> str:
    result = run.result()
    if result is None:
        return str((run.failure() or {}).get("reason", cause))
    top1, seconds = result["metrics"].get("top1"), result.get("cost", {}).get("seconds_total")
    shown = [f"top1 {top1:.2f}"] if top1 is not None else []
    shown += [f"{seconds:.0f} s"] if seconds is not None else []
    names = warnings.names_of(run.warnings())
    return "  ".join([*shown, *([f"warning: {', '.join(names)}"] if names else [])])


@dataclass(frozen=True)
class Engine:
    """Something that can do the work.

    Attributes:
        teachers: has a teacher for each of the trials given, one per teacher; returns the index of
            those that failed with the reason.
        trials: tries every trial once and tells the board.
    """

    teachers: Callable[[Board, Sequence[Trial]], dict[int, str]]
    trials: Callable[[Board, Sequence[Trial]], None]


def tell_teacher(board: Board, trial: Trial, line: str) -> None:
    """Pass on what a teacher job returned."""
    if line:
        board.say(f"teacher {trial.teacher} on {trial.task}: {line}")
