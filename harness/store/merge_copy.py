"""Copies what a merge has planned: a trial directory is there whole or not at all, nothing is ever deleted.

A directory is copied under a temporary name and renamed; one whose place a better one takes is set aside;
folders that are read stay as they are. Locks and marks of MLflow are not copied: they are about the place.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import DfkdError, DiskError
from harness.store.directory import Busy, Kept, holding
from harness.store.merge_teachers import Weights, copy_weights

#: where directories wait that another took the place of
ASIDE = "set-aside"
#: temporary names; no trial's id begins with a dot
_TEMPORARY = ".merge"
#: what a directory holds that is about its place
_LOCAL = frozenset({"lock", "synced.json"})


@dataclass(frozen=True)
class Move:
    """A directory to copy: ``size`` in bytes; ``replaces`` is where that of OUT stands, "" for none."""

    source: Path
    size: int
    replaces: str


def walk(path: Path) -> Iterator[Path]:
    """Everything below a directory, links not followed, in order."""
    if not path.is_symlink() and path.is_dir():
        for place in sorted(path.iterdir()):
            yield place
            yield from walk(place)


def files(path: Path) -> dict[str, int]:
    """What is copied of a directory: relative name -> bytes."""
    return {
        str(place.relative_to(path)): place.stat().st_size
        for place in walk(path)
        if place.is_file() and not _left(place.name)
    }


def _left(name: str) -> bool:
    return name in _LOCAL or (name.startswith(".") and name.endswith(".tmp"))


def size(path: Path) -> int:
    """Bytes that are copied of a directory."""
    return sum(files(path).values())


def check_room(out: Path, needed: int) -> None:
    """Refuse what the disk cannot hold, before anything is copied.

    Raises:
        DfkdError: naming what is needed and what is free.
    """
    place = next(p for p in (out, *out.parents) if p.exists())
    free = shutil.disk_usage(place).free
    if needed > free:
        raise DfkdError(f"--out {out}: {amount(needed)} are to be copied, {amount(free)} are free there")


def carry_out(
    out: Path,
    moves: Sequence[Move],
    weights: Sequence[Weights],
    on_copied: Callable[[int, int], None] | None = None,
) -> None:
    """Copy teachers, then trials.

    Args:
        out: where to.
        moves: as they were planned, a moment ago.
        weights: the same.
        on_copied: told (bytes copied, trials copied) after each trial.

    Raises:
        DfkdError: when another merge is at work, the disk fails, or a folder changed since the plan; what was
            copied stays, and the same command goes on from there.
    """
    if not (moves or weights):
        return
    home, done = out / "trials", 0
    with _alone(out):
        home.mkdir(exist_ok=True)
        try:
            for each in weights:
                copy_weights(each, out)
                done += each.size
            for n, move in enumerate(moves, 1):
                _copy(move, out)
                done += move.size
                if on_copied:
                    on_copied(done, n)
        except OSError as error:
            raise DiskError(
                f"cannot copy to {out}: {error.strerror or error}; what was copied stays, the same command "
                "goes on"
            ) from error
        finally:
            shutil.rmtree(home / _TEMPORARY, ignore_errors=True)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Inside, no other merge writes there; what a killed one had half copied is swept."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / f"{_TEMPORARY}.lock", fallback_to_soft=False, thread_local=False)
        lock.acquire(timeout=0.1, poll_interval=0.02)
    except Timeout:
        raise Busy(f"another merge into {out} is at work") from None
    except OSError as error:
        raise DiskError(f"--out {out} cannot be written: {error.strerror or error}") from error
    try:
        shutil.rmtree(out / "trials" / _TEMPORARY, ignore_errors=True)
        yield
    finally:
        lock.release()


def _copy(move: Move, out: Path) -> None:
    id = move.source.name
    here, new = out / "trials" / id, out / "trials" / _TEMPORARY / id
    with holding(move.source):
        for name in files(move.source):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(move.source / name, new / name, follow_symlinks=False)
        if files(new) != files(move.source):
            raise DfkdError(f"{move.source} changed while it was copied: merge again")
    with holding(here, make=here.exists()):
        if (Kept(here).settled() if here.exists() else "") != move.replaces:
            raise DfkdError(f"{here} changed since it was looked at: merge again")
        if not move.replaces:
            new.rename(here)
            return
        aside = _free(out / ASIDE / id)
        aside.parent.mkdir(exist_ok=True)
        here.rename(aside)
        try:
            new.rename(here)
        except OSError:
            aside.rename(here)
            raise


def _free(path: Path) -> Path:
    """The path, or with the first number that nothing there bears."""
    names = (path if i == 1 else path.with_name(f"{path.name}-{i}") for i in range(1, 10_000))
    return next(name for name in names if not name.exists())


def amount(n: int) -> str:
    """``812 B``, ``3.4 MiB``."""
    value, units = float(n), ["B", "KiB", "MiB", "GiB", "TiB"]
    while value >= 1024 and len(units) > 1:
        value, units = value / 1024, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" else f"{value:.1f} {units[0]}"
