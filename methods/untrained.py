"""Control: the student is distilled on the images of a generator that is never updated.

    L_S = tau^2 KL(t/tau || s/tau)        x = G(z), z ~ N(0, I), G as it was drawn

What training a generator must beat: a random network already makes smooth, coloured, varied images. G is
DAFL's (without its eps of 0.8), its norms in train mode.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.interface import Problem, Terms
from harness.nets.generators import DAFLGenerator
from harness.settings import log, setting
from methods.shared.generative import Generative
from methods.shared.student import StudentHP


@dataclass(frozen=True)
class Settings(StudentHP):
    """One lesson a round."""

    s_steps: int = setting(1, "student steps in a round", low=0, role="steps")
    tau: float = setting(1.0, "temperature of the student's KL", low=1e-3, space=log(1, 20))
    nz: int = setting(256, "width of the noise z", low=1)
    sample_mode: str = setting("train", "BatchNorm of G while S is trained", choices=("train", "eval"))
    final: str = setting("tanh_bn", "last layer of G", choices=("tanh_bn", "sigmoid", "bn"))


class Untrained(Generative):
    """A random generator."""

    HP = Settings
    TITLE = "untrained generator (control)"
    PAPER = "control"
    YEAR = 0
    CONTROL = True
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings) -> None:
        """A generator without an optimiser."""
        super().__init__(problem, hp)
        self.parts["G"] = DAFLGenerator(hp.nz, problem.task, final=hp.final).requires_grad_(False)

    def synthesize(self) -> Terms:
        """G stays as it is."""
        return Terms()
