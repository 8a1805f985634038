"""CPSC-DFKD: conditional pseudo-supervised contrast. Shao et al., Pattern Recognition 143 (2023) 109781.

    L_S =  ikd (KL(t||s) + alpha |s - t|^2)                             + eta CE(s, y)
    L_G = -ikd (KL(t||s) + alpha |s - t|^2) + beta BN(x) + gamma SCL(h_s, h_t; y) + eta CE(t, y)
    L_A =  gamma SCL(A(h_s), h_t; y)          only where the features of T and S differ in width

x = G(z, y), z ~ N(0, I), y uniform. In L_G, KL carries gradient through t and s, |s - t|^2 through s alone.
SCL takes 2B rows of unit length, the student's view and the teacher's of each image, temperature scl_tau.

Read off the authors' code at 1c6ade1 (arXiv 2510.03375 describes the same losses); their command is for
CIFAR-100. Defaults are that command's. Departures, each a setting; ``fidelity=released`` turns all back:
  * g_optimizer: one Adam, kept; theirs is made anew before every step, so that moments never accumulate.
  * g_schedule: off, as theirs in effect (it steps an optimiser that is never used); ``steps`` decays by 0.1
    after 50 and 150 of 600 epochs, as theirs declares.
  * ce: cross-entropy takes logits; theirs takes softmax outputs and applies another softmax.
  * l2: mean squared error on both sides; theirs, for K = 10, gives G -log MSE and S log of a Frobenius norm.
  * adapter: trained by SCL and of unit length; theirs gets no learning signal and is not re-normalised
    (``decay`` is what weight decay alone made of it under PyTorch before 2).
  * order: S then G, as the paper is described; theirs is G then S.
  * amp: as the harness says; theirs is fp16 autocast without a loss scaler, on a GPU.
Kept as theirs: S stays in train mode while G is trained (``student_bn``), so its BatchNorm statistics absorb
those batches. Not kept, equal in value: their weight gradients of T and S in the G step, the graph through G
in the S step, BatchNorm statistics where nobody reads them.

Seen: on MNIST, lenet5_bn, 600 updates: at a rate of S of 0.1, with alpha = 1 and beta = 0.1, the L2 term
reached 180 and S answered one class for ever, likely dead: its last hidden layer has no BatchNorm. At 0.03
it lived, with 15 % on val; alpha = 0.1, beta = 1 and 0.02 gave 59, still climbing. L2 on logits has no
bound in a game.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.config import Task
from harness.interface import Problem, Schedule, Terms, prefixed
from harness.nets.generators import CFE_PRESETS, Adapter, CFEGenerator
from harness.network import NetSpec, Out
from harness.settings import FIDELITY, Presets, choice, log, setting, uniform, weight
from methods.shared import losses, priors
from methods.shared.generative import Generative, LoopHP
from methods.shared.student import adam, constant, cosine, sgd, steps, width_mismatch

#: the presets, and every other choice of the four norms by its numbers ("0+1")
_CFE = dict(CFE_PRESETS) | {
    "+".join(map(str, layers)): layers for n in (1, 2) for layers in combinations(range(4), n)
}
_G_SCHEDULES = {"off": constant, "steps": steps(50 / 600, 150 / 600), "cosine": cosine()}


@dataclass(frozen=True)
class Settings(LoopHP):
    """Defaults of the authors' CIFAR-100 command."""

    fidelity: str = setting("corrected", "preset: mended, or as the released code behaves", choices=FIDELITY)
    batch: int = setting(512, "images in a batch", low=2, role="batch")
    g_steps: int = setting(6, "generator steps in a round", low=0, role="steps")
    beta1_g: float = setting(0.5, "Adam's first beta of G", low=0.0)
    s_steps: int = setting(5, "student steps in a round", low=0, role="steps")
    ikd: float = weight(1.0, "L_IKD: distance of S and T, KL and L2 together", term="ikd")
    alpha: float = weight(5.0, "alpha: L2 on logits inside L_IKD", term="l2", space=log(0.5, 20))
    beta: float = weight(1.0, "beta: BatchNorm statistics", term="bn", space=log(0.01, 10))
    gamma: float = weight(0.7, "gamma: supervised contrast", term="scl", space=uniform(0.1, 1.0))
    eta: float = weight(0.7, "eta: pseudo-label cross-entropy", term="ce", space=uniform(0.1, 1.0))
    scl_tau: float = setting(0.07, "temperature of SCL", low=1e-3, space=log(0.02, 1.0))
    cfe_layers: str = setting("full", "which of G's four norms are categorical", choices=tuple(_CFE))
    cfe_embedding_dim: int | None = setting(None, "m: factorise the K x C tables through m dimensions", low=1)
    g_optimizer: str = setting("kept", "Adam of G", choices=("kept", "rebuilt"))
    g_schedule: str = setting(
        "off", "decay of G's rate", choices=tuple(_G_SCHEDULES), space=choice("off", "cosine")
    )
    warmup: float = setting(1 / 60, "share of the budget in which the rate of S rises", low=0.0)
    ce: str = setting("logits", "what cross-entropy is fed", choices=("logits", "softmax"))
    l2: str = setting("mse", "form of L2", choices=("mse", "log_if_10"))
    adapter: str = setting("trained", "the Adapter's weights", choices=("trained", "frozen", "decay"))
    lr_adapter: float = setting(1e-3, "Adam rate of the Adapter", low=0.0, space=log(1e-4, 1e-2))
    order: str = setting("S_first", "which half of a round comes first", choices=("S_first", "G_first"))
    amp: str = setting("harness", "precision", choices=("harness", "fp16_unscaled"))


