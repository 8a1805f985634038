"""The adversarial loop once: G works against T and S, S learns from what G makes.

A method says what it draws (`draw`) and which terms G and S minimise (`terms_G`, `terms_S`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from harness.compute import frozen
from harness.config import choice, log, setting
from harness.interface import Method, Out, Terms


@dataclass(frozen=True)
class LoopHP:
    """Settings of the loop; a method's HP subclasses it and restates the defaults its authors changed."""

    batch: int = setting(256, "images in a batch", low=2)
    nz: int = setting(256, "width of the noise z", low=1)
    g_steps: int = setting(1, "generator steps in a round", low=0)
    s_steps: int = setting(5, "student steps in a round", low=0)
    lr_g: float = setting(1e-3, "Adam rate of G", low=0.0, space=log(1e-4, 1e-2))
    lr_s: float = setting(0.1, "SGD rate of S (momentum 0.9)", low=0.0, space=log(1e-2, 0.3))
    weight_decay: float = setting(5e-4, "weight decay of S", low=0.0)
    student_bn: str = setting(
        "train", "BatchNorm of S while G is trained", choices=("train", "eval"), space=choice("train", "eval")
    )
    sample_mode: str = setting("train", "BatchNorm of G while S is trained", choices=("train", "eval"))


class Generative(Method):
    """A generator, a student and two lists of terms; a subclass makes ``parts["G"]`` and fills `opts`.

    Attributes:
        taps_G: taps of (teacher, student) that L_G reads; None for the student: L_G does not run it.
        taps_S: the same for L_S.
    """

    HP: ClassVar[type] = LoopHP
    taps_G: tuple[tuple[str, ...], tuple[str, ...] | None] = ((), ())
    taps_S: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())

    @abstractmethod
    def terms_G(self, t: Out, s: Out | None, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """What G minimises on the images x it just made; t and s carry gradients to x, not to T and S."""

    @abstractmethod
    def terms_S(self, t: Out, s: Out, y: Tensor | None) -> dict[str, Tensor]:
        """What S minimises on a batch; t carries no gradient."""

    def draw(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """A batch of images and their labels, None where the generator knows none."""
        return self.parts["G"](self.noise(n, rng)), None

    def noise(self, n: int, rng: torch.Generator) -> Tensor:
        """z ~ N(0, I), (n, nz)."""
        return torch.randn(n, self.hp.nz, generator=rng, device=self.problem.compute.device)

    def synthesize(self) -> Terms:
        """``g_steps`` steps of G; no weight gradient of T or S is computed."""
        t_taps, s_taps = self.taps_G
        self.S.train(self.hp.student_bn == "train")
        steps = []
        with frozen(self.S):
            for _ in range(self.hp.g_steps):
                x, y = self.draw(self.hp.batch, self.problem.rng)
                t = see(self.T, x, t_taps)
                s = None if s_taps is None else see(self.S, x, s_taps)
                steps.append(self.step("G", self.terms_G(t, s, x, y)))
        self.S.train()
        return Terms.mean(steps)

    def distill(self) -> Terms:
        """``s_steps`` steps of S on fresh batches; G makes them and T reads them without a graph."""
        t_taps, s_taps = self.taps_S
        self.parts["G"].train(self.hp.sample_mode == "train")
        steps = []
        for _ in range(self.hp.s_steps):
            with torch.no_grad():
                x, y = self.draw(self.hp.batch, self.problem.rng)
                t = see(self.T, x, t_taps)
            steps.append(self.step_S(t, see(self.S, x, s_taps), y))
        self.parts["G"].train()
        return Terms.mean(steps)

    def step_S(self, t: Out, s: Out, y: Tensor | None) -> Terms:
        """One step of S; a method that trains more on the same forwards extends it."""
        return self.step("S", self.terms_S(t, s, y))

    @torch.no_grad()
    def sample(
        self, n: int, labels: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor | None] | None:
        """Images as the student gets them, in batches of its size; G's buffers are left as they were."""
        G = self.parts["G"]
        xs, ys = [], []
        with unmoved(G):
            G.train(self.hp.sample_mode == "train")
            for start in range(0, n, self.hp.batch):
                # A whole batch even at the end: in train mode the statistics belong to the batch.
                ask = (
                    None if labels is None else _padded(labels[start : start + self.hp.batch], self.hp.batch)
                )
                x, y = self.draw(self.hp.batch, rng, ask)
                xs.append(x)
                ys.append(y)
            G.train()
        x = torch.cat(xs)[:n]
        return x, None if ys[0] is None else torch.cat(cast("list[Tensor]", ys))[:n]


def see(net: nn.Module, x: Tensor, taps: tuple[str, ...] = ()) -> Out:
    """One forward, as an `Out` whether taps were asked for or not."""
    out = net(x, taps=taps)
    return out if isinstance(out, Out) else Out(out)


def _padded(labels: Tensor, size: int) -> Tensor:
    return labels.repeat(math.ceil(size / len(labels)))[:size]


@contextmanager
def unmoved(module: nn.Module) -> Iterator[None]:
    """Give a module's buffers back as they were: looking must not move running statistics."""
    kept = {k: b.detach().clone() for k, b in module.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for k, b in module.named_buffers():
                b.copy_(kept[k])


def sgd(module: nn.Module, lr: float, weight_decay: float) -> torch.optim.SGD:
    """SGD with momentum 0.9, in its fused form: one kernel for all parameters."""
    return torch.optim.SGD(module.parameters(), lr, momentum=0.9, weight_decay=weight_decay, fused=True)


def adam(module: nn.Module, lr: float, betas: tuple[float, float] = (0.9, 0.999)) -> torch.optim.Adam:
    """Adam in its fused form."""
    return torch.optim.Adam(module.parameters(), lr, betas=betas, fused=True)


def constant(progress: float) -> float:
    """No decay."""
    return 1.0


def cosine(warmup: float = 0.0) -> Callable[[float], float]:
    """Linear from 0 over the first ``warmup`` of the budget, then half a cosine down to 0."""

    def factor(p: float) -> float:
        if p < warmup:
            return p / warmup
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (p - warmup) / (1 - warmup))))

    return factor


def steps(*at: float, by: float = 0.1) -> Callable[[float], float]:
    """Times ``by`` at each of these fractions of the budget."""
    return lambda p: by ** sum(p >= a for a in at)
