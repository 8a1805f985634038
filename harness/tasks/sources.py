"""Where a task's images are read: scikit-learn, torchvision. The only home of torchvision.datasets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DfkdError
from harness.tasks import tiny_imagenet
from harness.tasks.cache import Arrays

if TYPE_CHECKING:
    import numpy as np


#: (root, download) -> (train images and labels, test images and labels), the files they were read from
Opener = Callable[[Path, bool], tuple[Arrays, list[Path]]]


def _digits(side: int) -> Opener:
    def opener(root: Path, download: bool) -> tuple[Arrays, list[Path]]:
        import numpy as np
        from PIL import Image
        from sklearn.datasets import load_digits

        found = load_digits()
        images = np.rint(found.images * (255 / 16)).astype(np.uint8)
        if side != 8:
            wide = [Image.fromarray(i).resize((side, side), Image.Resampling.BILINEAR) for i in images]
            images = np.stack([np.asarray(i) for i in wide])
        labels = found.target.astype(np.int64)
        train = _stratified(labels, 0.5, seed=1)
        return (images[train, None], labels[train], images[~train, None], labels[~train]), []

    return opener


def _torchvision(name: str) -> Opener:
    def opener(root: Path, download: bool) -> tuple[Arrays, list[Path]]:
        import numpy as np

        splits = []
        for found in _opened(name, root, download):
            pixels = np.asarray(found.data)
            pixels = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
            splits += [np.ascontiguousarray(pixels), np.asarray(found.targets, dtype=np.int64)]
        files = [f for f in _home(name, root).iterdir() if f.is_file()]
        return (splits[0], splits[1], splits[2], splits[3]), files

    return opener


def _home(name: str, root: Path) -> Path:
    homes = {"mnist": "MNIST/raw", "cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
    return root / homes[name]


def _opened(name: str, root: Path, download: bool) -> list[Any]:
    """Train and test as torchvision's data sets; it checks CIFAR at each opening, MNIST after a download."""
    from torchvision import datasets

    source = {"mnist": datasets.MNIST, "cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    home, fetch = _home(name, root), f"`dfkd tasks --download {name}`"
    try:
        return [source(str(root), train=train) for train in (True, False)]
    except Exception as error:  # noqa: BLE001 - a damaged file raises whatever its reader trips over
        if not (isinstance(error, RuntimeError) and "not found" in str(error)):
            raise DfkdError(
                f"task {name!r}: a file in {home} is damaged ({_line(error)}); remove it, then {fetch}"
            ) from None
    if not download:
        raise DfkdError(
            f"task {name!r}: files are missing or damaged in {home} (--data-root or DFKD_DATA_ROOT names "
            f"another data root than {root}); {fetch} fetches them"
        )
    try:
        source(str(root), download=True)
    except Exception as error:  # noqa: BLE001 - network, disk and archive each fail in their own way
        raise DfkdError(f"task {name!r} cannot be fetched into {home}: {_line(error)}") from None
    return _opened(name, root, download=False)


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}".removesuffix(": ")


_OPENERS: dict[str, Opener] = {
    "digits": _digits(8),
    "digits16": _digits(16),
    "mnist": _torchvision("mnist"),
    "cifar10": _torchvision("cifar10"),
    "cifar100": _torchvision("cifar100"),
    "tiny_imagenet": tiny_imagenet.tiny_imagenet,
}


def _stratified(labels: np.ndarray, share: float, seed: int) -> np.ndarray:
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
