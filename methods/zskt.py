"""ZSKT: zero-shot knowledge transfer. Micaelli and Storkey, NeurIPS 2019, arXiv 1905.09768.

    L_G = -KL(t||s) / K
    L_S =  KL(t||s) / K + at sum_stages mean (q_s - q_t)^2        q = unit attention map of a stage

Read off the authors' code at e24915d: one z a round for one step of G and ten of S, mean reduction of KL
over B x K (that 1/K sets the balance with ``at``), gradients clipped to a norm of 5, Adam for both, both
rates half a cosine. Departures, each a setting:
  * protocol=datafree: as CMI's repository (9e79fa9) runs it: fresh z for S, KL as a batch mean, no attention
    transfer, no clipping, its own wide generator with a sigmoid, SGD for S, which is in eval mode while G is
    trained, and a constant rate for G.
  * rival=teacher: Fast-Datafree's defect; KL(t||t) has no gradient but rounding noise.
Not kept, equal in value: the batch rendered anew in each of S's ten steps (G and z stand still; only G's
running statistics, which nobody reads, would differ), the graph through G in S's steps.

Seen: on digits 1,000 updates of the authors' protocol end at 51 % on val, made for 800,000; DataFree's with
final=tanh_bn, S and G in train mode and G's rate falling too at 98 %.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.config import Task
from harness.interface import Problem
from harness.nets.generators import DAFLGenerator
from harness.network import NetSpec, Out
from harness.settings import FIDELITY, Presets, log, setting, weight
from methods.shared import losses
from methods.shared.generative import GameHP, Generative
from methods.shared.student import Lesson


@dataclass(frozen=True)
class Settings(GameHP):
    """Defaults of the authors' CIFAR-10 command."""

    protocol: str = setting("authors", "preset: whose training loop", choices=("authors", "datafree"))
    fidelity: str = setting("corrected", "preset; both are the same here", choices=FIDELITY)
    batch: int = setting(128, "images in a batch", low=2, role="batch")
    nz: int = setting(100, "width of the noise z", low=1)
    s_steps: int = setting(10, "student steps in a round", low=0, role="steps")
    opt_s: str = setting("adam", "optimiser of S: SGD with momentum 0.9, or Adam", choices=("sgd", "adam"))
    lr_s: float = setting(2e-3, "rate of S", low=0.0, space=log(1e-4, 0.3))
    weight_decay: float = setting(0.0, "weight decay of S", low=0.0)
    g_schedule: str = setting("same", "rate of G: constant, or as S's", choices=("off", "same"))
    at: float = weight(250.0, "beta: attention transfer", term="at", space=log(1, 1000))
    reduction: str = setting("mean", "KL over B x K, or over B alone", choices=("mean", "batchmean"))
    shared_z: bool = setting(True, "all steps of a round on one z")
    max_norm: float = setting(5.0, "largest norm of a gradient; 0 for no limit", low=0.0)
    final: str = setting("bn", "last layer of G", choices=("tanh_bn", "sigmoid", "bn"))
    wide: bool = setting(False, "256 instead of 128 channels at G's start (DataFree)")


_DATAFREE: dict[str, Any] = {
    "batch": 256, "nz": 256, "s_steps": 5, "opt_s": "sgd", "lr_s": 0.1, "weight_decay": 1e-4,
    "g_schedule": "off", "beta1_g": 0.5, "at": 0.0, "reduction": "batchmean", "shared_z": False,
    "max_norm": 0.0, "final": "sigmoid", "wide": True, "student_bn": "eval", "sample_mode": "eval",
}  # fmt: skip


class ZSKT(Generative):
    """G seeks where S and T differ in KL, S follows, and looks where T looks."""

    HP = Settings
    TITLE = "ZSKT"
    PAPER = "Micaelli and Storkey, NeurIPS 2019, arXiv 1905.09768"
    YEAR = 2019
    NEEDS = ("stages of S and T of equal number and side unless at = 0",)
    PRESETS: ClassVar[Presets] = {"protocol": {"datafree": _DATAFREE}, "fidelity": {"released": {}}}
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        """Generator and optimisers."""
        super().__init__(problem, hp)
        width = (256, 128, 64) if hp.wide else (128, 128, 64)
        self.parts["G"] = DAFLGenerator(hp.nz, problem.task, final=hp.final, affine_out=True, width=width)
        self.train_G()
        self.clip = hp.max_norm or None
        self.taps_S = (("maps",), ("maps",)) if hp.at else ((), ())
        self._kl = losses.kl_mean if hp.reduction == "mean" else losses.kl
        self._z: Tensor | None = None

    @classmethod
    def skip(cls, hp: Settings, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> str | None:
        """Attention maps need stages of equal side."""
        t_sides, s_sides = ([stage[1:] for stage in spec.stages] for spec in (t_spec, s_spec))
        if hp.at and (not t_sides or t_sides != s_sides):
            return (
                f"attention transfer compares stages of equal side, {t_spec.name} has {_sides(t_spec)} and "
                f"{s_spec.name} {_sides(s_spec)}; set at=0"
            )
        return None

    def noise(self, n: int, rng: torch.Generator) -> Tensor:
        """A fresh z, remembered for the student's half."""
        self._z = super().noise(n, rng)
        return self._z

    def terms_G(self, t: Out, s: Out | None, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """L_G."""
        assert s is not None
        return {"kl": -self._kl(t.logits, s.logits)}

    def lessons(self) -> Iterator[Lesson]:
        """One batch for all steps: the round's z as G renders it now; else fresh ones."""
        if not self.hp.shared_z:
            yield from super().lessons()
            return
        z = self.noise(self.hp.batch, self.problem.rng) if self._z is None else self._z
        G, self._z = self.parts["G"], None
        G.train(self.hp.sample_mode == "train")
        with torch.no_grad():
            x = G(z)
        G.train()
        lesson = self.lesson(x, None)
        for _ in range(self.hp.s_steps):
            yield lesson

    def terms_S(self, t: Out, s: Out, y: Tensor | None) -> dict[str, Tensor]:
        """L_S."""
        terms = {"kl": self._kl(t.logits, s.logits)}
        if self.hp.at:
            assert s.maps is not None and t.maps is not None
            terms["at"] = self.hp.at * losses.attention(s.maps, t.maps)
        return terms


def _sides(spec: NetSpec) -> str:
    return ", ".join(f"{h}x{w}" for _, h, w in spec.stages) or "none known"
