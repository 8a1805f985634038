"""Reference: knowledge distillation on the real training images. Hinton, Vinyals and Dean, arXiv 1503.02531.

    L_S = w_kd tau^2 KL(t/tau || s/tau) + w_ce CE(s, y)

Weights and tau as in RepDistiller's recipe (0.9, 0.1, tau 4); DataFree's tau = 1 lands below the student from
scratch on CIFAR-100. SGD with momentum 0.9, weight decay 5e-4, cosine to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.interface import Images, Problem, Reference, Schedule, Terms
from harness.settings import log, setting, weight
from methods.shared import losses
from methods.shared.student import cosine, see, sgd


@dataclass(frozen=True)
class Settings:
    """RepDistiller's weights."""

    batch: int = setting(128, "images in a batch", low=2, role="batch")
    lr_s: float = setting(0.1, "SGD rate of S (momentum 0.9)", low=0.0, space=log(1e-2, 0.3))
    weight_decay: float = setting(5e-4, "weight decay of S", low=0.0)
    tau: float = setting(4.0, "temperature", low=1e-3, space=log(1, 20))
    w_kd: float = weight(0.9, "distance to the teacher", term="kd")
    w_ce: float = weight(0.1, "cross-entropy with the true label", term="ce")


class KD(Reference):
    """The teacher's soft outputs on real images."""

    HP = Settings
    TITLE = "KD on real data"
    PAPER = "Hinton, Vinyals and Dean, arXiv 1503.02531"
    YEAR = 2015
    NEEDS = ("the training set",)
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings, images: Images) -> None:
        """One optimiser, one schedule."""
        super().__init__(problem, hp, images)
        self.opts["S"] = sgd(self.S, hp.lr_s, hp.weight_decay)
        self.schedules = [Schedule(self.opts["S"], cosine())]

    def distill(self) -> Terms:
        """One step on one batch."""
        hp = self.hp
        x, y = self.images.batch(hp.batch)
        s = see(self.S, x).logits
        terms = {}
        if hp.w_kd:
            with torch.no_grad():
                t = see(self.T, x).logits
            terms["kd"] = hp.w_kd * losses.kd(t, s, hp.tau)
        if hp.w_ce:
            terms["ce"] = hp.w_ce * losses.ce(s, y)
        return self.step("S", terms)
