"""Images that lie in class folders: a user's own, and Tiny-ImageNet's archive once it is regrouped."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from harness.digests import cache_dir
from harness.errors import DfkdError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.interface import Task

_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})
#: splits above this many bytes are kept in a memory-mapped file and streamed
MAP_ABOVE = 1 << 30
_MIN_SIDE, _MAX_SIDE = 8, 512
_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
_SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"

Listing = dict[str, list[Path]]


def parse(name: str) -> tuple[Path, int | None]:
    """``folder:/path?side=32`` as (path, side or None).

    Raises:
        DfkdError: for an unknown option or an impossible side.
    """
    path, _, query = name.removeprefix("folder:").partition("?")
    options = parse_qs(query, keep_blank_values=True)
    for key in options:
        if key != "side":
            raise DfkdError(f"task {name!r}: unknown option {key!r}; known: side")
    side = options.get("side", [""])[-1]
    if "side" in options and not (side.isdigit() and _MIN_SIDE <= int(side) <= _MAX_SIDE):
        raise DfkdError(f"task {name!r}: side={side} is not a whole number from {_MIN_SIDE} to {_MAX_SIDE}")
    return Path(path), int(side) if side else None


def listing(root: Path, split: str) -> Listing:
    """Class -> image files of ``root/split/<class>/``, both sorted; hidden files do not count.

    Raises:
        DfkdError: for a missing or empty folder.
    """
    folder = root / split
    if not folder.is_dir():
        raise DfkdError(f"{folder} is missing: a folder task has train/<class>/* and test/<class>/*")
    found: Listing = {}
    for sub in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        files = sorted(p for p in sub.rglob("*") if p.is_file() and not p.name.startswith("."))
        found[sub.name] = [p for p in files if p.suffix.lower() in _SUFFIXES]
        if not found[sub.name]:
            raise DfkdError(f"class folder {sub} holds no image ({', '.join(sorted(_SUFFIXES))})")
    if len(found) < 2:
        raise DfkdError(f"{folder} has {len(found)} class folders; two or more are needed")
    return found


def _listings(name: str) -> tuple[Listing, Listing, int]:
    from PIL import Image, UnidentifiedImageError

    root, side = parse(name)
    train, test = listing(root, "train"), listing(root, "test")
    for extra in sorted(test.keys() - train.keys()):
        raise DfkdError(f"class {extra!r} is in {root / 'test'} only: nothing to learn it from in train")
    for absent in sorted(train.keys() - test.keys()):
        raise DfkdError(f"class {absent!r} is in {root / 'train'} only: nothing to test it on")
    if side is None:
        short = []
        for file in [f for files in train.values() for f in files]:
            try:
                with Image.open(file) as image:
                    short.append(min(image.size))
            except (OSError, UnidentifiedImageError) as error:
                raise DfkdError(f"{file} is not an image that can be read: {error}") from None
        median = sorted(short)[len(short) // 2]
        side = min(_MAX_SIDE, max(_MIN_SIDE, 8 * round(median / 8)))
    return train, test, side


def _task(name: str, classes: tuple[str, ...], side: int) -> Task:
    from harness.interface import Task

    half = (0.5, 0.5, 0.5)
    return Task(name, 1, 3, side, classes, half, half, frozenset({"pad", "flip"}))


def describe_folder(name: str) -> Task:
    """A user's folder as a task: RGB, normalised by 0.5 and 0.5, bears crops and flips.

    Raises:
        DfkdError: for an unusable folder.
    """
    train, _, side = _listings(name)
    return _task(name, tuple(train), side)


def load_folder(name: str) -> tuple[Task, tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], list[Path]]:
    """A folder's task, its arrays (train images and labels, test images and labels) and its files.

    Raises:
        DfkdError: for an unusable folder or image.
    """
    train, test, side = _listings(name)
    task = _task(name, tuple(train), side)
    x, y = read(train, side)
    x_test, y_test = read(test, side)
    files = [f for part in (train, test) for group in part.values() for f in group]
    return task, (x, y, x_test, y_test), files


def read(found: Listing, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode, resize the shorter side (bilinear, antialiased), crop the centre: (N, 3, side, side) uint8.

    Above `MAP_ABOVE` bytes the pixels go through a memory-mapped file in the cache.

    Raises:
        DfkdError: naming the file that cannot be decoded.
    """
    import numpy as np

    files = [(f, k) for k, group in enumerate(found.values()) for f in group]
    labels = np.array([k for _, k in files], dtype=np.int64)
    shape = (len(files), 3, side, side)
    if np.prod(shape) <= MAP_ABOVE:
        pixels = np.empty(shape, dtype=np.uint8)
        for i, (f, _) in enumerate(files):
            pixels[i] = _decode(f, side)
        return pixels, labels
    stamp = "\n".join(f"{f} {f.stat().st_size} {f.stat().st_mtime_ns}" for f, _ in files)
    path = cache_dir() / "pixels" / f"{hashlib.sha256(f'{side}{stamp}'.encode()).hexdigest()}.npy"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{path.stem}.{os.getpid()}.tmp.npy")
        try:
            mapped = np.lib.format.open_memmap(new, mode="w+", dtype=np.uint8, shape=shape)
            for i, (f, _) in enumerate(files):
                mapped[i] = _decode(f, side)
            mapped.flush()
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r"), labels


