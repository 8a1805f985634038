"""The student's half, once: lessons of images and teacher outputs, one step of S on each.

A method says where its lessons come from (`lessons`) and, where it is not plain distillation, what S
minimises on them (`terms_S`).
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from harness.interface import Method, Problem, Schedule, Terms
from harness.network import NetSpec, Out
from harness.settings import choice, log, setting
from methods.shared import losses

SCHEDULES = ("cosine", "steps", "off")


@dataclass(frozen=True)
class StudentHP:
    """Settings of the student's half; a method's HP restates the defaults its authors changed."""

    batch: int = setting(256, "images in a batch", low=2, role="batch")
    s_steps: int = setting(5, "student steps in a round", low=0, role="steps")
    opt_s: str = setting("sgd", "optimiser of S: SGD with momentum 0.9, or Adam", choices=("sgd", "adam"))
    lr_s: float = setting(0.1, "rate of S", low=0.0, space=log(1e-3, 0.3))
    weight_decay: float = setting(5e-4, "weight decay of S", low=0.0)
    schedule: str = setting(
        "cosine",
        "rate of S: half a cosine to zero, x0.1 at the authors' milestones, or constant",
        choices=SCHEDULES,
        space=choice(*SCHEDULES),
    )


class Lesson(NamedTuple):
    """What S learns from in one step: images, the teacher's answer without a graph, labels or None."""

    x: Tensor
    t: Out
    y: Tensor | None


class Distiller(Method):
    """A method whose student takes one step on each of a round's lessons.

    Attributes:
        STEPS: the authors' milestones, as fractions of their run.
        taps_S: taps of (teacher, student) that L_S reads.
        clip: largest norm of any gradient, or None.
    """

    HP: ClassVar[type] = StudentHP
    STEPS: ClassVar[tuple[float, ...]] = (0.6, 0.75, 0.9)
    taps_S: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    clip: float | None = None

    def __init__(self, problem: Problem, hp: StudentHP) -> None:
        """The optimiser of S and its schedule."""
        super().__init__(problem, hp)
        made = sgd if hp.opt_s == "sgd" else adam_decayed
        self.opts["S"] = made(self.S, hp.lr_s, hp.weight_decay)
        self.schedules = [Schedule(self.opts["S"], self.factor(hp.schedule))]

    def scratch(self, name: str) -> Path | None:
        """A place of its own for a pool of that name, or None where the trial has none."""
        return self.problem.scratch and self.problem.scratch / name

    @classmethod
    def factor(cls, schedule: str) -> Callable[[float], float]:
        """A schedule's factor as a function of the clock's progress."""
        return {"cosine": cosine(), "steps": steps(*cls.STEPS), "off": constant}[schedule]

    @abstractmethod
    def lessons(self) -> Iterator[Lesson]:
        """What S learns from in this round, one lesson a step."""

    def terms_S(self, t: Out, s: Out, y: Tensor | None) -> dict[str, Tensor]:
        """What S minimises on a lesson; t carries no gradient. The default needs a setting ``tau``."""
        return {"kd": losses.kd(t.logits, s.logits, self.hp.tau)}

    def step_S(self, t: Out, s: Out, y: Tensor | None) -> Terms:
        """One step of S; a method that trains more on the same forwards extends it."""
        return self.step("S", self.terms_S(t, s, y), self.clip)

    def distill(self) -> Terms:
        """One step of S on each lesson."""
        taps = self.taps_S[1]
        return Terms.mean([self.step_S(t, see(self.S, x, taps), y) for x, t, y in self.lessons()])

    @torch.no_grad()
    def lesson(self, x: Tensor, y: Tensor | None) -> Lesson:
        """Images with the teacher's answer to them."""
        return Lesson(x, see(self.T, x, self.taps_S[0]), y)


def see(net: nn.Module, x: Tensor, taps: tuple[str, ...] = ()) -> Out:
    """One forward, as an `Out` whether taps were asked for or not."""
    out = net(x, taps=taps)
    return out if isinstance(out, Out) else Out(out)


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


def adam_decayed(module: nn.Module, lr: float, weight_decay: float) -> torch.optim.Adam:
    """Adam with L2 decay in the gradient, in its fused form."""
    return torch.optim.Adam(module.parameters(), lr, weight_decay=weight_decay, fused=True)


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


def width_mismatch(t_spec: NetSpec, s_spec: NetSpec, bridge: str = "") -> str | None:
    """What to say where a method compares the features ``h`` of T and S, which differ in width.

    Args:
        t_spec: the teacher's.
        s_spec: the student's.
        bridge: what maps one to the other and how it is trained; "" for nothing, a reason to `Method.skip`.

    Returns:
        A line for `Method.cautions` or `Method.skip`; None where the widths are equal.
    """
    if t_spec.width == s_spec.width:
        return None
    return (
        f"feature-width mismatch: the feature of {s_spec.name} has {s_spec.width} numbers, that of "
        f"{t_spec.name} {t_spec.width}: {bridge or 'nothing maps one to the other'}"
    )
