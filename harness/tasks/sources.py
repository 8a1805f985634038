"""Openers of what scikit-learn and torchvision read. The only home of torchvision.datasets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DfkdError

if TYPE_CHECKING:
    import numpy as np

    from harness.config import Task
    from harness.tasks.cache import Arrays


def digits(task: Task, root: Path, home: str, download: bool) -> tuple[Arrays, list[Path]]:
    """scikit-learn's digits, which come with it, half and half class by class; enlarged to a side of 16."""
    import numpy as np
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    images = np.rint(found.images * (255 / 16)).astype(np.uint8)
    if task.side != 8:
        size = (task.side, task.side)
        wide = [Image.fromarray(i).resize(size, Image.Resampling.BILINEAR) for i in images]
        images = np.stack([np.asarray(i) for i in wide])
    labels = found.target.astype(np.int64)
    train = stratified(labels, 0.5, seed=1)
    return (images[train, None], labels[train], images[~train, None], labels[~train]), []


def torchvision(task: Task, root: Path, home: str, download: bool) -> tuple[Arrays, list[Path]]:
    """A data set that torchvision has under the task's name in capitals.

    Raises:
        DfkdError: where a file is missing or damaged, or cannot be fetched.
    """
    import numpy as np

    splits = []
    for found in _opened(task.name, root, home, download):
        pixels = np.asarray(found.data)
        pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
        splits += [np.ascontiguousarray(pixels), np.asarray(found.targets, dtype=np.int64)]
    files = [f for f in (root / home).iterdir() if f.is_file()]
    return (splits[0], splits[1], splits[2], splits[3]), files


def _opened(name: str, root: Path, home: str, download: bool) -> list[Any]:
    """Train and test as torchvision's data sets; it checks CIFAR at each opening, MNIST after a download."""
    from torchvision import datasets

    source = getattr(datasets, name.upper())
    folder, fetch = root / home, f"`dfkd tasks --download {name}`"
    try:
        return [source(str(root), train=train) for train in (True, False)]
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its reader trips over
        if not (isinstance(error, RuntimeError) and "not found" in str(error)):
            raise DfkdError(
                f"task {name!r}: a file in {folder} is damaged ({_line(error)}); remove it, then {fetch}"
            ) from None
    if not download:
        raise DfkdError(
            f"task {name!r}: files are missing or damaged in {folder} (--data-root or DFKD_DATA_ROOT names "
            f"another data root than {root}); {fetch} fetches them"
        )
    try:
        source(str(root), download=True)
    except Exception as error:  # noqa: BLE001 - network, disk and archive each fail in their own way
        raise DfkdError(f"task {name!r} cannot be fetched into {folder}: {_line(error)}") from None
    return _opened(name, root, home, download=False)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


def stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """Mask of a fixed random ``share`` of each class, rounded to nearest, one image at least.

    Uses MT19937 through `numpy.random.RandomState`, whose stream numpy promises never to change.
    """
    import numpy as np

    stream = np.random.RandomState(seed)
    mask = np.zeros(len(labels), dtype=bool)
    for k in np.unique(labels):
        index = np.flatnonzero(labels == k)
        mask[stream.permutation(index)[: max(1, round(share * len(index)))]] = True
    return mask
