"""VGG-11 with BN in its CIFAR form (RepDistiller's definition and key names): one linear layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import Task
from harness.nets.base import Net, TapBN, fan_out_normal
from harness.network import BNStat

WIDTHS = ((64,), (128,), (256, 256), (512, 512), (512, 512))

#: from this side on block 3 is followed by a pool of its own, so that block 4 works on 4x4 pixels
BIG = 64


class VGG11(Net):
    """Five blocks of conv3x3(bias)-BN-ReLU, 2x2 max-pool after the first three; ``maps`` are the blocks."""

    HEAD: ClassVar[str] = "classifier"

    def __init__(self, task: Task) -> None:
        """Build for one image side: the fourth pool is there only from `BIG` on."""
        super().__init__("vgg11", task)
        side = task.side
        ends = (task.channels, *(w[-1] for w in WIDTHS))
        self.block0, self.block1, self.block2, self.block3, self.block4 = (
            _block(c_in, w) for c_in, w in zip(ends, WIDTHS, strict=False)
        )
        self.pools = (0, 1, 2, 3) if side >= BIG else (0, 1, 2)
        sides = (side, side // 2, side // 4, side // 8, side // (16 if side >= BIG else 8))
        self.stages = tuple((w[-1], s, s) for w, s in zip(WIDTHS, sides, strict=True))
        self.classifier = nn.Linear(WIDTHS[-1][-1], task.K)
        fan_out_normal(self, head_std=0.01)

    def features(self, z: Tensor, maps: list[Tensor] | None, bn: list[BNStat] | None) -> Tensor:
        """Mean over space of the last block: (B, 512)."""
        for i, block in enumerate((self.block0, self.block1, self.block2, self.block3, self.block4)):
            for layer in block:
                z = layer(z, bn) if isinstance(layer, TapBN) else layer(z)
            z = F.relu(z, inplace=True)
            if maps is not None:
                maps.append(z)
            if i in self.pools:
                z = F.max_pool2d(z, 2)
        return z.mean((2, 3))


def _block(c_in: int, widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for c_out in widths:
        layers += [nn.Conv2d(c_in, c_out, 3, padding=1), TapBN(c_out), nn.ReLU(inplace=True)]
        c_in = c_out
    return nn.Sequential(*layers[:-1])  # the last ReLU is the network's, so that keys count as published


NETS = {"vgg11": VGG11}
