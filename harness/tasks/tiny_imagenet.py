"""Tiny-ImageNet: its archive fetched, checked and unpacked."""

from __future__ import annotations

import shutil
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files
from harness.errors import DfkdError
from harness.tasks.decode import read_both
from harness.tasks.folders import Listing, listing, paired

if TYPE_CHECKING:
    from harness.config import Task
    from harness.tasks.cache import Arrays

_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"


def tiny_imagenet(task: Task, root: Path, home: str, download: bool) -> tuple[Arrays, list[Path]]:
    """Tiny-ImageNet from its official archive ``tiny-imagenet-200.zip`` in ``root``, unpacked on first use.

    The archive's ``test`` has no labels: its ``val`` is the test split, grouped by the annotation file. A
    folder that somebody unpacked, with ``val`` regrouped or not, is read as it is.

    Returns:
        Arrays and files as `harness.tasks.decode.read_both`.

    Raises:
        DfkdError: when it is missing, another archive or not what it should be.
    """
    folder, archive = root / home, root / f"{home}.zip"
    if not folder.is_dir():
        if not archive.exists():
            if not download:
                raise DfkdError(
                    f"task {task.name!r}: neither {folder} nor {archive.name} is there (--data-root or "
                    f"DFKD_DATA_ROOT names another place); `dfkd tasks --download {task.name}` fetches it"
                )
            fetch(archive)
        unpack(archive, folder)
    train, test = listing(folder, "train", beside=(".txt",)), annotated(folder)
    paired(train, test, folder)
    return read_both(train, test, task.side)


def fetch(archive: Path) -> None:
    """Download the archive and verify its SHA-256.

    Raises:
        DfkdError: when it cannot be had.
    """
    import pooch

    try:
        pooch.retrieve(_URL, f"sha256:{_SHA256}", fname=archive.name, path=archive.parent)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DfkdError(f"{_URL} cannot be fetched into {archive.parent}: {reason}") from None


def unpack(archive: Path, folder: Path) -> None:
    """Extract the verified archive to ``folder``: whole or not at all, one process at a time.

    Raises:
        DfkdError: for any archive but the official one, or a disk that is full.
    """
    import pooch

    part = folder.with_name(f".{folder.name}.part")
    lock = folder.with_name(f".{folder.name}.lock")
    with files.saying(f"{archive} cannot be unpacked to {folder}"), files.locked(lock):
        if folder.is_dir():  # another process was faster
            return
        if (found := pooch.file_hash(str(archive))) != _SHA256:
            raise DfkdError(
                f"{archive} is truncated or damaged: its SHA-256 is {found[:8]}..., not {_SHA256[:8]}...; "
                "remove it, then `dfkd tasks --download tiny_imagenet`"
            )
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
        try:
            pooch.Unzip(extract_dir=part.name)(str(archive), "download", None)
            (part / folder.name).replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def annotated(home: Path) -> Listing:
    """Class -> images of ``home/val``, by its ``val_annotations.txt`` or, once regrouped, by class folder.

    Raises:
        DfkdError: for an annotation that fits no file.
    """
    if not (home / "val" / "images").is_dir():
        return listing(home, "val", beside=(".txt",))
    notes = home / "val" / "val_annotations.txt"
    found: defaultdict[str, list[Path]] = defaultdict(list)
    try:
        for line in notes.read_text().splitlines():
            image, label, *_ = line.split("\t")
            found[label].append(notes.parent / "images" / Path(image).name)
    except (OSError, ValueError) as error:
        raise DfkdError(f"{notes} cannot be read: {error}") from None
    for file in (image for group in found.values() for image in group):
        if not file.is_file():
            raise DfkdError(f"{notes} names {file.name!r}, which is not in {file.parent}")
    return {label: sorted(found[label]) for label in sorted(found)}
