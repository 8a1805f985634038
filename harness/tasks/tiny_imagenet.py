"""Tiny-ImageNet: its archive fetched, checked and unpacked."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DfkdError
from harness.tasks.folders import Listing, _arrays, _paired, listing

if TYPE_CHECKING:
    from harness.tasks.cache import Arrays


_TINY = "tiny-imagenet-200"


_URL = f"http://cs231n.stanford.edu/{_TINY}.zip"


_SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"


def tiny_imagenet(root: Path, download: bool) -> tuple[Arrays, list[Path]]:
    """Tiny-ImageNet from its official archive ``tiny-imagenet-200.zip`` in ``root``, unpacked on first use.

    The archive's ``test`` has no labels: its ``val`` is the test split, grouped by the annotation file. A
    folder that somebody unpacked, with ``val`` regrouped or not, is read as it is.

    Returns:
        Arrays and files as `load_folder`.

    Raises:
        DfkdError: when it is missing, truncated or not what it should be.
    """
    home, archive = root / _TINY, root / f"{_TINY}.zip"
    if not home.is_dir():
        if not archive.exists():
            if not download:
                raise DfkdError(
                    f"task 'tiny_imagenet': neither {home} nor {archive.name} is there (--data-root or "
                    "DFKD_DATA_ROOT names another place); `dfkd tasks --download tiny_imagenet` fetches it"
                )
            fetch(archive)
        unpack(archive, home)
    train, test = listing(home, "train", beside=(".txt",)), annotated(home)
    _paired(train, test, home)
    return _arrays(train, test, 64)


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


def unpack(archive: Path, home: Path) -> None:
    """Extract the folder ``home.name`` of a zip to ``home``: whole or not at all, one process at a time.

    Nothing may leave that folder: absolute paths, ``..`` and links are refused before anything is written.

    Raises:
        DfkdError: for a damaged or hostile archive, or a disk that is full.
    """
    from filelock import FileLock

    try:
        with FileLock(home.with_name(f".{home.name}.lock")):
            if not home.is_dir():  # else another process was faster
                _unpack(archive, home)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        raise DfkdError(f"{archive} is truncated or damaged: {error}") from None
    except OSError as error:
        raise DfkdError(f"{archive} cannot be unpacked to {home}: {error.strerror or error}") from None


def _unpack(archive: Path, home: Path) -> None:
    part = home.with_name(f".{home.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed
    try:
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                place = Path(member.filename.replace("\\", "/")).parts
                link = stat.S_ISLNK(member.external_attr >> 16)
                if not place or place[0] != home.name or ".." in place or link:
                    raise DfkdError(f"{archive} holds {member.filename!r}, which does not belong there")
            zipped.extractall(part)  # verifies each member's checksum
        if not (part / home.name).is_dir():
            raise DfkdError(f"{archive} is empty")
        (part / home.name).replace(home)
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
    for file in (f for files in found.values() for f in files):
        if not file.is_file():
            raise DfkdError(f"{notes} names {file.name!r}, which is not in {file.parent}")
    return {label: sorted(found[label]) for label in sorted(found)}
