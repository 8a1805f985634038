"""How far the whole grid is: a bar with an ETA on a terminal, one line a finished trial elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

    from harness.config import Trial


class Progress:
    """Told of trials as they run; writes to stderr. Work is counted in whole trials."""

    def __init__(
        self,
        file: TextIO | None = None,
        *,
        bar: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare; shows nothing yet.

        Args:
            file: where to write; stderr by default.
            bar: draw a bar; None draws one when ``file`` is a terminal.
            clock: seconds, for tests.
        """
        self.file = file or sys.stderr
        self._wants_bar = self.file.isatty() if bar is None else bar
        self._clock = clock
        self._began: float | None = None
        self._left = self._spent = 0.0
        self._at: dict[str, float] = {}
        self._total = self._ended = self._bad = 0
        self._bar: Bar | None = None
        self._task: TaskID | None = None

    def plan(self, work: Mapping[str, float]) -> None:
        """Say what is to be run: trial id -> share of it that is still to do, in [0, 1]."""
        self._at = {id: 1.0 - share for id, share in work.items()}
        self._left, self._spent, self._began = sum(work.values()), 0.0, None
        self._total, self._ended, self._bad = len(work), 0, 0
        if self._wants_bar and work:
            self._open_bar()

    def say(self, line: str) -> None:
        """One line, above the bar."""
        if self._bar is not None:
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.file, flush=True)

    def begin(self, trial: Trial) -> None:
        """The trial runs; the clock of the ETA starts with the first one."""
        if self._began is None:
            self._began = self._clock()

    def point(self, trial: Trial, row: Mapping[str, Any]) -> None:
        """The trial's curve has another row."""
        self._move(trial.id, min(1.0, float(row.get("point", 0)) / trial.points))

    def end(self, trial: Trial, status: str, text: str) -> None:
        """The trial has ended.

        Args:
            trial: which.
            status: done, failed, skipped, or what it is left at.
            text: its number, or why there is none.
        """
        self._ended += 1
        self._bad += status != "done"
        self._move(trial.id, 1.0)
        if self._bar is None or status != "done":
            left = self.remaining()
            eta = f"  (about {duration(left)} left)" if left else ""
            self.say(f"[{self._ended}/{self._total}] {status:7} {trial.cell}  {text}{eta}")

    def remaining(self) -> float | None:
        """Seconds to the end of the grid at the pace so far, or None while that is unknown."""
        if self._began is None or self._spent <= 0:
            return None
        return (self._clock() - self._began) / self._spent * max(0.0, self._left)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = self._task = None

    def _move(self, id: str, at: float) -> None:
        # A trial that lost work to a kill reports points again: they count once.
        step = max(0.0, at - self._at.get(id, at))
        self._at[id] = max(at, self._at.get(id, at))
        self._left -= step
        self._spent += step
        if self._bar is not None and self._task is not None:
            left = self.remaining()
            self._bar.update(
                self._task,
                completed=self._spent,
                ended=f"{self._ended}/{self._total} trials"
                + (f", {self._bad} without a number" * bool(self._bad)),
                eta=f"about {duration(left)} left" if left is not None else "",
            )

    def _open_bar(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        ended, eta = (TextColumn(f"{{task.fields[{name}]}}") for name in ("ended", "eta"))
        columns = (ended, BarColumn(), TimeElapsedColumn(), eta)
        self._bar = Bar(*columns, console=Console(file=self.file), transient=True, redirect_stdout=False)
        self._task = self._bar.add_task("", total=self._left or 1.0, ended=f"0/{self._total} trials", eta="")
        self._bar.start()


def duration(seconds: float) -> str:
    """``45 s``, ``12 min``, ``3 h 05 min``."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
