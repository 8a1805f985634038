"""Our methods with the released code's wastes put back: the same numbers, the way they are come by there.

Read off the repositories; which waste a method's own repository has is `wastes`:
  weights  T and S keep weight gradients while images are made; T's are never cleared
           (CPSC 1c6ade1, CMI 9e79fa9, Fast-Datafree 0dcecbc, ZSKT e24915d).
  hooks    BatchNorm statistics of T's every layer at its every forward (CPSC, CMI, Fast-Datafree).
  graph    S's batch is rendered, and seen by T, under a graph that is then cut (CPSC).
  through  S's batch is rendered anew for each of its steps, and its backward runs through G (ZSKT).
  files    images are written as a PNG each; S's are opened, cropped, mirrored and made a tensor one by one
           (CMI, Fast-Datafree; DeepInversion as CMI's repository runs it).
Left out, so that a ratio is rather too modest: the four processes that read files ahead (here the main one
reads), their seams (DataLoader, a walk through the folder each round), CMI's head on both views under a
graph, its spatial means at S's steps. ``published()`` adds their formula of the statistics.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import functional as TF

from harness import registry
from harness.interface import Method, Terms
from harness.nets import base
from harness.network import Out
from harness.tasks.views import margin
from methods.shared import generative, inversion
from methods.shared.student import Lesson, see


def wastes(name: str, settings: dict[str, Any]) -> tuple[str, ...]:
    """Which wastes the repository of a method has, in the protocol asked for."""
    own = {"cpsc": ("hooks", "graph"), "zskt": ("through",), "dfq": ("hooks",)}
    if name == "zskt" and settings.get("protocol") == "datafree":
        return ("weights", "hooks")
    return ("weights", *own.get(name, ("hooks", "files")))


def released(name: str, kinds: tuple[str, ...]) -> type[Method]:
    """The method's class with these wastes."""
    bases = (*(_WASTES[kind] for kind in kinds), registry.methods.get(name))
    return type(f"Released_{name}", bases, {})


def published() -> Any:
    """Inside, statistics are computed as the released hooks do."""
    return mock.patch.object(base, "_BatchStats", _TheirStats)


class _TheirStats:
    @staticmethod
    def apply(x: Tensor) -> tuple[Tensor, Tensor]:
        rows = x.permute(1, 0, 2, 3).contiguous().view(x.shape[1], -1)
        return x.mean([0, 2, 3]), rows.var(1, unbiased=False)


class Weights(Method):
    """Nothing is frozen."""

    def __init__(self, problem: Any, hp: Any) -> None:
        super().__init__(problem, hp)
        self.T.requires_grad_(True)

    def synthesize(self) -> Terms:
        def thawed(*nets: nn.Module) -> Any:
            return nullcontext()

        with mock.patch.object(generative, "frozen", thawed), mock.patch.object(inversion, "frozen", thawed):
            return super().synthesize()


class Hooks(Method):
    """A hook on every BatchNorm layer of T, idle where the method itself asks for the statistics."""

    def __init__(self, problem: Any, hp: Any) -> None:
        super().__init__(problem, hp)
        self.seen: dict[str, Tensor] = {}
        for name, layer in self.T.named_modules():
            if isinstance(layer, nn.BatchNorm2d):
                layer.register_forward_pre_hook(_hook(self.seen, name))


def _hook(seen: dict[str, Tensor], name: str) -> Any:
    norm = torch.linalg.vector_norm

    def hook(layer: nn.Module, args: tuple[Any, ...]) -> None:
        if len(args) == 1 or args[1] is None:
            b = base.bn_stat(layer, args[0])
            seen[name] = norm(b.running_var - b.var) + norm(b.running_mean - b.mean)

    return hook


class Graph(generative.Generative):
    """A graph through G, and one through T's weights."""

    def lessons(self) -> Iterator[Lesson]:
        G = self.parts["G"]
        G.train(self.hp.sample_mode == "train")
        for _ in range(self.hp.s_steps):
            x, y = self.draw(self.hp.batch, self.problem.rng)
            t = see(self.T, x.detach(), self.taps_S[0])
            yield Lesson(x.detach(), Out(t.logits.detach(), None if t.h is None else t.h.detach()), y)
        G.train()


class Through(generative.Generative):
    """Of a round's z a batch for each step, with its graph; T sees the first."""

    def distill(self) -> Terms:
        z, G, steps = self._z, self.parts["G"], []
        for at in range(self.hp.s_steps):
            x = G(z)
            if not at:
                with torch.no_grad():
                    t = see(self.T, x, self.taps_S[0])
            steps.append(self.step_S(t, see(self.S, x, self.taps_S[1]), None))
        return Terms.mean(steps)


class Folder:
    """In the place of a pool: a folder of PNGs."""

    def __init__(self) -> None:
        self._where = tempfile.TemporaryDirectory(prefix="dfkd-bench-")
        self.files: list[Path] = []
        self._y = torch.zeros(0, dtype=torch.int64)

    def add(self, x: Tensor, y: Tensor) -> None:
        """Images (n, C, H, W), whole numbers from 0 to 255; one file each."""
        for image in x.detach().byte().permute(0, 2, 3, 1).squeeze(3).cpu().numpy():
            self.files.append(Path(self._where.name) / f"{len(self.files)}.png")
            Image.fromarray(image).save(self.files[-1])
        self._y = torch.cat([self._y, y])

    def open(self, index: Tensor) -> tuple[list[Image.Image], Tensor]:
        """The images of these numbers, and their labels."""
        return [Image.open(self.files[i]) for i in index.tolist()], self._y[index]


class Files(inversion.Inversion):
    """PNGs written and read; the same images, windows and flips are drawn as from the pool."""

    def __init__(self, problem: Any, hp: Any) -> None:
        super().__init__(problem, hp)
        self.pool = Folder()

    def lessons(self) -> Iterator[Lesson]:
        task, rng, n = self.problem.task, self.problem.rng, self.hp.batch
        pad = margin(task.side)
        for _ in range(self.hp.s_steps if self.warm else 0):
            images, y = self.pool.open(torch.randint(len(self.pool.files), (n,), generator=rng))
            if "pad" in task.augment:
                at = torch.randint(2 * pad + 1, (2, n), generator=rng).T.tolist()
                sides = (task.side, task.side)
                images = [TF.crop(TF.pad(i, pad), *a, *sides) for i, a in zip(images, at, strict=True)]
            if "flip" in task.augment:
                mirrored = torch.rand(n, generator=rng) < 0.5
                images = [TF.hflip(i) if m else i for i, m in zip(images, mirrored.tolist(), strict=True)]
            yield self.lesson(torch.stack([TF.to_tensor(i) for i in images]), y)


_WASTES: dict[str, type[Method]] = {
    "weights": Weights, "hooks": Hooks, "graph": Graph, "through": Through, "files": Files,
}  # fmt: skip
