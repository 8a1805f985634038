"""DFAD: data-free adversarial distillation. Fang et al., arXiv 1912.11006 (2019).

    L_S =  mean |s - t|
    L_G = -mean |s - t|

Read off the authors' code at c161591, defaults of its CIFAR command (with its scheduler flag): five steps of
S on fresh batches to one of G, all networks but T in train mode. Departures, each a setting:
  * protocol=datafree: as Fast-Datafree (0dcecbc) runs it, with a generator that ends in a sigmoid, S in eval
    mode while G is trained, cosine for S and a constant rate for G.
  * rival=teacher: what Fast-Datafree does by mistake; |t - t| has no gradient, so G never moves.
  * schedule=cosine takes both rates down together (S alone, and G runs away from it: seen on digits).
Not kept, equal in value: weight gradients of T and S in the G step, the graph of T in the S step. Their
CIFAR-100 teacher was trained with CIFAR-10's constants; ours carries its own (``teachers import``).

Seen: the mean over B x K makes the gradient on S K times smaller than that of a KL summed over classes. On
digits, with schedule=cosine and one seed, 1,000 updates at lr_s = 0.1, lr_g = 3e-3 end at 36 % on val; at
lr_s = 0.3, lr_g = 1e-3, beta1_g = 0.5 at 100 %. The three were not told apart. On test the second way ends at
97.0, 95.7 and 56.7 for seeds 0, 1 and 2: the budget is too small, the third has its climb still before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from harness.interface import Problem
from harness.nets.generators import DAFLGenerator
from harness.network import Out
from harness.settings import FIDELITY, Presets, setting
from methods.shared import losses
from methods.shared.generative import GameHP, Generative


@dataclass(frozen=True)
class Settings(GameHP):
    """Defaults of the authors' CIFAR command."""

    protocol: str = setting("authors", "preset: whose training loop", choices=("authors", "datafree"))
    fidelity: str = setting("corrected", "preset; both are the same here", choices=FIDELITY)
    schedule: str = setting(
        "steps", "x0.1 at 100 and 200 of 500 epochs, or cosine, or off", choices=("cosine", "steps", "off")
    )
    g_schedule: str = setting("same", "rate of G: constant, or as S's", choices=("off", "same"))
    final: str = setting("tanh_bn", "last layer of G", choices=("tanh_bn", "sigmoid", "bn"))


_DATAFREE: dict[str, Any] = {
    "final": "sigmoid", "beta1_g": 0.5, "weight_decay": 1e-4, "schedule": "cosine", "g_schedule": "off",
    "student_bn": "eval",
}  # fmt: skip


class DFAD(Generative):
    """G seeks where S and T differ in L1, S follows."""

    HP = Settings
    TITLE = "DFAD"
    PAPER = "Fang et al., arXiv 1912.11006"
    YEAR = 2019
    STEPS = (0.2, 0.4)
    PRESETS: ClassVar[Presets] = {"protocol": {"datafree": _DATAFREE}, "fidelity": {"released": {}}}
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        """Generator and optimisers."""
        super().__init__(problem, hp)
        self.parts["G"] = DAFLGenerator(hp.nz, problem.task, final=hp.final)
        self.train_G()

    def terms_G(self, t: Out, s: Out | None, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        """L_G."""
        assert s is not None
        return {"l1": -losses.l1(s.logits, t.logits)}

    def terms_S(self, t: Out, s: Out, y: Tensor | None) -> dict[str, Tensor]:
        """L_S."""
        return {"l1": losses.l1(s.logits, t.logits)}
