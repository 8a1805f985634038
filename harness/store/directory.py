"""One directory a trial: the truth about what was run. Everything else (MLflow, frames) is a view of it.

``<out>/trials/<id>/`` holds ``trial.json``, ``lock``, ``curve.jsonl``, ``checkpoint/``, ``final/``,
``samples.npz``, ``confusion.npy``, ``predictions.npz`` (of the test split: ``y`` the labels, ``s`` and ``t``
the arg-max of student and teacher at the last point; ``t`` is younger than some trials), ``warnings.json``
(known before the first step), ``failure.json``, and ``result.json``, which comes last and whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import ValidationError

from harness import files
from harness.config import Trial, one_line
from harness.errors import DfkdError, DiskError

if TYPE_CHECKING:
    import numpy as np

Status = Literal["done", "failed", "skipped", "running", "partial", "missing"]
#: ``method`` and ``skip`` stay until asked for; ``killed`` and ``infra`` are run again.
Kind = Literal["method", "skip", "killed", "infra"]


class Busy(DfkdError):
    """Somebody else is running the trial."""


@dataclass(frozen=True)
class Look:
    """What a trial's directory says at one moment.

    Attributes:
        status: where the trial stands.
        result: what ``result.json`` holds, None while there is none that can be read.
        failure: ``{"kind", "reason", "detail"}``, or None as for a trial that is done or running; tells of a
            damaged result too.
        warnings: of the result; until there is one, what was known before the first step (`TrialDir.warn`).
    """

    status: Status
    result: dict[str, Any] | None
    failure: dict[str, Any] | None
    warnings: tuple[str, ...]


class TrialDir:
    """The directory of one trial under ``out``; cheap to make, touches nothing until asked.

    Only who holds `lock` may call `prepare`, `append`, `cut` and `finish`.
    """

    def __init__(self, out: Path, trial: Trial) -> None:
        """Name the directory; makes none."""
        self.path, self.id = Path(out).absolute() / "trials" / trial.id, trial.id
        self.trial = trial
        self._locked = False

    @classmethod
    def at(cls, path: Path) -> TrialDir:
        """The trial directory ``path``, to be read by its files; its name is the id.

        `trial` is read when it is asked for: the rest can be of another version of this package.
        """
        run = cls.__new__(cls)
        run.path, run.id, run._locked = Path(path).absolute(), Path(path).name, False
        return run

    @cached_property
    def trial(self) -> Trial:
        """The trial, by ``trial.json`` where it was not given.

        Raises:
            DfkdError: for a missing or damaged file, or one of another version.
        """
        file = self.path / "trial.json"
        if (found := files.read_json(file)) is None:
            raise DfkdError(f"{file} cannot be read: it is missing, or no JSON object")
        try:
            trial = Trial.model_validate({k: v for k, v in found.items() if k != "id"})
        except ValidationError as error:
            raise DfkdError(f"{file} is damaged: {one_line(error)}") from None
        if trial.id != self.id:
            raise DfkdError(f"{file} describes trial {trial.id}, not {self.id}: damaged or moved")
        return trial

    def curve(self) -> list[dict[str, Any]]:
        """Every whole row so far; what follows a torn line was never promised."""
        with suppress(FileNotFoundError):
            return files.read_rows((self.path / "curve.jsonl").read_bytes())
        return []

    def look(self, live: bool = True) -> Look:
        """All that the directory says, each file read once.

        Args:
            live: ask whether somebody else holds the lock, which makes an open trial ``running``.
        """
        damaged = (self.path / "result.json").exists()  # asked first: it may come right now
        if (result := self.result()) is not None:
            return Look("done", result, None, _warnings(result))
        warnings = _warnings(files.read_json(self.path / "warnings.json") or {})
        failure = files.read_json(self.path / "failure.json")
        if failure is not None and not {"kind", "reason", "detail"} <= failure.keys():
            failure = None
        if failure is not None and failure["kind"] in ("method", "skip"):
            return Look("failed" if failure["kind"] == "method" else "skipped", None, failure, warnings)
        if live and not self._locked and files.held(self.path / "lock"):
            return Look("running", None, None, warnings)
        if failure is None and damaged:
            reason = "result.json is damaged or another trial's: the trial runs again"
            failure = {"kind": "infra", "reason": reason, "detail": str(self.path / "result.json")}
        begun = damaged or any((self.path / left).exists() for left in ("curve.jsonl", "checkpoint"))
        return Look("partial" if begun else "missing", None, failure, warnings)

    def status(self) -> Status:
        """Where the trial stands, as `look` has it."""
        return self.look().status

    def settled(self) -> Status:
        """Where the trial stands by its files alone, whether or not somebody is at it."""
        return self.look(live=False).status

    def result(self) -> dict[str, Any] | None:
        """As in `Look`."""
        found = files.read_json(self.path / "result.json")
        whole = found is not None and found.get("id") == self.id and isinstance(found.get("metrics"), dict)
        return found if whole else None

    def failure(self) -> dict[str, Any] | None:
        """As in `Look`, whether or not somebody is at it."""
        return self.look(live=False).failure

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the trial while it runs; the operating system lets go when the process dies.

        Raises:
            Busy: when somebody else holds it.
            DiskError: when the directory cannot be made or the lock file not be opened.
        """
        busy = Busy(f"trial {self.id} ({self.trial.cell}) is running elsewhere")
        with ExitStack() as stack:
            with files.saying(f"cannot write {self.path}", DiskError):
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(files.locked(self.path / "lock", busy))
            self._locked = True
            try:
                yield
            finally:
                self._locked = False

    def prepare(self) -> None:
        """Write ``trial.json``, forget earlier failures and warnings, sweep what a killed writer left."""
        with files.saying(f"cannot write {self.path}", DiskError):
            self.path.mkdir(parents=True, exist_ok=True)
            for left in self.path.glob(".*.tmp"):
                left.unlink(missing_ok=True)
            self._forget()
        self.write_json("trial.json", {"id": self.id, **self.trial.model_dump(mode="json")})

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a point to the curve.

        Args:
            row: at least ``point`` (int); the rest are numbers.
        """
        path = self.path / "curve.jsonl"
        with files.saying(f"cannot write {path}", DiskError):
            if _torn(path):
                self.cut(len(self.curve()))  # a line torn by a kill would swallow this one
            with path.open("ab") as file:
                file.write(json.dumps(row).encode() + b"\n")

    def cut(self, n: int) -> int:
        """Keep the first ``n`` rows of the curve, atomically.

        Returns:
            How many rows there are now: fewer than ``n`` when the curve was shorter.
        """
        rows = self.curve()[:n]
        files.write(self.path / "curve.jsonl", "".join(json.dumps(r) + "\n" for r in rows))
        return len(rows)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``: from here on the trial is done; drops checkpoint and failure."""
        self.write_json("result.json", result)
        with files.saying(f"cannot write {self.path}", DiskError):
            self._forget()
            shutil.rmtree(self.path / "checkpoint", ignore_errors=True)

    def warn(self, warnings: Sequence[str]) -> None:
        """Keep what is known before the first step, until a result says it."""
        if warnings:
            self.write_json("warnings.json", {"warnings": list(warnings)})

    def fail(self, kind: Kind, reason: str, detail: str = "") -> None:
        """Record why there is no result.

        Args:
            kind: see `Kind`.
            reason: one line for tables.
            detail: a traceback, for `dfkd show`.
        """
        with files.saying(f"cannot write {self.path}", DiskError):
            self.path.mkdir(parents=True, exist_ok=True)
        line = " ".join(reason.replace("\0", "").split())
        self.write_json("failure.json", {"kind": kind, "reason": line, "detail": detail.replace("\0", "")})

    def _forget(self) -> None:
        for old in ("failure.json", "warnings.json"):
            (self.path / old).unlink(missing_ok=True)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the directory atomically."""
        files.write_json(self.path / name, value)

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write an npz file of the directory atomically."""
        files.write_arrays(self.path / name, arrays)


