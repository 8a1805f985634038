"""Tasks and their images: what each data set is, and the only place where real images are opened."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import digests, folder
from harness.errors import DfkdError, unknown
from harness.tasks import KNOWN

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from harness.interface import Task

FOLDER = "folder:"


@dataclass(frozen=True)
class Split:
    """Images (N, C, H, W) uint8, possibly memory-mapped, and labels (N,) int64."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, index: np.ndarray | slice, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images (n, C, H, W) as float in [0, 1] and labels (n,), on a device."""
        import numpy as np
        import torch

        # copies, so that a slice never shares the split's memory (which may be a read-only map)
        x = torch.from_numpy(np.array(self.images[index], order="C")).to(device).float().div_(255)
        return x, torch.from_numpy(np.array(self.labels[index])).to(device)


@dataclass(frozen=True)
class TaskData:
    """A task with its images.

    ``val`` is a fixed stratified tenth of ``train``, which the teacher has seen: for tuning only.
    """

    task: Task
    train: Split
    val: Split
    test: Split
    digest: str


Arrays = tuple["np.ndarray", "np.ndarray", "np.ndarray", "np.ndarray"]
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
    "tiny_imagenet": folder.tiny_imagenet,
}


def names() -> list[str]:
    """Built-in tasks; ``folder:/path?side=32`` is a user's own."""
    return list(KNOWN)


def version(name: str) -> int:
    """Version of a task's splits; opens no file.

    Raises:
        DfkdError: for an unknown task.
    """
    if name.startswith(FOLDER):
        return 1
    if name not in KNOWN:
        raise unknown("task", name, [*KNOWN, "folder:/path"])
    return KNOWN[name].version


def data_root(given: Path | None = None) -> Path:
    """Where data sets lie: as given, else ``DFKD_DATA_ROOT``, else the user's cache."""
    if given is not None:
        return Path(given)
    if env := os.environ.get("DFKD_DATA_ROOT"):
        return Path(env)
    from platformdirs import user_cache_path

    return user_cache_path("dfkd-bench") / "data"


def describe(name: str, root: Path | None = None) -> Task:
    """A task's public description; needs no file for a built-in one, the directory listing for a folder.

    Raises:
        DfkdError: for an unknown task or an unusable folder.
    """
    from harness.interface import Task

    if name.startswith(FOLDER):
        return folder.describe_folder(name)
    version(name)  # raises for a name nobody knows
    known = KNOWN[name]
    return Task(
        name, known.version, known.channels, known.side, known.classes, known.mean, known.std, known.augment
    )


def load(name: str, root: Path | None = None, download: bool = False) -> TaskData:
    """A task with its images.

    Args:
        name: a built-in task, or ``folder:/path?side=32``.
        root: see `data_root`.
        download: fetch what is missing; torchvision verifies it by checksum.

    Raises:
        DfkdError: in one line, for anything missing or damaged.
    """
    import numpy as np

    if name.startswith(FOLDER):
        task, arrays, files = folder.load_folder(name)
    else:
        task = describe(name)
        arrays, files = _OPENERS[name](data_root(root), download)
    x, y, x_test, y_test = arrays
    for split, images, labels in (("train", x, y), ("test", x_test, y_test)):
        if images.shape != (len(labels), *task.shape):
            raise DfkdError(f"task {name!r}: {split} has images {images.shape} for {len(labels)} labels")
        if (there := np.unique(labels)).tolist() != list(range(task.K)):
            raise DfkdError(
                f"task {name!r}: {split} has {len(there)} distinct labels, not each of 0 to {task.K - 1}"
            )
    held = np.flatnonzero(_held_out(y))
    digest = digests.remembered(name, files, arrays)
    x_val = digests.keep(f"{digest} val", (len(held), *task.shape), (x[i] for i in held))
    return TaskData(task, Split(x, y), Split(x_val, y[held]), Split(x_test, y_test), digest)


def without_val(data: TaskData) -> Split:
    """The training images that are not in ``val``: a reference's while its settings are tuned."""
    import numpy as np

    rest = np.flatnonzero(~_held_out(np.asarray(data.train.labels)))
    shape = (len(rest), *data.task.shape)
    images = digests.keep(f"{data.digest} rest", shape, (data.train.images[i] for i in rest))
    return Split(images, data.train.labels[rest])


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Mask of the training images that are ``val``."""
    return _stratified(labels, 0.1, seed=2)


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


class Loader:
    """Augmented batches in shuffled epochs on one random stream; an exact position to come back to."""

    def __init__(self, split: Split, task: Task, rng: torch.Generator, device: torch.device) -> None:
        """Start before the first epoch."""
        import torch

        self._split, self._task, self._rng, self._device = split, task, rng, device
        self._order, self._at = torch.empty(0, dtype=torch.int64), 0

    def batch(self, n: int) -> tuple[Tensor, Tensor]:
        """The next n images (n, C, H, W) in [0, 1] and labels (n,); an epoch's remainder opens the next."""
        import torch

        from harness.views import augment

        picked = []
        while n:
            if self._at == len(self._order):
                order = torch.randperm(len(self._split), generator=self._rng, device=self._device)
                self._order, self._at = order.cpu(), 0
            took = self._order[self._at : self._at + n]
            picked.append(took)
            self._at += len(took)
            n -= len(took)
        x, y = self._split.batch(torch.cat(picked).numpy(), self._device)
        return augment(x, self._task, self._rng), y

    def state(self) -> dict[str, Any]:
        """Order and position of the epoch."""
        return {"order": self._order.clone(), "at": self._at}

    def load(self, state: dict[str, Any]) -> None:
        """Back to `state`."""
        self._order, self._at = state["order"].clone(), int(state["at"])
