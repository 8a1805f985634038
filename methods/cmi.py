"""CMI: contrastive model inversion. Fang et al., IJCAI 2021, arXiv 2105.08584.

    L_I = bn BNS(g) + oh CE(t_g, y) - adv mean 1[agree] KL(t_g||s_g) + cr L_cr
    L_cr: the local view of each image is to be nearest to its own global view, among this batch and the bank
    L_S = tau^2 KL(t/tau || s/tau)                                    on all images made so far

A round draws G anew, optimises G and z together, and keeps the images; g is a crop, the local view a zoom
(both flipped where the task bears it). L_cr compares spatial means of the inputs of all BatchNorm layers
through a small head; the bank holds such features of earlier images. Read off the authors' code (zju-vipa/CMI
9e79fa9); defaults are its script "scratch" for WRN-40-2 -> WRN-16-1. Departures, each a setting:
  * keep=after: images after the last step; theirs are the iterate of least loss before it, a loss that counts
    disagreement and contrast as quality (``fidelity=released``: keep=best).
  * features=maps: spatial means of the stages' outputs, as a comment of theirs has it (their code takes the
    inputs, and for ResNets alone); works without BatchNorm.
Ours: the bank keeps features of the stored images on fresh views (theirs: the views of that iteration), its
size need be no multiple of the batch, and a draw is never empty when it is exactly full; batches for S are
drawn with replacement from the pool; pixels keep their bits. A run that starts from images made without the
adversarial term is ``warmup_rounds``; its cost counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from harness.config import Task
from harness.interface import Problem, Terms
from harness.nets.generators import Adapter, DAFLGenerator
from harness.network import NetSpec, Out
from harness.settings import FIDELITY, Presets, log, setting, weight
from harness.tasks.views import augment, flip, zoom
from methods.shared import losses, priors
from methods.shared.inversion import Inversion, InversionHP, redraw
from methods.shared.pool import Field, Pool
from methods.shared.student import adam, see


@dataclass(frozen=True)
class Settings(InversionHP):
    """Defaults of the authors' CIFAR-10 script "scratch"."""

    fidelity: str = setting("corrected", "preset: mended, or as the released code behaves", choices=FIDELITY)
    batch: int = setting(128, "images in a batch", low=2, role="batch")
    nz: int = setting(256, "width of the noise z", low=1)
    lr_g: float = setting(1e-3, "Adam rate of G, z and the head", low=0.0, space=log(1e-4, 1e-2))
    adv: float = weight(0.5, "adv: KL where S and T agree", term="adv", space=log(0.01, 10))
    cr: float = weight(0.8, "cr: contrast between images", term="cr", space=log(0.01, 10))
    cr_tau: float = setting(0.1, "temperature of the contrast", low=1e-3, space=log(0.02, 1.0))
    features: str = setting("bn", "what the contrast compares", choices=("bn", "maps"))
    bank: int = setting(40_960, "features of earlier images that are kept", low=1, role="store")
    bank_draw: int = setting(4096, "of which so many are compared with in a step", low=0, role="store")
    zoom_low: float = setting(0.25, "smallest share of the area in a local view", low=0.01)


class CMI(Inversion):
    """A new generator a round, whose images differ from those made before."""

    HP = Settings
    TITLE = "CMI"
    PAPER = "Fang et al., IJCAI 2021, arXiv 2105.08584"
    YEAR = 2021
    NEEDS = ("BatchNorm in the teacher unless bn = 0 and features = maps",)
    PRESETS: ClassVar[Presets] = {"fidelity": {"released": {"keep": "best"}}}
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        """Generator; with contrast, the head, its Adam and the bank."""
        super().__init__(problem, hp)
        self.parts["G"] = DAFLGenerator(hp.nz, problem.task, final="sigmoid")
        self.taps = (("bn",) if hp.bn else (), ("inputs",) if hp.features == "bn" else ("maps",))
        if hp.cr:
            width = self._width()
            self.parts["head"] = Adapter(width, 256)
            self.opts["head"] = adam(self.parts["head"], hp.lr_g)
            fields = {key: Field((width,), torch.float32) for key in ("a", "b")}
            device = problem.compute.device
            self.bank = Pool(hp.bank, fields, device=device, scratch=self.scratch("bank"))
            self.pools["bank"] = self.bank

    @classmethod
    def skip(cls, hp: Settings, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> str | None:
        """Statistics and features need what they are read from."""
        if not t_spec.has_bn and (hp.bn or (hp.cr and hp.features == "bn")):
            return f"teacher {t_spec.name} has no BatchNorm layers to read; set bn=0 and features=maps"
        if hp.cr and hp.features == "maps" and not t_spec.stages:
            return f"teacher {t_spec.name} has no known stages to read; set cr=0"
        return None

    def _width(self) -> int:
        if self.hp.features == "maps":
            return sum(c for c, _, _ in self.T.stages)
        return sum(m.num_features for m in self.T.modules() if isinstance(m, nn.BatchNorm2d))

    def begin(self, y: Tensor) -> Callable[[], Tensor]:
        """G drawn anew, fresh z, one Adam for both."""
        hp, problem, G = self.hp, self.problem, self.parts["G"]
        redraw(G, problem.rng)
        z = torch.randn(len(y), hp.nz, generator=problem.rng, device=problem.compute.device).requires_grad_()
        self.opts["images"] = torch.optim.Adam([*G.parameters(), z], hp.lr_g, betas=(0.5, 0.999), fused=True)
        return lambda: G(z)

    def terms_I(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """L_I."""
        hp = self.hp
        whole = augment(x, self.problem.task, self.problem.rng)
        t = see(self.T, whole, self.taps[0] + (self.taps[1] if hp.cr else ()))
        terms = self.labels_loss(t.logits, y)
        if hp.bn:
            terms["bn"] = hp.bn * priors.bn(t)
        if hp.adv and self.warm:
            terms["adv"] = -hp.adv * losses.kl_agreeing(t.logits, see(self.S, whole).logits)
        if hp.cr:
            near = self._features(see(self.T, self._local(x), self.taps[1]))
            terms["cr"] = hp.cr * self._contrast(near, self._features(t))
        return terms

    def _local(self, x: Tensor) -> Tensor:
        rng = self.problem.rng
        x = zoom(x, self.hp.zoom_low, rng)
        return flip(x, rng) if "flip" in self.problem.task.augment else x

    def _features(self, t: Out) -> Tensor:
        if self.hp.features == "bn":
            return priors.pooled(t)
        assert t.maps is not None
        return torch.cat([m.float().mean((2, 3)) for m in t.maps], dim=1)

    def _contrast(self, local: Tensor, whole: Tensor) -> Tensor:
        n, head = len(local), self.parts["head"]
        if len(self.bank) and self.hp.bank_draw:
            old = self.bank.sample(self.hp.bank_draw, self.problem.rng, replace=False)
            local, whole = torch.cat([local, old["a"]]), torch.cat([whole, old["b"]])
        with torch.no_grad():
            columns = head(whole)
        return losses.instance(head(local), columns, self.hp.cr_tau, n)

    def step_I(self, terms: dict[str, Tensor]) -> Terms:
        """One step on G, z and the head."""
        return self.step("images", terms, also=("head",) if self.hp.cr else ())

    @torch.no_grad()
    def made(self, x: Tensor, y: Tensor) -> None:
        """Features of the images kept go to the bank."""
        if self.hp.cr:
            views = self._local(x), augment(x, self.problem.task, self.problem.rng)
            local, whole = (self._features(see(self.T, v, self.taps[1])) for v in views)
            self.bank.add(a=local, b=whole)
