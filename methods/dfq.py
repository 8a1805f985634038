"""DFQ's distillation: adversarial, with priors. Choi et al., CVPR Workshops 2020, arXiv 2005.04136.

    L_G = bn BNS(x) + oh CE(t, argmax t) - adv KL(t||s) + balance sum_k p_k log p_k
    L_S = tau^2 KL(t/tau || s/tau)

There is no official code; this is the full-precision distillation as CMI's repository (9e79fa9) runs it, with
one generator and one student. Departures, each a setting:
  * generators=n: n of them, each making its share of every batch, as the paper has several; how it weighs and
    alternates them, and its several students, are not specified well enough to be called faithful.
  * tau=1: what runs; the scripts ask for 20, and a later line overwrites it.
  * rival=teacher: Fast-Datafree's defect; without the student the adversarial term is inert.
  * balance with the natural logarithm, as theirs; another re-implementation takes base 10.

Seen: on digits 1,000 updates with final=sigmoid end at 84 % on val, with final=tanh_bn (G and S in train mode
throughout) at 99 %.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.config import Task
from harness.errors import DfkdError
from harness.interface import Problem
from harness.nets.generators import DAFLGenerator
from harness.network import NetSpec, Out
from harness.settings import FIDELITY, Presets, log, setting, weight
from methods.shared import losses, priors
from methods.shared.generative import GameHP, Generative


@dataclass(frozen=True)
class Settings(GameHP):
    """Defaults of the repository's CIFAR-10 script."""

    fidelity: str = setting("corrected", "preset; both are the same here", choices=FIDELITY)
    s_steps: int = setting(10, "student steps in a round", low=0, role="steps")
    weight_decay: float = setting(1e-4, "weight decay of S", low=0.0)
    beta1_g: float = setting(0.5, "Adam's first beta of G", low=0.0)
    student_bn: str = setting("eval", "BatchNorm of S while G is trained", choices=("train", "eval"))
    sample_mode: str = setting("eval", "BatchNorm of G while S is trained", choices=("train", "eval"))
    tau: float = setting(1.0, "temperature of the student's KL", low=1e-3, space=log(1, 20))
    bn: float = weight(1.0, "bn: BatchNorm statistics", term="bn", space=log(0.01, 10))
    oh: float = weight(1.0, "oh: one-hot loss", term="oh", space=log(0.01, 10))
    adv: float = weight(1.0, "adv: KL of S and T", term="kl", space=log(0.1, 10))
    balance: float = weight(20.0, "balance: class balance", term="balance", space=log(0.5, 40))
    final: str = setting("sigmoid", "last layer of G", choices=("tanh_bn", "sigmoid", "bn"))
    generators: int = setting(1, "generators, each making its share of a batch", low=1)


class Several(nn.Module):
    """Generators side by side: the first makes the first share of a batch, and so on."""

    def __init__(self, generators: Iterable[nn.Module]) -> None:
        """Hold them."""
        super().__init__()
        self.each = nn.ModuleList(generators)

    def forward(self, z: Tensor) -> Tensor:
        """z (B, nz) -> images (B, C, H, W)."""
        shares = z.tensor_split(len(self.each))
        return torch.cat([G(share) for G, share in zip(self.each, shares, strict=True) if len(share)])


class DFQ(Generative):
    """The adversarial game in KL, its images held to the teacher's statistics and to all classes."""

    HP = Settings
    TITLE = "DFQ (distillation)"
    PAPER = "Choi et al., CVPR Workshops 2020, arXiv 2005.04136"
    YEAR = 2020
    NEEDS = ("BatchNorm in the teacher unless bn = 0",)
    PRESETS: ClassVar[Presets] = {"fidelity": {"released": {}}}
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        """Generator and optimisers."""
        super().__init__(problem, hp)
        if hp.batch < 2 * hp.generators:
            raise DfkdError(
                f"dfq.generators = {hp.generators} leaves each less than 2 images of a batch of {hp.batch}; "
                f"at most {hp.batch // 2}"
            )
        made = [
            DAFLGenerator(hp.nz, problem.task, final=hp.final, width=(256, 128, 64))
            for _ in range(hp.generators)
        ]
        self.parts["G"] = made[0] if hp.generators == 1 else Several(made)
        self.train_G()
        self.taps_G = (("bn",) if hp.bn else (), () if hp.adv else None)

    @classmethod
    def skip(cls, hp: Settings, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> str | None:
        """BN statistics need a teacher that has them."""
        return priors.missing_bn("bn", hp.bn, t_spec)

    def terms_G(self, t: Out, s: Out | None, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """L_G."""
        hp = self.hp
        terms = {}
        if hp.bn:
            terms["bn"] = hp.bn * priors.bn(t)
        if hp.oh:
            terms["oh"] = hp.oh * losses.one_hot(t.logits)
        if hp.adv and s is not None:
            terms["kl"] = -hp.adv * losses.kl(t.logits, s.logits)
        if hp.balance:
            terms["balance"] = hp.balance * losses.class_balance(t.logits)
        return terms
