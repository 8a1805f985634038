"""The images of a task: loaded, checked, held out, fed in batches."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import DfkdError
from harness.tasks import cache, decode, folders
from harness.tasks.catalog import FOLDER, built_in
from harness.tasks.sources import stratified

if TYPE_CHECKING:
    import numpy as np
    import torch
    from torch import Tensor

    from harness.config import Task


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


def data_root(given: Path | None = None) -> Path:
    """Where data sets lie: as given, else ``DFKD_DATA_ROOT``, else the user's cache."""
    if given is not None:
        return Path(given)
    from platformdirs import user_cache_path

    return Path(os.environ.get("DFKD_DATA_ROOT") or user_cache_path("dfkd-bench") / "data")


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
        task, train, test = folders.user_folder(name)
        arrays, files = decode.read_both(train, test, task.side)
    else:
        row = built_in(name)
        module, _, opener = row.opener.partition(":")
        read = getattr(importlib.import_module(f"harness.tasks.{module}"), opener)
        task, (arrays, files) = row.task, read(row.task, data_root(root), row.home, download)
    x, y, x_test, y_test = arrays
    for split, images, labels in (("train", x, y), ("test", x_test, y_test)):
        if images.shape != (len(labels), *task.shape):
            raise DfkdError(f"task {name!r}: {split} has images {images.shape} for {len(labels)} labels")
        if (there := np.unique(labels)).tolist() != list(range(task.K)):
            raise DfkdError(
                f"task {name!r}: {split} has {len(there)} distinct labels, not each of 0 to {task.K - 1}"
            )
    held = np.flatnonzero(_held_out(y))
    digest = cache.remembered(name, files, arrays)
    x_val = cache.keep(f"{digest} val", (len(held), *task.shape), (x[i] for i in held))
    return TaskData(task, Split(x, y), Split(x_val, y[held]), Split(x_test, y_test), digest)


def without_val(data: TaskData) -> Split:
    """The training images that are not in ``val``: a reference's while its settings are tuned."""
    import numpy as np

    rest = np.flatnonzero(~_held_out(np.asarray(data.train.labels)))
    shape = (len(rest), *data.task.shape)
    images = cache.keep(f"{data.digest} rest", shape, (data.train.images[i] for i in rest))
    return Split(images, data.train.labels[rest])


def _held_out(labels: np.ndarray) -> np.ndarray:
    """Mask of the training images that are ``val``."""
    return stratified(labels, 0.1, seed=2)


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

        from harness.tasks.views import augment

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
