"""One directory a trial: the truth about what was run. Everything else (MLflow, frames) is a view of it.

``<out>/trials/<id>/`` holds ``trial.json``, ``lock``, ``curve.jsonl``, ``checkpoint/``, ``final/``,
``samples.npz``, ``confusion.npy``, ``predictions.npz`` (of the test split: ``y`` the labels, ``s`` and ``t``
the arg-max of student and teacher at the last point; ``t`` is younger than some trials), ``warnings.json``
(known before the first step), ``failure.json``, and
``result.json``, which comes last and whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from harness import files
from harness.errors import DfkdError, DiskError

if TYPE_CHECKING:
    import numpy as np

    from harness.config import Trial

Status = Literal["done", "failed", "skipped", "running", "partial", "missing"]
#: ``method`` and ``skip`` stay until asked for; ``killed`` and ``infra`` are run again.
Kind = Literal["method", "skip", "killed", "infra"]


class Busy(DfkdError):
    """Somebody else is running the trial."""


class Kept:
    """What a trial directory holds, read alone: by its files, without knowing what the trial declares.

    So it reads what another version of this package wrote. The id is the directory's name.
    """

    def __init__(self, path: Path) -> None:
        """Name the directory; reads nothing yet."""
        self.path, self.id = Path(path).absolute(), Path(path).name
        self._locked = False

    def curve(self) -> list[dict[str, Any]]:
        """Every whole row so far; what follows a torn line was never promised."""
        try:
            return files.read_rows((self.path / "curve.jsonl").read_bytes())
        except FileNotFoundError:
            return []

    def status(self) -> Status:
        """Where the trial stands, ``running`` included: its lock is held by somebody else."""
        settled = self.settled()
        open_ = settled in ("partial", "missing") and not self._locked
        return "running" if open_ and held(self.path) else settled

    def settled(self) -> Status:
        """Where the trial stands by its files alone, whether or not somebody is at it."""
        if self.result() is not None:
            return "done"
        kind = (self._own_failure() or {}).get("kind")
        if kind in ("method", "skip"):
            return "failed" if kind == "method" else "skipped"
        left = ("curve.jsonl", "checkpoint", "result.json")
        return "partial" if any((self.path / name).exists() for name in left) else "missing"

    def result(self) -> dict[str, Any] | None:
        """The result, or None while there is none that can be read."""
        found = files.read_json(self.path / "result.json")
        whole = found is not None and found.get("id") == self.id and isinstance(found.get("metrics"), dict)
        return found if whole else None

    def failure(self) -> dict[str, Any] | None:
        """``{"kind", "reason", "detail"}``, or None; tells of a damaged result too."""
        if self.result() is not None:
            return None
        if (failure := self._own_failure()) is not None:
            return failure
        if (self.path / "result.json").exists():
            reason = "result.json is damaged or another trial's: the trial runs again"
            return {"kind": "infra", "reason": reason, "detail": str(self.path / "result.json")}
        return None

    def warnings(self) -> list[str]:
        """Of the result; until there is one, what was known before the first step (`TrialDir.warn`)."""
        found = self.result() or files.read_json(self.path / "warnings.json") or {}
        return [str(w) for w in found.get("warnings", ())]

    def _own_failure(self) -> dict[str, Any] | None:
        found = files.read_json(self.path / "failure.json")
        return found if found and {"kind", "reason", "detail"} <= found.keys() else None


class TrialDir(Kept):
    """The directory of one trial under ``out``; cheap to make, touches nothing until asked.

    Only who holds `lock` may call `prepare`, `append`, `cut` and `finish`.
    """

    def __init__(self, out: Path, trial: Trial) -> None:
        """Name the directory; makes none."""
        super().__init__(Path(out) / "trials" / trial.id)
        self.trial = trial

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
            for old in ("failure.json", "warnings.json"):
                (self.path / old).unlink(missing_ok=True)
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
            for old in ("failure.json", "warnings.json"):
                (self.path / old).unlink(missing_ok=True)
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
        if kind not in get_args(Kind):
            raise ValueError(f"failure kind {kind!r} is none of {get_args(Kind)}")
        with files.saying(f"cannot write {self.path}", DiskError):
            self.path.mkdir(parents=True, exist_ok=True)
        line = " ".join(reason.replace("\0", "").split())
        self.write_json("failure.json", {"kind": kind, "reason": line, "detail": detail.replace("\0", "")})

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the directory atomically."""
        files.write_json(self.path / name, value)

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write an npz file of the directory atomically."""
        files.write_arrays(self.path / name, arrays)


class Store:
    """The trial directories under ``out`` as a source of frames; MLflow is another."""

    def __init__(self, out: Path) -> None:
        """Name the store; reads nothing yet."""
        self.out = Path(out).absolute()

    def run(self, trial: Trial) -> TrialDir:
        """The trial's directory."""
        return TrialDir(self.out, trial)

    def status(self, trial: Trial) -> Status:
        """As `TrialDir.status`."""
        return self.run(trial).status()

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """As `TrialDir.result`."""
        return self.run(trial).result()

    def failure(self, trial: Trial) -> dict[str, Any] | None:
        """As `TrialDir.failure`."""
        return self.run(trial).failure()

    def curve(self, trial: Trial, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows of the curve; ``keys`` narrows them (``point`` stays)."""
        return narrow(self.run(trial).curve(), keys)

    def samples(self, id: str) -> dict[str, np.ndarray] | None:
        """Arrays of a trial's ``samples.npz``, or None."""
        return files.read_arrays(self.out / "trials" / id / "samples.npz")

    def predictions(self, id: str) -> dict[str, np.ndarray] | None:
        """Arrays of a trial's ``predictions.npz``, or None: it is younger than some trials."""
        return files.read_arrays(self.out / "trials" / id / "predictions.npz")


def narrow(rows: list[dict[str, Any]], keys: Sequence[str] | None) -> list[dict[str, Any]]:
    """Rows of a curve with ``point`` and these columns alone; None means all."""
    if keys is None:
        return rows
    return [{k: v for k, v in row.items() if k == "point" or k in keys} for row in rows]


def held(path: Path) -> bool:
    """Whether a live process holds the lock of the trial directory ``path``."""
    return files.held(path / "lock")


@contextmanager
def holding(path: Path, *, make: bool = False) -> Iterator[None]:
    """Hold the lock of a trial directory as it lies, so that nobody runs or measures there meanwhile.

    Where there is no lock file nobody ever ran, and in a store that one may only read nobody can.

    Args:
        path: the directory.
        make: make a lock file where there is none.

    Raises:
        Busy: when somebody else holds it.
    """
    if not (path / "lock").exists() and not make:
        yield
        return
    busy = Busy(f"trial {path.name} in {path.parent.parent} is running")
    with ExitStack() as stack:
        with suppress(OSError):
            stack.enter_context(files.locked(path / "lock", busy))
        yield


def _torn(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    return False