def _decode(file: Path, side: int) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            rgb = image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DfkdError(f"{file} is not an image that can be read: {error}") from None
    # ImageOps.fit keeps the aspect ratio: the largest centred square, then one resampling.
    fitted = rgb if rgb.size == (side, side) else ImageOps.fit(rgb, (side, side), Image.Resampling.BILINEAR)
    return np.asarray(fitted, dtype=np.uint8).transpose(2, 0, 1)


# --- Tiny-ImageNet ------------------------------------------------------------------------------


def tiny_imagenet(
    root: Path, download: bool
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], list[Path]]:
    """Tiny-ImageNet from its official archive ``tiny-imagenet-200.zip`` in ``root``, unpacked on first use.

    ``val/`` of the archive is one flat folder with an annotation file; it becomes the test split, regrouped
    into class folders. Returns arrays and files as `load_folder`.

    Raises:
        DfkdError: when it is missing, truncated or not what it should be.
    """
    home = root / "tiny-imagenet-200"
    archive = root / "tiny-imagenet-200.zip"
    if not home.is_dir():
        if not archive.exists():
            if not download:
                raise DfkdError(
                    f"task 'tiny_imagenet': neither {home} nor {archive} is there (--data-root, "
                    f"DFKD_DATA_ROOT); `dfkd tasks --download tiny_imagenet` fetches it from {_URL}"
                )
            fetch(archive)
        unpack(archive, root, home.name)
    train, test = listing(home, "train"), listing(home, "test")
    if set(train) != set(test):
        odd = sorted(set(train) ^ set(test))
        raise DfkdError(f"{home}: class {odd[0]!r} is in one of train and test only")
    files = [f for part in (train, test) for group in part.values() for f in group]
    return (*read(train, 64), *read(test, 64)), files


def fetch(archive: Path) -> None:
    """Download the archive and verify its SHA-256.

    Raises:
        DfkdError: when it cannot be had.
    """
    import pooch

    try:
        pooch.retrieve(_URL, f"sha256:{_SHA256}", fname=archive.name, path=archive.parent)
    except (OSError, ValueError) as error:
        raise DfkdError(f"{_URL} cannot be fetched: {str(error).splitlines()[0]}") from None


def unpack(archive: Path, root: Path, name: str) -> None:
    """Extract ``name/`` of a zip under ``root``, whole or not at all, and regroup its ``val``.

    No member may leave the folder: absolute paths, ``..`` and links are refused before anything is written.

    Raises:
        DfkdError: for a damaged or hostile archive, or a disk that is full.
    """
    scratch = Path(tempfile.mkdtemp(prefix=".unpack-", dir=root))
    try:
        with zipfile.ZipFile(archive) as zipped:
            for member in zipped.infolist():
                parts = Path(member.filename.replace("\\", "/")).parts
                link = stat.S_ISLNK(member.external_attr >> 16)
                if not parts or parts[0] != name or ".." in parts or link:
                    raise DfkdError(f"{archive} holds {member.filename!r}, which does not belong there")
            zipped.extractall(scratch)
        regroup(scratch / name)
        (scratch / name).replace(root / name)
    except (zipfile.BadZipFile, EOFError, zipfile.LargeZipFile, ValueError) as error:
        raise DfkdError(f"{archive} is truncated or damaged: {error}") from None
    except OSError as error:
        raise DfkdError(f"{archive} cannot be unpacked under {root}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def regroup(home: Path) -> None:
    """Move ``val/images/*`` to ``test/<class>/`` by ``val_annotations.txt``, and lift ``train/*/images``."""
    notes = home / "val" / "val_annotations.txt"
    if not notes.exists():
        raise DfkdError(f"{notes.relative_to(home.parent)} is missing from the archive")
    shutil.rmtree(home / "test", ignore_errors=True)  # the archive's own has no labels
    for line in notes.read_text().splitlines():
        file, label, *_ = line.split("\t")
        if Path(file).name != file or Path(label).name != label or label in ("", ".", ".."):
            raise DfkdError(f"val_annotations.txt names {file!r} in class {label!r}: not a plain name")
        target = home / "test" / label
        target.mkdir(parents=True, exist_ok=True)
        source = home / "val" / "images" / file
        if not source.exists():
            raise DfkdError(f"val_annotations.txt names {file!r}, which is not in the archive")
        source.replace(target / file)
