"""Control: the student is distilled on Gaussian noise.

    L_S = tau^2 KL(t/tau || s/tau)        x = mean + std n, n ~ N(0, I) for every pixel

What a method must beat before its images can be called better than none (DAFL's table on MNIST has such a
row: 88.01 %). ``teacher_bn=batch`` lets the teacher normalise with the batch's own statistics, as a model
left in train mode would: noise then looks less foreign to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor

from harness.config import Task
from harness.interface import Terms
from harness.network import NetSpec
from harness.settings import log, setting
from methods.shared.student import Distiller, Lesson, StudentHP, unmoved


@dataclass(frozen=True)
class Settings(StudentHP):
    """One lesson a round."""

    s_steps: int = setting(1, "student steps in a round", low=0, role="steps")
    tau: float = setting(1.0, "temperature of the student's KL", low=1e-3, space=log(1, 20))
    teacher_bn: str = setting(
        "stored", "statistics that the teacher normalises with", choices=("stored", "batch")
    )


class Noise(Distiller):
    """No image-making at all."""

    HP = Settings
    TITLE = "Gaussian noise (control)"
    PAPER = "control"
    YEAR = 0
    CONTROL = True
    MAKERS = ()
    hp: Settings

    @classmethod
    def skip(cls, hp: Settings, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> str | None:
        """Batch statistics need BatchNorm."""
        if hp.teacher_bn == "batch" and not t_spec.has_bn:
            return f"teacher {t_spec.name} has no BatchNorm for batch statistics; set teacher_bn=stored"
        return None

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """Pixels with the task's mean and deviation, (n, C, H, W)."""
        noise = torch.randn(n, *self.problem.task.shape, generator=rng, device=self.problem.compute.device)
        return self.T.mean + self.T.std * noise

    def synthesize(self) -> Terms:
        """Nothing is learned here."""
        return Terms()

    def lessons(self) -> Iterator[Lesson]:
        """``s_steps`` batches of noise."""
        own = self.hp.teacher_bn == "batch"
        for _ in range(self.hp.s_steps):
            x = self.draw(self.hp.batch, self.problem.rng)
            with unmoved(self.T) if own else nullcontext():
                self.T.train(own)
                lesson = self.lesson(x, None)
                self.T.eval()
            yield lesson

    def sample(
        self, n: int, labels: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor | None] | None:
        """Noise."""
        return self.draw(n, rng), None
