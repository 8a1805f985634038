"""Teachers of several folders in one: a name has one digest, or it is refused."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import DfkdError
from harness.store.cards import Card, check_digest, file_digest, read_card
from harness.store.directory import Busy


@dataclass(frozen=True)
class Weights:
    """A teacher to copy: file and card; ``name`` is ``task/file``, ``size`` in bytes."""

    source: Path
    name: str
    digest: str
    size: int


def plan_teachers(sources: Sequence[Path], out: Path) -> tuple[list[Weights], list[tuple[str, str]]]:
    """Which teachers are to be copied, and (why, digest or "") of those that are not.

    A teacher that OUT or an earlier source has under the same name and digest is passed over.
    """
    found: dict[str, tuple[Path, Card]] = {}
    copied: list[Weights] = []
    refused: list[tuple[str, str]] = []
    for source in sources:
        for path in sorted((source / "teachers").glob("*/*.safetensors")):
            name = f"{path.parent.name}/{path.name}"
            if path.name.startswith("."):
                continue
            digest = ""
            try:
                card = _card(path)
                digest = card.digest
                mine = out / "teachers" / name
                if name not in found and (mine.exists() or mine.is_symlink()):
                    found[name] = mine, _card(mine)
            except DfkdError as error:
                refused.append((str(error), digest))
                continue
            if name not in found:
                found[name] = path, card
                size = path.stat().st_size + path.with_suffix(".json").stat().st_size
                copied.append(Weights(path, name, card.digest, size))
            elif (known := found[name])[1].digest != card.digest:
                line = f"teacher {path} has digest {card.digest[:12]}, {known[0]} has {known[1].digest[:12]}"
                refused.append((line, card.digest))
    return copied, refused


def _card(path: Path) -> Card:
    """The card of a teacher file that is what its card says.

    Raises:
        DfkdError: for a link, a missing or damaged card, or another file.
    """
    for each in (path.parent, path, path.with_suffix(".json")):
        if each.is_symlink():
            raise DfkdError(f"{each} is a link to {os.readlink(each)}: links are not followed")
    card = read_card(path)
    check_digest(path, card)
    return card


def copy_weights(weights: Weights, out: Path) -> None:
    """Copy a teacher, then its card, both under temporary names first; the copy's digest is checked.

    Raises:
        Busy: when that teacher is being trained there.
        DfkdError: when it is there by now, or came out other than it was.
    """
    path = out / "teachers" / weights.name
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path.with_suffix(".lock"), thread_local=False)
    try:
        lock.acquire(timeout=0.1, poll_interval=0.02)
    except Timeout:
        raise Busy(f"teacher {path} is being made: merge again when it is there") from None
    new = path.with_name(f".{path.stem}.{os.getpid()}.tmp")
    try:
        if path.exists():
            raise DfkdError(f"{path} changed since it was looked at: merge again")
        shutil.copy2(weights.source, new)
        if file_digest(new) != weights.digest:
            raise DfkdError(f"{weights.source} changed while it was copied: merge again")
        new.replace(path)
        shutil.copy2(weights.source.with_suffix(".json"), new)
        new.replace(path.with_suffix(".json"))
    finally:
        with suppress(OSError):
            new.unlink(missing_ok=True)
        lock.release()
