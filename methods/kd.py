"""Reference: knowledge distillation on the real training images. Hinton, Vinyals and Dean, arXiv 1503.02531.

    L_S = w_kd tau^2 KL(t/tau || s/tau) + w_ce CE(s, y)

Weights and tau as in RepDistiller's recipe (0.9, 0.1, tau 4); DataFree's tau = 1 lands below the student from
scratch on CIFAR-100. SGD with momentum 0.9, weight decay 5e-4, cosine to zero.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from harness.interface import Terms
from harness.settings import log, setting, weight
from methods import scratch
from methods.shared import losses
from methods.shared.student import see


@dataclass(frozen=True)
class Settings(scratch.Settings):
    """RepDistiller's weights."""

    tau: float = setting(4.0, "temperature", low=1e-3, space=log(1, 20))
    w_kd: float = weight(0.9, "distance to the teacher", term="kd")
    w_ce: float = weight(0.1, "cross-entropy with the true label", term="ce")


class KD(scratch.Scratch):
    """The teacher's soft outputs on real images."""

    HP = Settings
    TITLE = "KD on real data"
    PAPER = "Hinton, Vinyals and Dean, arXiv 1503.02531"
    YEAR = 2015
    hp: Settings

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