class Store:
    """The trial directories under ``out``."""

    def __init__(self, out: Path) -> None:
        """Name the store; reads nothing yet."""
        self.out = Path(out).absolute()

    def run(self, trial: Trial) -> TrialDir:
        """The trial's directory."""
        return TrialDir(self.out, trial)

    def look(self, trial: Trial) -> Look:
        """As `TrialDir.look`."""
        return self.run(trial).look()

    def curve(self, trial: Trial) -> list[dict[str, Any]]:
        """As `TrialDir.curve`."""
        return self.run(trial).curve()

    def samples(self, id: str) -> dict[str, np.ndarray] | None:
        """Arrays of a trial's ``samples.npz``, or None."""
        return self._arrays(id, "samples.npz")

    def predictions(self, id: str) -> dict[str, np.ndarray] | None:
        """Arrays of a trial's ``predictions.npz``, or None: it is younger than some trials."""
        return self._arrays(id, "predictions.npz")

    def _arrays(self, id: str, name: str) -> dict[str, np.ndarray] | None:
        return files.read_arrays(self.out / "trials" / id / name)


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold the lock of a trial directory as it lies, so that nobody runs or measures there meanwhile.

    Where there is no lock file nobody ever ran; in a store that one may only read nobody can.

    Raises:
        Busy: when somebody else holds it.
    """
    with ExitStack() as stack:
        if (path / "lock").exists():
            busy = Busy(f"trial {path.name} in {path.parent.parent} is running")
            with suppress(OSError):
                stack.enter_context(files.locked(path / "lock", busy))
        yield


def _warnings(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(w) for w in found.get("warnings", ()))


def _torn(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    return False
