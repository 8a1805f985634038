"""FastDFKD: a generator that is quick to adapt. Fang et al., AAAI 2022, arXiv 2112.06253.

    L_I = bn BNS_m(x) + oh CE(t, y) - adv mean 1[agree] KL(t||s)      x = a random view of G'(z)
    L_S = tau^2 KL(t/tau || s/tau)                                    on all images made so far

A round takes a copy G' of the meta-generator G and fresh z, adapts both for k = ``g_steps`` steps (Adam, its
state new), keeps the images, and moves G by one step of its own Adam at k times the rate:
    meta=fomaml   along the gradient at G' (first-order MAML)
    meta=reptile  along G - G'
    meta=none     no copy: G itself is adapted, and that is all ("sequential")
BNS_m mixes the batch's statistics with their average over earlier rounds. Read off the authors' code
(zju-vipa/Fast-Datafree 0dcecbc); defaults are its CIFAR-10 script for WRN-40-2, k = 10. Departures, each a
setting; ``fidelity=released`` turns them back:
  * keep=after: images of G' after all k steps; theirs are the iterate of least loss before the last step, so
    that for k = 2 half of the adaptation is thrown away.
  * meta_gradient=last: MAML's, at the last iterate; theirs sums over all k (which with a plain inner loop is
    Reptile's direction), and scales Reptile's by 67, which Adam undoes.
  * reset_l0=proper: late in the run the first layer and its norm are drawn anew, the norm's scale from
    N(1, 0.02); theirs draws it from N(0, 0.02), which nearly shuts the layer.
Ours: batches are drawn with replacement from the pool, not in shuffled passes; pixels keep their bits; the
adversarial term starts with the student's training (theirs one round before it).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.interface import Problem, Terms
from harness.nets.generators import DAFLGenerator
from harness.settings import FIDELITY, Presets, choice, log, setting, weight
from harness.tasks.views import augment
from methods.shared import losses, priors
from methods.shared.inversion import Inversion, InversionHP
from methods.shared.student import adam, see

#: share of the student's run after which the first layer is drawn anew: call 120 of 200
_RESET_AT = 0.6


@dataclass(frozen=True)
class Settings(InversionHP):
    """Defaults of the authors' CIFAR-10 script, WRN-40-2 teacher, Fast-10."""

    fidelity: str = setting("corrected", "preset: mended, or as the released code behaves", choices=FIDELITY)
    meta: str = setting(
        "fomaml", "how G learns to adapt", choices=("none", "reptile", "fomaml"),
        space=choice("none", "reptile", "fomaml"),
    )  # fmt: skip
    meta_gradient: str = setting("last", "gradients that FOMAML takes", choices=("last", "sum"))
    g_steps: int = setting(10, "k: steps on one batch of images", low=1, role="steps")
    nz: int = setting(256, "width of the noise z", low=1)
    lr_g: float = setting(2e-3, "Adam rate of G' (G: k times that)", low=0.0, space=log(1e-4, 1e-2))
    lr_z: float = setting(0.01, "Adam rate of z", low=0.0, space=log(1e-3, 0.1))
    lr_s: float = setting(0.2, "rate of S", low=0.0, space=log(1e-3, 0.3))
    warmup_rounds: int = setting(20, "rounds that only fill the pool", low=0, role="warmup")
    bn: float = weight(10.0, "bn: BatchNorm statistics", term="bn", space=log(0.01, 30))
    bn_momentum: float = setting(0.9, "m: share of earlier rounds in the statistics", low=0.0)
    oh: float = weight(0.4, "oh: cross-entropy with the label asked for", term="oh", space=log(0.01, 10))
    adv: float = weight(1.1, "adv: KL where S and T agree", term="adv", space=log(0.01, 10))
    reset_l0: str = setting(
        "proper", "first layer of the meta-generator drawn anew late", choices=("off", "proper", "released")
    )


