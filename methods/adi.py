"""ADI: adaptive DeepInversion: images on which S disagrees with T. Yin et al., CVPR 2020, arXiv 1912.08795.

    L_x = DeepInversion's + adv (1 - JS(t/3, s/3))

S is the network under training, in eval mode. Departures, each a setting, beside DeepInversion's:
  * js=true: the divergence itself; the released code clamps P, Q and M to [0.01, 0.99] and swaps KL's
    arguments (``fidelity=released``: js=clamped).
  * adv=0.2: their ImageNet script's; the CIFAR-10 script has 0 or 0.01, DataFree's copy 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.settings import Presets, log, setting, weight
from methods import deepinversion
from methods.shared import losses
from methods.shared.student import see


@dataclass(frozen=True)
class Settings(deepinversion.Settings):
    """DeepInversion's, and the competition."""

    adv: float = weight(0.2, "adv: competition, 1 - JS", term="adv", space=log(0.01, 10))
    js: str = setting("true", "form of JS", choices=("true", "clamped"))


class ADI(deepinversion.DeepInversion):
    """DeepInversion with the student's disagreement."""

    HP = Settings
    TITLE = "Adaptive DeepInversion"
    PRESETS: ClassVar[Presets] = {
        "protocol": {"datafree": {**deepinversion.DATAFREE, "adv": 1.0}},
        "fidelity": {"released": {"keep": "after", "js": "clamped"}},
    }
    hp: Settings

    def against(self, x: Tensor, t: Tensor) -> dict[str, Tensor]:
        """The competition, once S is being trained."""
        if not (self.hp.adv and self.warm):
            return {}
        js = losses.js if self.hp.js == "true" else losses.js_clamped
        return {"adv": self.hp.adv * (1 - js(t, see(self.S, x).logits))}
