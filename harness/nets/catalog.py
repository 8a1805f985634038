"""Name -> network: each module of this folder that defines ``NETS`` is registered by being there."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import nn

from harness.config import Task
from harness.errors import unknown
from harness.nets.base import Net
from harness.network import NetSpec

#: a task -> a fresh network for its images and classes
Builder = Callable[[Task], Net]


def build(name: str, task: Task) -> Net:
    """A fresh network for a task, its weights drawn from torch's global stream.

    Raises:
        DfkdError: for an unknown name, or a task the network cannot take.
    """
    nets.check(name)
    return nets.builders()[name](task)


@lru_cache(maxsize=256)
def spec(name: str, task: Task) -> NetSpec:
    """What is known of a network on a task without weights; milliseconds, no random draw.

    Built on the meta device and not run there: torch's meta arithmetic imports the compiler, a second.

    Raises:
        DfkdError: as `build`.
    """
    with torch.device("meta"):
        net = build(name, task)
    return NetSpec(
        name=name,
        channels=task.channels,
        side=task.side,
        classes=task.K,
        stages=net.stages,
        width=net.head.in_features,
        bn_channels=tuple(m.num_features for m in net.modules() if isinstance(m, nn.BatchNorm2d)),
        params=sum(p.numel() for p in net.parameters()),
    )


class Nets:
    """Classifiers: each module of `harness.nets` may define ``NETS``: name -> builder."""

    @lru_cache  # noqa: B019 - one registry, one life
    def builders(self) -> dict[str, Builder]:
        """By name."""
        package = importlib.import_module("harness.nets")
        found: dict[str, Builder] = {}
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"harness.nets.{info.name}")
            found.update(getattr(module, "NETS", {}))
        return found

    def names(self) -> list[str]:
        """Every network's name."""
        return sorted(self.builders())

    def check(self, name: str) -> None:
        """Raise the error for an unknown name."""
        if name not in self.builders():
            raise unknown("net", name, self.names())


nets = Nets()
