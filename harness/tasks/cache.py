"""What the cache remembers of a data set: its SHA-256 by (path, size, mtime) of the files, and its pixels."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness import files
from harness.errors import DfkdError, DiskError

if TYPE_CHECKING:
    import numpy as np

#: train images and labels, test images and labels
Arrays = tuple["np.ndarray", "np.ndarray", "np.ndarray", "np.ndarray"]

#: images above this many bytes are kept in a memory-mapped file of the cache and streamed
MAP_ABOVE = 1 << 30


def cache_dir() -> Path:
    """Where what can be made again is kept: ``DFKD_CACHE``, else the user's cache."""
    from platformdirs import user_cache_path

    return Path(os.environ.get("DFKD_CACHE") or user_cache_path("dfkd-bench"))


def of_arrays(arrays: Iterable[np.ndarray]) -> str:
    """64 hex digits over shapes, types and values, in order."""
    import numpy as np

    total = hashlib.sha256()
    for a in arrays:
        total.update(f"{a.shape}{a.dtype}".encode())
        for start in range(0, len(a), 4096):
            total.update(np.ascontiguousarray(a[start : start + 4096]).data)
    return total.hexdigest()


def stamp(read: Iterable[Path]) -> str:
    """Path, size and time of each file that was read, one a line.

    Raises:
        DfkdError: for a file that is gone.
    """
    lines = []
    for file in read:
        with files.saying(f"{file} cannot be read"):
            s = file.stat()
        lines.append(f"{file} {s.st_size} {s.st_mtime_ns}")
    return "\n".join(lines)


def remembered(name: str, read: Iterable[Path], arrays: Iterable[np.ndarray]) -> str:
    """`of_arrays`, taken from the cache while no file has another size or time than when it was computed.

    Args:
        name: the task.
        read: what the arrays were read from; none means computed each time.
        arrays: the contents.
    """
    stamps = stamp(sorted(read))
    if not stamps:
        return of_arrays(arrays)
    key = hashlib.sha256(f"{name}\n{stamps}".encode()).hexdigest()
    path = cache_dir() / "digests.json"
    with suppress(DiskError):  # a cache that cannot be used costs time, nothing else
        if value := (files.read_json(path) or {}).get(key):
            return str(value)
    value = of_arrays(arrays)
    with suppress(DiskError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, json.dumps((files.read_json(path) or {}) | {key: value}))
    return value


def keep(key: str, shape: tuple[int, ...], rows: Iterable[np.ndarray]) -> np.ndarray:
    """Stack uint8 rows: in memory up to `MAP_ABOVE` bytes, else in a read-only memory-mapped file.

    Args:
        key: what the contents depend on; an existing file of the same key is used as it is.
        shape: of the whole, one row for each of its first axis.
        rows: taken one at a time, and not at all where the file is there.

    Raises:
        DfkdError: when the cache cannot be written.
    """
    import numpy as np

    if math.prod(shape) <= MAP_ABOVE:
        pixels = np.empty(shape, dtype=np.uint8)
        for i, row in enumerate(rows):
            pixels[i] = row
        return pixels
    path = cache_dir() / "pixels" / f"{hashlib.sha256(f'{key} {shape}'.encode()).hexdigest()}.npy"
    if not path.exists():
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # written, not mapped: on a full disk a write fails with an error, a map with SIGBUS
            with files.whole(path) as new, new.open("wb") as file:
                np.lib.format.write_array_header_1_0(file, header)
                for row in rows:
                    file.write(row.tobytes())
        except OSError as error:
            raise DfkdError(
                f"the pixel cache {path.parent} cannot be written ({files.why(error)}); "
                "DFKD_CACHE names another place"
            ) from None
    found: np.ndarray = np.load(path, mmap_mode="r")
    return found