class Fast(Inversion):
    """Few steps on a batch, from a generator that learns to need few."""

    HP = Settings
    TITLE = "FastDFKD"
    PAPER = "Fang et al., AAAI 2022, arXiv 2112.06253"
    YEAR = 2022
    MAKERS = ("G", "adapted")
    PRESETS: ClassVar[Presets] = {
        "fidelity": {"released": {"keep": "best", "meta_gradient": "sum", "reset_l0": "released"}}
    }
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        """The meta-generator, the copy that is adapted, and the meta-Adam."""
        super().__init__(problem, hp)
        G = self.parts["G"] = DAFLGenerator(hp.nz, problem.task, final="sigmoid")
        if hp.meta != "none":
            self.parts["adapted"] = DAFLGenerator(hp.nz, problem.task, final="sigmoid")
            self.opts["G"] = adam(G, hp.g_steps * hp.lr_g, (0.5, 0.999))
        self._memory: priors.Memory | None = None
        self._was_reset = False

    @property
    def _adapting(self) -> nn.Module:
        return self.parts["G" if self.hp.meta == "none" else "adapted"]

    def begin(self, y: Tensor) -> Callable[[], Tensor]:
        """A copy of G, fresh z, fresh Adam."""
        hp, problem = self.hp, self.problem
        late = hp.meta != "none" and problem.clock.progress >= _RESET_AT
        if hp.reset_l0 != "off" and late and not self._was_reset:
            self._reset()
        G = self._adapting
        if hp.meta != "none":
            G.load_state_dict(self.parts["G"].state_dict())
        z = torch.randn(len(y), hp.nz, generator=problem.rng, device=problem.compute.device).requires_grad_()
        groups: list[dict[str, Any]] = [{"params": list(G.parameters())}, {"params": [z], "lr": hp.lr_z}]
        self.opts["images"] = torch.optim.Adam(groups, hp.lr_g, betas=(0.5, 0.999), fused=True)
        self._gradient: list[Tensor] = []
        return lambda: G(z)

    def terms_I(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """L_I."""
        hp = self.hp
        x = augment(x, self.problem.task, self.problem.rng)
        t = see(self.T, x, ("bn",) if hp.bn else ())
        terms = self.labels_loss(t.logits, y)
        if hp.bn:
            bns = (
                priors.bn(t) if self._memory is None else priors.bn_momentum(t, self._memory, hp.bn_momentum)
            )
            terms["bn"] = hp.bn * bns
            self._last = t
        if hp.adv and self.warm:
            terms["adv"] = -hp.adv * losses.kl_agreeing(t.logits, see(self.S, x).logits)
        return terms

    def step_I(self, terms: dict[str, Tensor]) -> Terms:
        """One step on G' and z; FOMAML keeps its gradient."""
        got = super().step_I(terms)
        if self.hp.meta == "fomaml":
            new = [p.grad.clone() for p in self._adapting.parameters() if p.grad is not None]
            if self.hp.meta_gradient == "sum" and self._gradient:
                torch._foreach_add_(self._gradient, new)
            else:
                self._gradient = new
        return got

    def made(self, x: Tensor, y: Tensor) -> None:
        """The meta-step, and the statistics of this round into their average."""
        if self.hp.bn:
            self._memory = priors.remembered(self._last, self._memory, self.hp.bn_momentum)
            del self._last
        if self.hp.meta == "none":
            return
        G, adapted = self.parts["G"], self.parts["adapted"]
        towards = self._gradient
        if self.hp.meta == "reptile":
            towards = [(p - q).detach() for p, q in zip(G.parameters(), adapted.parameters(), strict=True)]
        # A sum whose gradient is the direction, so that the meta-step goes through step() as every other.
        pairs = zip(G.parameters(), towards, strict=True)
        self.step("G", {"meta": torch.stack([(p * g).sum() for p, g in pairs]).sum()})

    def _reset(self) -> None:
        G, rng = self.parts["G"], self.problem.rng
        assert isinstance(G, DAFLGenerator)
        nn.init.normal_(G.linear.weight, 0.0, 0.02, generator=rng)
        nn.init.normal_(G.bn0.weight, 1.0 if self.hp.reset_l0 == "proper" else 0.0, 0.02, generator=rng)
        for bias in (G.linear.bias, G.bn0.bias):
            nn.init.zeros_(bias)
        self._was_reset = True

    def extra_state(self) -> dict[str, Any]:
        """The average of statistics, whether the first layer was drawn anew."""
        memory = None if self._memory is None else [list(pair) for pair in self._memory]
        return {"memory": memory, "was_reset": self._was_reset}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Back to it."""
        device = self.problem.compute.device
        held = state["memory"]
        self._memory = None if held is None else [(a.to(device), b.to(device)) for a, b in held]
        self._was_reset = state["was_reset"]