_RELEASED: dict[str, Any] = {
    "g_optimizer": "rebuilt", "ce": "softmax", "l2": "log_if_10", "adapter": "frozen", "order": "G_first",
    "amp": "fp16_unscaled",
}  # fmt: skip


class CPSC(Generative):
    """Conditional generator with categorical feature embedding against T and S."""

    HP = Settings
    TITLE = "CPSC-DFKD"
    PAPER = "Shao, Zhang and Wang, Pattern Recognition 143 (2023) 109781, arXiv 2510.03375"
    YEAR = 2023
    NEEDS = ("BatchNorm in the teacher unless beta = 0",)
    PRESETS: ClassVar[Presets] = {"fidelity": {"released": _RELEASED}}
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        """Generator, Adapter where the features differ in width and SCL is on, and their optimisers."""
        super().__init__(problem, hp)
        task = problem.task
        self.parts["G"] = CFEGenerator(
            hp.nz, task, cfe_layers=_CFE[hp.cfe_layers], cfe_embedding_dim=hp.cfe_embedding_dim
        )
        self.train_G()
        if hp.schedule == "cosine":
            self.schedules = [Schedule(self.opts["S"], cosine(hp.warmup))]
        if hp.g_optimizer == "kept":
            self.schedules.append(Schedule(self.opts["G"], _G_SCHEDULES[hp.g_schedule]))
        d_s, d_t = self.S.head.in_features, self.T.head.in_features
        if hp.gamma and d_s != d_t:
            adapter = self.parts["adapter"] = Adapter(d_s, d_t, normalise=hp.adapter == "trained")
            if hp.adapter == "trained":
                self.opts["adapter"] = adam(adapter, hp.lr_adapter)
            elif hp.adapter == "decay":
                self.opts["adapter"] = sgd(adapter, hp.lr_s, hp.weight_decay)
            adapter.requires_grad_(hp.adapter != "frozen")
        h = ("h",) if hp.gamma else ()
        self.taps_G = (h + (("bn",) if hp.beta else ()), h if hp.ikd or hp.gamma else None)
        self.taps_S = (("h",), ("h",)) if hp.adapter == "trained" and "adapter" in self.parts else ((), ())
        self._ce = losses.ce if hp.ce == "logits" else losses.ce_of_softmax
        self._log = hp.l2 == "log_if_10" and task.K == 10

    @classmethod
    def skip(cls, hp: Settings, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> str | None:
        """BN statistics need a teacher that has them."""
        return priors.missing_bn("beta", hp.beta, t_spec)

    @classmethod
    def cautions(cls, hp: Settings, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> list[str]:
        """SCL compares features: where they differ in width, it sees the student's through the Adapter."""
        d_s, d_t = s_spec.width, t_spec.width
        how = {"trained": "trained by SCL", "frozen": "never trained", "decay": "moved by weight decay alone"}
        bridge = f"Adapter {d_s} -> {d_s} -> {d_t}, {how[hp.adapter]}, maps one to the other"
        told = width_mismatch(t_spec, s_spec, bridge)
        return [told] if hp.gamma and told else []

    def draw(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """x = G(z, y); y uniform over the classes unless asked for."""
        z = self.noise(n, rng)
        if y is None:
            y = torch.randint(self.problem.task.K, (n,), generator=rng, device=z.device)
        return self.parts["G"](z, y), y

    def round(self) -> Terms:
        """Both halves in the order asked for."""
        device = self.problem.compute.device.type
        with torch.autocast(device, torch.float16, self.hp.amp == "fp16_unscaled" and device == "cuda"):
            if self.hp.order == "G_first":
                return super().round()
            s = self.distill()
            return prefixed("G", self.synthesize()) | prefixed("S", s)

    def terms_G(self, t: Out, s: Out | None, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """L_G."""
        hp = self.hp
        if hp.g_optimizer == "rebuilt":
            self.train_G()
        terms = {}
        if hp.ikd and s is not None:
            terms["kl"] = -hp.ikd * losses.kl(t.logits, s.logits)
            if hp.alpha:
                distance = losses.log_mse if self._log else losses.l2
                terms["l2"] = -hp.ikd * hp.alpha * distance(s.logits, t.logits.detach())
        if hp.beta:
            terms["bn"] = hp.beta * priors.bn(t)
        if hp.gamma and s is not None:
            terms["scl"] = self._contrast(s.h, t.h, y)
        if hp.eta and y is not None:
            terms["ce"] = hp.eta * self._ce(t.logits, y)
        return terms

    def terms_S(self, t: Out, s: Out, y: Tensor | None) -> dict[str, Tensor]:
        """L_S."""
        hp = self.hp
        terms = {}
        if hp.ikd:
            terms["kl"] = hp.ikd * losses.kl(t.logits, s.logits)
            if hp.alpha:
                distance = losses.log_fro if self._log else losses.l2
                terms["l2"] = hp.ikd * hp.alpha * distance(s.logits, t.logits)
        if hp.eta and y is not None:
            terms["ce"] = hp.eta * self._ce(s.logits, y)
        return terms

    def step_S(self, t: Out, s: Out, y: Tensor | None) -> Terms:
        """One step of S, then L_A on the same features for the Adapter alone."""
        terms = super().step_S(t, s, y)
        if "adapter" not in self.opts:
            return terms
        if self.hp.adapter == "decay":
            zero = torch.stack([p.sum() for p in self.parts["adapter"].parameters()]).sum() * 0.0
            return terms | self.step("adapter", {"adapter": zero})
        assert s.h is not None
        return terms | self.step("adapter", {"adapter": self._contrast(s.h.detach(), t.h, y)})

    def _contrast(self, h_s: Tensor | None, h_t: Tensor | None, y: Tensor | None) -> Tensor:
        assert h_s is not None and h_t is not None and y is not None
        views = F.normalize(h_s, dim=1)
        if "adapter" in self.parts:
            views = self.parts["adapter"](views)
        both = torch.cat([views, F.normalize(h_t, dim=1)])
        return self.hp.gamma * losses.scl(both, torch.cat([y, y]), self.hp.scl_tau)
