"""From files of images to arrays: read, turned, resized, cropped; kept on disk when they are many."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import DfkdError
from harness.tasks import cache
from harness.tasks.folders import Listing, reading

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from harness.tasks.cache import Arrays


def read_both(train: Listing, test: Listing, side: int) -> tuple[Arrays, list[Path]]:
    """Train images and labels, test images and labels, as `read` gives them, and their files."""
    found = [f for part in (train, test) for group in part.values() for f in group]
    return (*read(train, side), *read(test, side)), found


def read(found: Listing, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Decode, turn as EXIF says, resize the shorter side (bilinear, antialiased) and crop the centre.

    Returns:
        Pixels (N, 3, side, side) uint8, memory-mapped when they are many (`cache.keep`), and labels (N,).

    Raises:
        DfkdError: naming the file that cannot be decoded.
    """
    import numpy as np

    images = [f for group in found.values() for f in group]
    labels = np.repeat(np.arange(len(found), dtype=np.int64), [len(group) for group in found.values()])
    shape = (len(images), 3, side, side)
    return cache.keep(f"decoded 1\n{cache.stamp(images)}", shape, (_decode(f, side) for f in images)), labels


def _decode(file: Path, side: int) -> NDArray[np.uint8]:
    import numpy as np
    from PIL import Image, ImageOps

    with reading(file) as image:
        if image.mode.startswith(("I", "F")):  # Pillow would clip every bright pixel to white
            raise DfkdError(f"{file} has more than 8 bits a channel (mode {image.mode}): convert it first")
        rgb = ImageOps.exif_transpose(image).convert("RGB")
    # `fit` resizes and crops the largest centred square in one resampling.
    fitted = rgb if rgb.size == (side, side) else ImageOps.fit(rgb, (side, side), Image.Resampling.BILINEAR)
    return np.asarray(fitted, dtype=np.uint8).transpose(2, 0, 1)
