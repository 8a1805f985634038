"""Images that lie in class folders: a user's own, and Tiny-ImageNet's archive."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from harness import digests
from harness.errors import DfkdError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from harness.data import Arrays
    from harness.interface import Task

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})
_KINDS = ", ".join(sorted(_SUFFIXES))
_MIN_SIDE, _MAX_SIDE = 8, 512
_TINY = "tiny-imagenet-200"
_URL = f"http://cs231n.stanford.edu/{_TINY}.zip"
_SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"

#: class -> its image files
Listing = dict[str, list[Path]]


def parse(name: str) -> tuple[Path, int | None]:
    """``folder:/path?side=32`` as (path, side or None).

    Raises:
        DfkdError: for a relative path, an unknown option or an impossible side.
    """
    text, _, query = name.removeprefix("folder:").partition("?")
    path, options = Path(text), parse_qs(query, keep_blank_values=True)
    if not path.is_absolute():  # workers run elsewhere, and a trial's id holds the name
        raise DfkdError(f"task {name!r}: {text!r} is not an absolute path (say folder:{path.absolute()})")
    for key in options:
        if key != "side":
            raise DfkdError(f"task {name!r}: unknown option {key!r}; known: side")
    side = options.get("side", [""])[-1]
    if "side" in options and not (side.isdecimal() and _MIN_SIDE <= int(side) <= _MAX_SIDE):
        raise DfkdError(f"task {name!r}: side={side} is not a whole number from {_MIN_SIDE} to {_MAX_SIDE}")
    return path, int(side) if side else None


def listing(root: Path, split: str, beside: tuple[str, ...] = ()) -> Listing:
    """Class -> image files anywhere under ``root/split/<class>/``, both sorted; hidden ones do not count.

    Args:
        root: the data set's folder.
        split: its subfolder.
        beside: suffixes of files that may lie between the images and are passed over.

    Raises:
        DfkdError: for a missing or empty folder, and for a file that is no image.
    """
    folder = root / split
    if not folder.is_dir():
        raise DfkdError(f"{folder} is missing: a folder task has train/<class>/* and test/<class>/*")
    found: Listing = {}
    try:
        # links are followed: class folders are often links to where the images lie
        for place, inner, names in os.walk(folder, followlinks=True, onerror=_raise):
            inner[:] = sorted(d for d in inner if not d.startswith("."))
            inside = Path(place).relative_to(folder).parts
            if not inside:
                found = {d: [] for d in inner}
            for path in (Path(place, n) for n in sorted(names) if not n.startswith(".")):
                if (suffix := path.suffix.lower()) in beside:
                    continue
                if suffix not in _SUFFIXES:
                    raise DfkdError(f"{path} is not an image ({_KINDS}): move it elsewhere")
                if not inside:
                    raise DfkdError(f"image {path} lies in no class folder: {split}/<class>/* is read")
                found[inside[0]].append(path)
    except OSError as error:
        raise DfkdError(f"{error.filename or folder} cannot be listed: {error.strerror or error}") from None
    for label, files in found.items():
        if not files:
            raise DfkdError(f"class folder {folder / label} holds no image ({_KINDS})")
    return found


def _raise(error: OSError) -> None:
    raise error


def _paired(train: Listing, test: Listing, root: Path) -> None:
    """Raise unless both splits have the same classes, two or more."""
    for extra in sorted(test.keys() - train.keys()):
        raise DfkdError(f"{root}: class {extra!r} is in the test images only: nothing to learn it from")
    for absent in sorted(train.keys() - test.keys()):
        raise DfkdError(f"{root}: class {absent!r} is in the training images only: nothing to test it on")
    if len(train) < 2:
        only = f" ({next(iter(train))!r})" if train else ""
        raise DfkdError(f"{root} has {len(train)} class folders{only}; two or more are needed")


def _user(name: str) -> tuple[Task, Listing, Listing]:
    from harness.interface import Task

    root, side = parse(name)
    train, test = listing(root, "train"), listing(root, "test")
    _paired(train, test, root)
    if side is None:
        short = sorted(_shorter(file) for files in train.values() for file in files)
        side = min(_MAX_SIDE, max(_MIN_SIDE, (short[len(short) // 2] + 4) // 8 * 8))
    half = (0.5, 0.5, 0.5)
    return Task(name, 1, 3, side, tuple(train), half, half, frozenset({"pad", "flip"})), train, test


def describe_folder(name: str) -> Task:
    """A user's folder as a task: RGB, normalised by 0.5 and 0.5, bears crops and flips.

    Without ``side`` in the name it is the median of the training images' shorter sides, rounded to 8: the
    head of each file is read. The normaliser is fixed, since a description takes no look at the pixels.

    Raises:
        DfkdError: for an unusable folder.
    """
    return _user(name)[0]


def load_folder(name: str) -> tuple[Task, Arrays, list[Path]]:
    """A folder's task, its arrays (train images and labels, test images and labels) and its files.

    Raises:
        DfkdError: for an unusable folder or image.
    """
    task, train, test = _user(name)
    return task, *_arrays(train, test, task.side)


def _arrays(train: Listing, test: Listing, side: int) -> tuple[Arrays, list[Path]]:
    files = [f for part in (train, test) for group in part.values() for f in group]
    return (*read(train, side), *read(test, side)), files


def read(found: Listing, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode, turn as EXIF says, resize the shorter side (bilinear, antialiased) and crop the centre.

    Returns:
        Pixels (N, 3, side, side) uint8, memory-mapped when they are many (`digests.keep`), and labels (N,).

    Raises:
        DfkdError: naming the file that cannot be decoded.
    """
    import numpy as np

    files = [f for group in found.values() for f in group]
    labels = np.repeat(np.arange(len(found), dtype=np.int64), [len(group) for group in found.values()])
    shape = (len(files), 3, side, side)
    return digests.keep(
        f"decoded 1\n{digests.stamp(files)}", shape, (_decode(f, side) for f in files)
    ), labels


@contextmanager
def _reading(file: Path) -> Iterator[Image.Image]:
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DfkdError(f"{file} is not an image that can be read: {error}") from None


def _shorter(file: Path) -> int:
    with _reading(file) as image:
        return min(image.size)


def _decode(file: Path, side: int) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, ImageOps

    with _reading(file) as image:
        if image.mode.startswith(("I", "F")):  # Pillow would clip every bright pixel to white
            raise DfkdError(f"{file} has more than 8 bits a channel (mode {image.mode}): convert it first")
        rgb = ImageOps.exif_transpose(image).convert("RGB")
    # `fit` resizes and crops the largest centred square in one resampling.
    fitted = rgb if rgb.size == (side, side) else ImageOps.fit(rgb, (side, side), Image.Resampling.BILINEAR)
    return np.asarray(fitted, dtype=np.uint8).transpose(2, 0, 1)


# --- Tiny-ImageNet ------------------------------------------------------------------------------


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
