"""Images that lie in class folders: a user's own, and those of an archive."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from harness import files
from harness.config import Task
from harness.errors import DfkdError

if TYPE_CHECKING:
    from PIL import Image


_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".pgm", ".ppm"})
_KINDS = ", ".join(sorted(_SUFFIXES))
_MIN_SIDE, _MAX_SIDE = 8, 512

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
        raise DfkdError(f"{error.filename or folder} cannot be listed: {files.why(error)}") from None
    for label, images in found.items():
        if not images:
            raise DfkdError(f"class folder {folder / label} holds no image ({_KINDS})")
    return found


def _raise(error: OSError) -> None:
    raise error


def paired(train: Listing, test: Listing, root: Path) -> None:
    """Raise unless both splits have the same classes, two or more."""
    for extra in sorted(test.keys() - train.keys()):
        raise DfkdError(f"{root}: class {extra!r} is in the test images only: nothing to learn it from")
    for absent in sorted(train.keys() - test.keys()):
        raise DfkdError(f"{root}: class {absent!r} is in the training images only: nothing to test it on")
    if len(train) < 2:
        only = f" ({next(iter(train))!r})" if train else ""
        raise DfkdError(f"{root} has {len(train)} class folders{only}; two or more are needed")


def user_folder(name: str) -> tuple[Task, Listing, Listing]:
    """A user's folder: its task, and the listings of its training and test images.

    The task is RGB, normalised by 0.5 and 0.5, and bears crops and flips. Without ``side`` in the name it is
    the median of the training images' shorter sides, rounded to 8: the head of each file is read. The
    normaliser is fixed, since a description takes no look at the pixels.

    Raises:
        DfkdError: for an unusable folder.
    """
    root, side = parse(name)
    train, test = listing(root, "train"), listing(root, "test")
    paired(train, test, root)
    if side is None:
        short = sorted(_shorter(file) for group in train.values() for file in group)
        side = min(_MAX_SIDE, max(_MIN_SIDE, (short[len(short) // 2] + 4) // 8 * 8))
    half = (0.5, 0.5, 0.5)
    return Task(name, 1, 3, side, tuple(train), half, half, frozenset({"pad", "flip"})), train, test


@contextmanager
def reading(file: Path) -> Iterator[Image.Image]:
    """An image file, open.

    Raises:
        DfkdError: naming a file that cannot be read.
    """
    from PIL import Image

    try:
        with Image.open(file) as image:
            yield image
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DfkdError(f"{file} is not an image that can be read: {error}") from None


def _shorter(file: Path) -> int:
    with reading(file) as image:
        return min(image.size)
