"""The adversarial loop once: G works against T and S, S learns from what G makes.

A method says what it draws (`draw`) and which terms G and S minimise (`terms_G`, `terms_S`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

import torch
from torch import Tensor

from harness.compute import frozen
from harness.interface import Schedule, Terms
from harness.network import Out
from harness.settings import choice, log, setting
from methods.shared.student import Distiller, Lesson, StudentHP, adam, see, unmoved


@dataclass(frozen=True)
class LoopHP(StudentHP):
    """Settings of the loop; a method's HP subclasses it and restates the defaults its authors changed."""

    nz: int = setting(256, "width of the noise z", low=1)
    g_steps: int = setting(1, "generator steps in a round", low=0, role="steps")
    lr_g: float = setting(1e-3, "Adam rate of G", low=0.0, space=log(1e-4, 1e-2))
    beta1_g: float = setting(0.9, "Adam's first beta of G", low=0.0)
    g_schedule: str = setting("off", "rate of G: constant, or as S's", choices=("off", "same"))
    student_bn: str = setting(
        "train", "BatchNorm of S while G is trained", choices=("train", "eval"), space=choice("train", "eval")
    )
    sample_mode: str = setting("train", "BatchNorm of G while S is trained", choices=("train", "eval"))


@dataclass(frozen=True)
class GameHP(LoopHP):
    """The same for a game in which G plays against S and nothing else can be its opponent but by mistake."""

    rival: str = setting(
        "student", "whom G plays against; teacher: Fast-Datafree's defect", choices=("student", "teacher")
    )


class Generative(Distiller):
    """A generator, a student and two lists of terms; a subclass makes ``parts["G"]``, then calls `train_G`.

    Attributes:
        taps_G: taps of (teacher, student) that L_G reads; None for the student: L_G does not run it.
    """

    HP: ClassVar[type] = LoopHP
    taps_G: tuple[tuple[str, ...], tuple[str, ...] | None] = ((), ())

    def train_G(self) -> None:
        """Adam for G, and its schedule."""
        hp = self.hp
        self.opts["G"] = adam(self.parts["G"], hp.lr_g, (hp.beta1_g, 0.999))
        if hp.g_schedule == "same":
            self.schedules.append(Schedule(self.opts["G"], self.factor(hp.schedule)))

    def terms_G(self, t: Out, s: Out | None, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """What G minimises on the images x it just made; t and s carry gradients to x, not to T and S."""
        return {}

    def draw(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """A batch of images and their labels, None where the generator knows none."""
        return self.parts["G"](self.noise(n, rng)), None

    def noise(self, n: int, rng: torch.Generator) -> Tensor:
        """z ~ N(0, I), (n, nz)."""
        return torch.randn(n, self.hp.nz, generator=rng, device=self.problem.compute.device)

    def synthesize(self) -> Terms:
        """``g_steps`` steps of G; no weight gradient of T or S is computed."""
        self.S.train(self.hp.student_bn == "train")
        with frozen(self.S):
            steps = [self.step_G() for _ in range(self.hp.g_steps)]
        self.S.train()
        return Terms.mean(steps)

    def step_G(self) -> Terms:
        """One step of G on a fresh batch."""
        t_taps, s_taps = self.taps_G
        x, y = self.draw(self.hp.batch, self.problem.rng)
        t = see(self.T, x, t_taps)
        own = isinstance(self.hp, GameHP) and self.hp.rival == "teacher"
        s = t if own else None if s_taps is None else see(self.S, x, s_taps)
        return self.step("G", self.terms_G(t, s, x, y), self.clip)

    def lessons(self) -> Iterator[Lesson]:
        """``s_steps`` fresh batches, made without a graph."""
        G = self.parts["G"]
        G.train(self.hp.sample_mode == "train")
        for _ in range(self.hp.s_steps):
            with torch.no_grad():
                x, y = self.draw(self.hp.batch, self.problem.rng)
            yield self.lesson(x, y)
        G.train()

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
                part = slice(start, start + self.hp.batch)
                ask = None if labels is None else _padded(labels[part], self.hp.batch)
                x, y = self.draw(self.hp.batch, rng, ask)
                xs.append(x)
                ys.append(y)
            G.train()
        x = torch.cat(xs)[:n]
        return x, None if ys[0] is None else torch.cat(cast("list[Tensor]", ys))[:n]


def _padded(labels: Tensor, size: int) -> Tensor:
    return labels.repeat(math.ceil(size / len(labels)))[:size]
