"""One directory a trial: the truth about what was run. Everything else (MLflow, frames) is a view of it.

``<out>/trials/<id>/`` holds ``trial.json``, ``lock``, ``curve.jsonl``, ``checkpoint/``, ``final/``,
``samples.npz``, ``confusion.npy``, ``predictions.npz`` (of the test split: ``y`` the labels, ``s`` and ``t``
the arg-max of student and teacher at the last point; ``t`` is younger than some trials), ``warnings.json``
(known before the first step), ``failure.json``, and
``result.json``, which comes last and whole.
"""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, get_args

from filelock import FileLock, Timeout

from harness.errors import DfkdError, DiskError

if TYPE_CHECKING:
    import numpy as np

    from harness.config import Trial

Status = Literal["done", "failed", "skipped", "running", "partial", "missing"]
#: ``method`` and ``skip`` stay until asked for; ``killed`` and ``infra`` are run again.
Kind = Literal["method", "skip", "killed", "infra"]

#: A probe holds the lock for microseconds: who wants it, or asks whether it is held, waits it out.
_PATIENCE = 0.1


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
            return read_rows((self.path / "curve.jsonl").read_bytes())
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
        found = _read(self.path / "result.json")
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
        """Of the result; until there is one, what was known before the first step (`Run.warn`)."""
        found = self.result() or _read(self.path / "warnings.json") or {}
        return [str(w) for w in found.get("warnings", ())]

    def _own_failure(self) -> dict[str, Any] | None:
        found = _read(self.path / "failure.json")
        return found if found and {"kind", "reason", "detail"} <= found.keys() else None


class Run(Kept):
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
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            lock = _file_lock(self.path)
            try:
                lock.acquire(timeout=_PATIENCE, poll_interval=0.01)
            except Timeout:
                raise Busy(f"trial {self.id} ({self.trial.cell}) is running elsewhere") from None
        self._locked = True
        try:
            yield
        finally:
            self._locked = False
            lock.release()

    def prepare(self) -> None:
        """Write ``trial.json``, forget earlier failures and warnings, sweep what a killed writer left."""
        with _writing(self.path):
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
        with _writing(path):
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
        self._write("curve.jsonl", "".join(json.dumps(r) + "\n" for r in rows).encode())
        return len(rows)

    def finish(self, result: Mapping[str, Any]) -> None:
        """Write ``result.json``: from here on the trial is done; drops checkpoint and failure."""
        self.write_json("result.json", result)
        with _writing(self.path):
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
        with _writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
        line = " ".join(reason.replace("\0", "").split())
        self.write_json("failure.json", {"kind": kind, "reason": line, "detail": detail.replace("\0", "")})

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file of the directory atomically."""
        self._write(name, (json.dumps(value, indent=1) + "\n").encode())

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write an npz file of the directory atomically."""
        import numpy as np

        whole = io.BytesIO()
        np.savez_compressed(whole, **arrays)  # type: ignore[arg-type]
        self._write(name, whole.getvalue())

    def _write(self, name: str, data: bytes) -> None:
        path = self.path / name
        new = path.with_name(f".{name}.{os.getpid()}.tmp")
        with _writing(path):
            try:
                new.write_bytes(data)
                new.replace(path)
            finally:
                new.unlink(missing_ok=True)


class Dirs:
    """The trial directories under ``out`` as a source of frames; `harness.store.MLflow` is the other."""

    def __init__(self, out: Path) -> None:
        """Name the store; reads nothing yet."""
        self.out = Path(out).absolute()

    def run(self, trial: Trial) -> Run:
        """The trial's directory."""
        return Run(self.out, trial)

    def status(self, trial: Trial) -> Status:
        """As `Run.status`."""
        return self.run(trial).status()

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """As `Run.result`."""
        return self.run(trial).result()

    def failure(self, trial: Trial) -> dict[str, Any] | None:
        """As `Run.failure`."""
        return self.run(trial).failure()

    def curve(self, trial: Trial, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """Rows of the curve; ``keys`` narrows them (``point`` stays)."""
        return narrow(self.run(trial).curve(), keys)

    def samples(self, id: str) -> dict[str, np.ndarray] | None:
        """Arrays of a trial's ``samples.npz``, or None."""
        return read_arrays(self.out / "trials" / id / "samples.npz")

    def predictions(self, id: str) -> dict[str, np.ndarray] | None:
        """Arrays of a trial's ``predictions.npz``, or None: it is younger than some trials."""
        return read_arrays(self.out / "trials" / id / "predictions.npz")


def read_rows(data: bytes) -> list[dict[str, Any]]:
    """Every whole row of a ``curve.jsonl``; see `Kept.curve`."""
    lines = data.split(b"\n")[:-1]
    with suppress(ValueError):  # all at once takes half the time
        rows = json.loads(b"[" + b",".join(lines) + b"]")
        if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows):
            return list(rows)
    return list(takewhile(lambda row: row is not None, map(_parse, lines)))  # type: ignore[arg-type]


def narrow(rows: list[dict[str, Any]], keys: Sequence[str] | None) -> list[dict[str, Any]]:
    """Rows of a curve with ``point`` and these columns alone; None means all."""
    if keys is None:
        return rows
    return [{k: v for k, v in row.items() if k == "point" or k in keys} for row in rows]


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Arrays of an npz file, or None where there is none.

    Raises:
        DfkdError: for a damaged file.
    """
    return load_arrays(path, str(path)) if path.exists() else None


def load_arrays(file: Path | BinaryIO, name: str) -> dict[str, np.ndarray]:
    """Arrays of an npz file, given by its path or open.

    Args:
        file: what to read.
        name: what to call it.

    Raises:
        DfkdError: for a damaged file.
    """
    import numpy as np

    try:
        with np.load(file, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:  # zipfile, zlib, ValueError, OSError: all mean the same to a reader
        raise DfkdError(f"{name} cannot be read: {error}") from error


def held(path: Path) -> bool:
    """Whether a live process holds the lock of the trial directory ``path``."""
    if not (path / "lock").exists():
        return False
    lock = _file_lock(path)
    try:
        lock.acquire(timeout=_PATIENCE, poll_interval=0.01)
    except Timeout:
        return True
    except OSError:  # a store one may only read: nobody runs there
        return False
    lock.release()
    return False


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
    lock = _file_lock(path)
    try:
        lock.acquire(timeout=_PATIENCE, poll_interval=0.01)
    except Timeout:
        raise Busy(f"trial {path.name} in {path.parent.parent} is running") from None
    except OSError:
        pass
    try:
        yield
    finally:
        lock.release()


def _file_lock(path: Path) -> FileLock:
    # A soft lock would outlive its process, so a file system without flock is refused instead.
    return FileLock(path / "lock", fallback_to_soft=False, thread_local=False)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error}") from error


def _torn(path: Path) -> bool:
    with suppress(FileNotFoundError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    return False


def read_bytes(path: Path) -> bytes:
    """A file of a store.

    Raises:
        DiskError: for one that cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise DiskError(f"cannot read {path}: {error.strerror or error}") from error


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return _parse(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise DiskError(f"cannot read {path}: {error.strerror or error}") from error


def _parse(data: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
