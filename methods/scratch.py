"""Reference: the student trained from scratch on the real training images.

    L_S = CE(s, y)

SGD with momentum 0.9 and weight decay 5e-4, cosine to zero, crops (and flips where the task bears them).
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.interface import Images, Problem, Reference, Schedule, Terms
from harness.settings import log, setting
from methods.shared import losses
from methods.shared.student import cosine, see, sgd


@dataclass(frozen=True)
class Settings:
    """The usual recipe of the field."""

    batch: int = setting(128, "images in a batch", low=2, role="batch")
    lr_s: float = setting(0.1, "SGD rate of S (momentum 0.9)", low=0.0, space=log(1e-2, 0.3))
    weight_decay: float = setting(5e-4, "weight decay of S", low=0.0)


class Scratch(Reference):
    """No teacher at all."""

    HP = Settings
    TITLE = "student from scratch"
    PAPER = "reference on real data"
    YEAR = 0
    NEEDS = ("the training set",)
    hp: Settings

    def __init__(self, problem: Problem, hp: Settings, images: Images) -> None:
        """One optimiser, one schedule."""
        super().__init__(problem, hp, images)
        self.opts["S"] = sgd(self.S, hp.lr_s, hp.weight_decay)
        self.schedules = [Schedule(self.opts["S"], cosine())]

    def distill(self) -> Terms:
        """One step on one batch."""
        x, y = self.images.batch(self.hp.batch)
        return self.step("S", {"ce": losses.ce(see(self.S, x).logits, y)})
