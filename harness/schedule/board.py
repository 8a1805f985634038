"""Where every trial of a run stands, as its driver knows it; passed on to the tracker and to the progress."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DiskError
from harness.schedule.work import Work
from harness.store import warnings
from harness.store.directory import Busy, TrialDir

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


class Board(Work):
    """A fixed list of trials, of which those without an outcome are run."""

    def __init__(
        self,
        trials: Sequence[Trial],
        out: Path,
        tracker: Tracker | None = None,
        progress: Progress | None = None,
        again: bool = False,
    ) -> None:
        """Take the trials; ``again`` runs failed and skipped ones once more, from nothing."""
        super().__init__(trials, out)
        self.tracker, self.progress, self._again = tracker, progress, again
        self._left: list[Trial] = []

    def open(self) -> list[Trial]:
        """Trials that nobody holds and this run has not tried."""
        wanted = {"missing", "partial"} | ({"failed", "skipped"} if self._again else set())
        return [
            t for id, t in self.trials.items() if id not in self.tried and self.runs[id].status() in wanted
        ]

    def take(self) -> list[Trial]:
        """Make them ready, and tell how many there are."""
        found = [t for t in self.open() if _prepare(self.runs[t.id], self._again)]
        self._left, self._again = [*found], False
        if found and self.tracker:
            self.tracker.open()
        if found and self.progress:
            self.progress.plan({t.id: 1.0 - self._share(t) for t in found})
        return found

    def next(self) -> Trial | None:
        """The next of those that were taken."""
        while self._left:
            if (trial := self._left.pop(0)).id not in self.tried:
                return trial
        return None

    def say(self, line: str) -> None:
        """Tell the user."""
        if self.progress:
            self.progress.say(line)

    def untaught(self, trial: Trial, reason: str) -> None:
        """The trial ends here; the others go on."""
        with suppress(DiskError):
            self.runs[trial.id].fail("infra", f"no teacher: {reason}")
        self.ended(trial.id, "")

    def started(self, id: str) -> None:
        """A worker holds the trial."""
        super().started(id)
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

    def tell(self, id: str, cause: str) -> None:
        """The trial has ended."""
        run, trial = self.runs[id], self.trials[id]
        status = run.settled()
        if self.tracker:
            ends = {"done": "FINISHED", "failed": "FAILED", "skipped": "FAILED"}
            self.tracker.end(trial, ends.get(status, "KILLED"))
        if self.progress:
            left = "open" if status in ("missing", "partial") else status
            self.progress.end(trial, left, _told(run, cause))

    def close(self, cause: str) -> None:
        """No worker is left: what still counts as running was killed, by ``cause``."""
        super().close(cause)
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


def _told(run: TrialDir, cause: str) -> str:
    found = run.look(live=False)
    if (result := found.result) is None:
        return str((found.failure or {}).get("reason", cause))
    top1, seconds = result["metrics"].get("top1"), result.get("cost", {}).get("seconds_total")
    shown = [f"top1 {top1:.2f}"] if top1 is not None else []
    shown += [f"{seconds:.0f} s"] if seconds is not None else []
    names = warnings.names_of(found.warnings)
    return "  ".join([*shown, *([f"warning: {', '.join(names)}"] if names else [])])
