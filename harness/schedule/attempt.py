"""One try at one trial, wherever it runs: lock it, run it, write down what stopped it. No Ray, no torch.

Who is to blame decides what happens next: a *method's* own failure stays until it is asked for again,
the *machine's* (disk, memory, a missing file) is tried again by the next run.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from harness.errors import DfkdError, DiskError, Diverged, Interrupted, Skipped
from harness.schedule.rungs import Climb
from harness.store.directory import Busy, Kind, TrialDir

if TYPE_CHECKING:
    from harness.config import Trial

_MACHINE = (OSError, MemoryError, DiskError, Interrupted)
#: torch's class of that name means the machine too; by name, since torch may not be here
_TORCH_MEMORY = "OutOfMemoryError"
#: torch and safetensors wrap a full disk or memory in errors that are nobody's class
_MACHINE_WORDS = (
    "PytorchStreamWriter",
    "No space left",
    "os error 28",
    "DefaultCPUAllocator",
    "out of memory",
)


@dataclass(frozen=True)
class Errand:
    """What every worker is told once: where things lie, and which functions do the work.

    Attributes:
        out, data_root, teachers_dir, inception: as `harness.trials.trial.run_trial` takes them; absolute.
        on: the same.
        gpus: of each trial: a share of one, or a whole number; 0 computes on the CPU.
        run_trial, have_teacher: ``module:function``, imported by the worker that needs it.
    """

    out: Path
    teachers_dir: Path
    data_root: Path | None = None
    inception: Path | None = None
    gpus: float = 0.0
    on: str = "test"
    run_trial: str = "harness.trials.trial:run_trial"
    have_teacher: str = "harness.trials.build:have_teacher"

    def __post_init__(self) -> None:
        """Make paths absolute: a worker's folder is another."""
        for name in ("out", "teachers_dir", "data_root", "inception"):
            if path := getattr(self, name):
                object.__setattr__(self, name, Path(path).absolute())

    @property
    def device(self) -> str:
        """``cpu`` or ``cuda``."""
        return "cuda" if self.gpus else "cpu"


def attempt(
    errand: Errand,
    run: TrialDir,
    on_start: Callable[[], None],
    on_point: Callable[[Mapping[str, Any]], None],
) -> str:
    """Run a trial to its end, or on from where it stood.

    Args:
        errand: where things lie.
        run: the trial's directory.
        on_start: called once the trial is ours.
        on_point: called with every new row of the curve.

    Returns:
        ``done``, ``failed`` or ``skipped``, whoever brought it there; ``busy`` when somebody else is at
        it; ``partial`` or ``missing`` when a failure could not be written down.

    Raises:
        Exception: the machine's failure, recorded as far as the disk allows: another try may go on.
    """
    try:
        with run.lock():
            settled = run.settled()
            if settled in ("done", "failed", "skipped"):
                return settled
            on_start()
            try:
                resolve_name(errand.run_trial)(
                    run.trial,
                    run,
                    data_root=errand.data_root,
                    teachers_dir=errand.teachers_dir,
                    device=errand.device,
                    inception=errand.inception,
                    on_point=on_point,
                    on=errand.on,
                )
            except Exception as error:
                kind = blame(error)
                with suppress(DiskError):
                    run.fail(kind, in_a_line(error), traceback.format_exc())
                # After an error of CUDA itself the process can use no GPU: the next trial needs another one.
                if kind == "infra" or "CUDA error" in str(error):
                    raise
            return run.settled()
    except Busy:
        return "busy"


def blame(error: BaseException) -> Kind:
    """Whose failure it is: ``skip`` and ``method`` stay, ``infra`` is tried again."""
    if isinstance(error, Skipped):
        return "skip"
    if isinstance(error, Diverged):
        return "method"
    torch_memory = any(c.__name__ == _TORCH_MEMORY for c in type(error).__mro__)
    if isinstance(error, _MACHINE) or torch_memory or any(word in str(error) for word in _MACHINE_WORDS):
        return "infra"
    # Bad input that a method found is its own; outside of one it is a missing file or a wrong teacher.
    return "infra" if isinstance(error, DfkdError) and not _in_method(error) else "method"


def in_a_line(error: BaseException) -> str:
    """The reason as a table shows it."""
    text = str(error).strip()
    if isinstance(error, DfkdError) and text:
        return text
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


def ensure_teacher(errand: Errand, trial: Trial) -> str:
    """Have the trial's teacher, by ``errand.have_teacher``.

    Returns:
        A line about it, empty when it was there.
    """
    told = resolve_name(errand.have_teacher)(
        trial, data_root=errand.data_root, teachers_dir=errand.teachers_dir, device=errand.device
    )
    return f"teacher {trial.teacher} on {trial.task}: {told}" if told else ""


def _in_method(error: BaseException) -> bool:
    """Whether a method's own code was running: one of the frames is a method of a `Method`."""
    interface = sys.modules.get("harness.interface")
    if interface is None:
        return False
    selves = (frame.f_locals.get("self") for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(isinstance(each, interface.Method) for each in selves)


#: seconds between two reports of a worker, each a hand-shake of about 5 ms
_EVERY = 0.5


class Post:
    """Carries a trial's points from its worker to the driver, in bundles; what is to be judged, at once."""

    def __init__(self, report: Callable[[dict[str, Any]], None], climb: Climb) -> None:
        """Prepare; ``report`` hands the driver a dictionary."""
        self._report, self._rows, self._sent = report, list[Mapping[str, Any]](), time.monotonic()
        self._climb = climb

    def start(self) -> None:
        """The trial is ours."""
        self._report({"started": True})

    def row(self, row: Mapping[str, Any]) -> None:
        """Its curve has another row."""
        self._rows.append(row)
        judged = self._climb(row)
        if judged or time.monotonic() - self._sent >= _EVERY:
            self._report({"rows": self._rows, **judged})
            self._rows, self._sent = [], time.monotonic()

    def end(self, outcome: str) -> None:
        """It has ended, as `attempt` says."""
        self._report({"rows": self._rows, "outcome": outcome})


def cause_of(text: str) -> str:
    """Why a worker ended, in a line, from what Ray says of it."""
    if "running low on memory" in text:
        return "its node ran out of memory and Ray killed the worker"
    if "node has died" in text or "node was terminated" in text:
        return "its node was lost"
    if "actor died" in text or "worker died" in text:
        return "its worker process was killed"
    lines = text.strip().splitlines()
    return lines[-1] if lines else "its worker ended without a result"
