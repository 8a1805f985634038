"""DeepInversion: pixels optimised against the teacher. Yin et al., CVPR 2020, arXiv 1912.08795.

    L_x = oh CE(t, y) + bn BNS(x) + tv TV(x) + l2 ||x||_2        on a jittered x; TV and norm on normalised x
    L_S = tau^2 KL(t/tau || s/tau)                               on all images made so far

x starts as N(0, 1) in normalised space; Adam, its state new with each batch. Defaults are the pixel settings
of the authors' CIFAR-10 script (NVlabs/DeepInversion 2413af1, its "paper" command) and what their issues tell
of distillation, of which the code has none (#7: a new batch of 256 every 50 steps of S; #9: tau = 3).
Departures, each a setting:
  * keep=best: the iterate of least loss, as intended; the released script keeps an alias of the live tensor,
    which is the last iterate (``fidelity=released``: keep=after).
  * protocol=datafree: as CMI's repository (9e79fa9): other Adam, TV as means, whole-batch flips, pixels
    clamped after each step, 1,000 iterations for 400 steps of S, tau = 20, uniform labels.
Ours: S is fed batches drawn with replacement from the pool, not shuffled passes over a folder of PNGs; pixels
keep their bits (``pool_dtype=uint8`` floors them); TV is that of the jittered view in both protocols
(DataFree takes it before the roll, which differs at the seam).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.interface import Terms
from harness.settings import FIDELITY, Presets, log, setting, weight
from harness.tasks.views import flip_all, jitter
from methods.shared import priors
from methods.shared.inversion import Inversion, InversionHP
from methods.shared.student import see


@dataclass(frozen=True)
class Settings(InversionHP):
    """Defaults of the authors' CIFAR-10 script."""

    protocol: str = setting("authors", "preset: whose settings", choices=("authors", "datafree"))
    fidelity: str = setting("corrected", "preset: mended, or as the released code behaves", choices=FIDELITY)
    s_steps: int = setting(50, "student steps in a round", low=0, role="steps")
    tau: float = setting(3.0, "temperature of the student's KL", low=1e-3, space=log(1, 20))
    g_steps: int = setting(2000, "steps on one batch of images", low=1, role="steps")
    targets: str = setting("balanced", "labels of a batch", choices=("random", "balanced"))
    keep: str = setting(
        "best", "images kept: after the last step, or of least loss before it", choices=("after", "best")
    )
    lr_x: float = setting(0.05, "Adam rate of the pixels", low=0.0, space=log(1e-2, 0.5))
    beta1_x: float = setting(0.9, "Adam's first beta for the pixels", low=0.0)
    beta2_x: float = setting(0.999, "Adam's second beta for the pixels", low=0.0)
    bn: float = weight(10.0, "bn: BatchNorm statistics", term="bn", space=log(0.01, 30))
    bn_first: float = setting(1.0, "weight of the first layer's statistics", low=0.0)
    tv: float = weight(2.5e-5, "tv: total variation", term="tv", space=log(1e-6, 0.1))
    tv_form: str = setting("norm", "four norms, or four mean absolute differences", choices=("norm", "mean"))
    l2: float = weight(0.0, "l2: norm of the batch", term="l2")
    jitter: float = setting(1 / 16, "share of the side that a batch is rolled by at most", low=0.0)
    flips: bool = setting(False, "whole batches mirrored, where the task bears it")
    clamp: bool = setting(False, "pixels put back into [0, 1] after each step")


DATAFREE: dict[str, Any] = {
    "s_steps": 400, "tau": 20.0, "g_steps": 1000, "targets": "random", "lr_x": 0.1, "beta1_x": 0.5,
    "beta2_x": 0.99, "tv": 0.001, "tv_form": "mean", "jitter": 1 / 8, "flips": True, "clamp": True,
}  # fmt: skip


class DeepInversion(Inversion):
    """A batch of pixels a round, no generator."""

    HP = Settings
    TITLE = "DeepInversion"
    PAPER = "Yin et al., CVPR 2020, arXiv 1912.08795"
    YEAR = 2020
    PRESETS: ClassVar[Presets] = {
        "protocol": {"datafree": DATAFREE},
        "fidelity": {"released": {"keep": "after"}},
    }
    hp: Settings

    def begin(self, y: Tensor) -> Callable[[], Tensor]:
        """Noise in normalised space."""
        problem, hp = self.problem, self.hp
        self._u = torch.randn(
            len(y), *problem.task.shape, generator=problem.rng, device=problem.compute.device
        ).requires_grad_()
        self.opts["images"] = torch.optim.Adam([self._u], hp.lr_x, betas=(hp.beta1_x, hp.beta2_x), fused=True)
        return lambda: self._u * self.T.std + self.T.mean

    def step_I(self, terms: dict[str, Tensor]) -> Terms:
        """One step, and back into the range of pixels if asked for."""
        got = super().step_I(terms)
        if self.hp.clamp:
            black, white = -self.T.mean / self.T.std, (1 - self.T.mean) / self.T.std
            with torch.no_grad():
                self._u.copy_(torch.minimum(torch.maximum(self._u, black), white))
        return got

    def view(self, x: Tensor) -> Tensor:
        """The batch as T sees it in one iteration."""
        task, hp, rng = self.problem.task, self.hp, self.problem.rng
        most = round(hp.jitter * task.side)
        if most:
            x = jitter(x, most, rng)
        return flip_all(x, rng) if hp.flips and "flip" in task.augment else x

    def terms_I(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """L_x."""
        hp = self.hp
        x = self.view(x)
        t = see(self.T, x, ("bn",) if hp.bn else ())
        terms = self.labels_loss(t.logits, y)
        if hp.bn:
            terms["bn"] = hp.bn * priors.bn(t, hp.bn_first)
        if hp.tv or hp.l2:
            u = (x - self.T.mean) / self.T.std
            if hp.tv:
                terms["tv"] = hp.tv * (priors.tv_norm if hp.tv_form == "norm" else priors.tv_mean)(u)
            if hp.l2:
                terms["l2"] = hp.l2 * priors.l2(u)
        return terms | self.against(x, t.logits)

    def against(self, x: Tensor, t: Tensor) -> dict[str, Tensor]:
        """What else the images minimise on the same view; nothing here."""
        return {}
