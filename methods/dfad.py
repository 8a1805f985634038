"""DFAD: data-free adversarial distillation. Fang et al., arXiv 1912.11006 (2019).

    L_S =  mean |s - t|
    L_G = -mean |s - t|

Read off the authors' code at c161591, defaults of its CIFAR command (with its scheduler flag): five steps of
S on fresh batches to one of G, all networks but T in train mode. Departures: none by default;
``schedule=cosine`` takes both rates down together (S alone, and G runs away from it: seen on digits). Not
kept, equal in value: weight gradients of T and S in the G step, the graph of T in the S step. Their CIFAR-100
teacher was trained with CIFAR-10's constants; ours carries its own (``teachers import --normalise cifar10``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from harness.config import FIDELITY, choice, setting
from harness.interface import Out, Problem, Schedule
from harness.nets.generators import DAFLGenerator
from methods import losses
from methods.generative import Generative, LoopHP, adam, constant, cosine, sgd, steps

#: factors of the rates of S and of G
_SCHEDULES = {
    "steps": (steps(0.2, 0.4), steps(0.2, 0.4)),
    "cosine": (cosine(), cosine()),
    "off": (constant, constant),
}


@dataclass(frozen=True)
class Settings(LoopHP):
    """Defaults of the authors' CIFAR command."""

    fidelity: str = setting("corrected", "preset; both are the same here", choices=FIDELITY)
    schedule: str = setting(
        "steps",
        "steps: both rates x0.1 at 100 and 200 of 500 epochs; cosine: both to zero",
        choices=tuple(_SCHEDULES),
        space=choice(*_SCHEDULES),
    )
    final: str = setting("tanh_bn", "last layer of G", choices=("tanh_bn", "sigmoid", "bn"))


class DFAD(Generative):
    """G seeks where S and T differ in L1, S follows."""

    HP = Settings
    TITLE = "DFAD"
    PAPER = "Fang et al., arXiv 1912.11006"
    YEAR = 2019
    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {"released": {}}
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        """Generator and optimisers."""
        super().__init__(problem, hp)
        self.parts["G"] = DAFLGenerator(hp.nz, problem.task, final=hp.final)
        self.opts = {"G": adam(self.parts["G"], hp.lr_g), "S": sgd(self.S, hp.lr_s, hp.weight_decay)}
        for name, factor in zip(("S", "G"), _SCHEDULES[hp.schedule], strict=True):
            self.schedules.append(Schedule(self.opts[name], factor))

    def terms_G(self, t: Out, s: Out | None, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """L_G."""
        assert s is not None
        return {"l1": -losses.l1(s.logits, t.logits)}

    def terms_S(self, t: Out, s: Out, y: Tensor | None) -> dict[str, Tensor]:
        """L_S."""
        return {"l1": losses.l1(s.logits, t.logits)}
