"""Files, in one place: written whole or not at all, locked, read back; an OSError said in one line."""

from __future__ import annotations

import io
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from harness.errors import DfkdError, DiskError

if TYPE_CHECKING:
    import numpy as np


def why(error: OSError) -> str:
    """What the system says of it: ``No space left on device``."""
    return error.strerror or str(error)


@contextmanager
def saying(what: str, kind: type[DfkdError] = DfkdError) -> Iterator[None]:
    """Inside, an OSError becomes ``kind`` in one line: ``what``, then why.

    Args:
        what: the complaint: ``cannot write runs/x``.
        kind: `DfkdError` for what a person can mend, `DiskError` where a store is at fault and no method.
    """
    try:
        yield
    except OSError as error:
        raise kind(f"{what}: {why(error)}") from error


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A name beside ``path`` to write to; at the end it becomes ``path``, after an error it is gone.

    A reader, and a kill, meet the old file or the new one. OSErrors pass through.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield new
        new.replace(path)
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)


def write(path: Path, data: bytes | str) -> None:
    """Write a file whole, text as UTF-8.

    Raises:
        DiskError: when it cannot be written; the old one stands.
    """
    with saying(f"cannot write {path}", DiskError), whole(path) as new:
        new.write_bytes(data if isinstance(data, bytes) else data.encode())


def put(path: Path, text: str, anew: bool = False) -> None:
    """Put a file where a person asked for it, whole; the same text again changes nothing.

    Args:
        path: where.
        text: what.
        anew: take the place of a file that says something else.

    Raises:
        DfkdError: where such a file lies and is to stay, or this one cannot be written.
    """
    with saying(f"{path} cannot be written"):
        if path.exists():
            if path.read_bytes() == text.encode():
                return
            if not anew:
                raise DfkdError(f"{path} is there and says something else: remove it, or name another file")
        with whole(path) as new:
            new.write_bytes(text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole; raises as `write`."""
    write(path, json.dumps(value, indent=1) + "\n")


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write an npz file whole; raises as `write`."""
    import numpy as np

    data = io.BytesIO()
    np.savez_compressed(data, **arrays)  # type: ignore[arg-type]
    write(path, data.getvalue())


def write_torch(path: Path, state: Any) -> None:
    """`torch.save` a file whole; raises as `write`."""
    import torch

    data = io.BytesIO()  # torch's own writer hides the system's error and keeps the file open with it
    torch.save(state, data)
    write(path, data.getvalue())


@contextmanager
def locked(path: Path, busy: DfkdError | None = None, patience: float = 0.1) -> Iterator[None]:
    """Hold a lock file; the operating system lets go when the process dies.

    A soft lock would outlive its process, so a file system without flock is refused instead.

    Args:
        path: of the lock file, made where it is missing.
        busy: raised when somebody else holds it for longer than ``patience``; None waits as long as it takes.
        patience: seconds. A probe (`held`) holds a lock for microseconds: who wants it waits that out.

    Raises:
        OSError: when the file cannot be opened.
    """
    lock = FileLock(path, fallback_to_soft=False, thread_local=False)
    try:
        lock.acquire(timeout=-1 if busy is None else patience, poll_interval=0.01 if busy else 0.05)
    except Timeout:
        assert busy is not None
        raise busy from None
    try:
        yield
    finally:
        lock.release()


def held(path: Path) -> bool:
    """Whether a live process holds the lock file; False where there is none, or none that one may open."""
    if not path.exists():
        return False
    taken = DfkdError("held")
    try:
        with locked(path, taken):
            return False
    except OSError:  # a store one may only read: nobody runs there
        return False
    except DfkdError as error:
        if error is not taken:
            raise
        return True


@contextmanager
def scratch(base: Path, prefix: str) -> Iterator[Path]:
    """A folder of our own under ``base``, gone afterwards; sweeps those whose process was killed."""
    for left in base.glob(f"{prefix}*.lock"):
        with suppress(DfkdError, OSError), locked(left, DfkdError("in use"), patience=0.0):
            shutil.rmtree(left.with_suffix(""), ignore_errors=True)
            left.unlink(missing_ok=True)
    folder = base / f"{prefix}{secrets.token_hex(5)}"
    lock = folder.with_suffix(".lock")
    try:
        with locked(lock):
            folder.mkdir(mode=0o700)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.unlink(missing_ok=True)


def read_bytes(path: Path) -> bytes:
    """A file of a store.

    Raises:
        DiskError: for one that cannot be read.
    """
    with saying(f"cannot read {path}", DiskError):
        return path.read_bytes()


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object; None where there is no file, or another thing in it.

    Raises:
        DiskError: for one that cannot be read.
    """
    with saying(f"cannot read {path}", DiskError), suppress(FileNotFoundError, NotADirectoryError):
        return parsed(path.read_bytes())
    return None


def parsed(data: bytes) -> dict[str, Any] | None:
    """A JSON object, or None for anything else."""
    try:
        value = json.loads(data)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def is_number(value: Any) -> bool:
    """Whether a value of a JSON file is a number (a bool is none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def read_rows(data: bytes) -> list[dict[str, Any]]:
    """Every whole row of a ``jsonl`` file; what follows a torn line was never promised."""
    lines = data.split(b"\n")[:-1]
    with suppress(ValueError):  # all at once takes half the time
        rows = json.loads(b"[" + b",".join(lines) + b"]")
        if len(rows) == len(lines) and all(isinstance(row, dict) for row in rows):
            return list(rows)
    return list(takewhile(lambda row: row is not None, map(parsed, lines)))  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Arrays of an npz file, or None where there is none.

    Raises:
        DfkdError: for a damaged file.
    """
    import numpy as np

    if not path.exists():
        return None
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except Exception as error:  # zipfile, zlib, ValueError, OSError: all mean the same to a reader
        raise DfkdError(f"{path} cannot be read: {error}") from error
