"""ResNet-18 and ResNet-34 in their CIFAR form (DAFL's definition and key names): 3x3 stem, no max-pool."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import Task
from harness.nets.base import Net, TapBN
from harness.network import BNStat


class Block(nn.Module):
    """conv-BN-ReLU-conv-BN plus the shortcut, then ReLU."""

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        """The shortcut is the identity, or conv1x1-BN where stride or width changes."""
        super().__init__()
        self.conv1 = nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)
        self.bn1 = TapBN(c_out)
        self.conv2 = nn.Conv2d(c_out, c_out, 3, 1, 1, bias=False)
        self.bn2 = TapBN(c_out)
        self.shortcut = nn.Sequential()
        if stride != 1 or c_in != c_out:
            self.shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), TapBN(c_out))

    def forward(self, x: Tensor, bn: list[BNStat] | None) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x), bn), inplace=True)
        y = self.bn2(self.conv2(y), bn)
        if len(self.shortcut):
            conv, norm = self.shortcut
            x = norm(conv(x), bn)
        return F.relu(y + x, inplace=True)


class ResNet(Net):
    """Stem of 64 channels, then stages of 64, 128, 256, 512 (strides 1, 2, 2, 2), which are the ``maps``."""

    HEAD: ClassVar[str] = "linear"

    def __init__(self, name: str, blocks: Sequence[int], task: Task) -> None:
        """``blocks`` per stage; torch's default initialisation, as in the released codes."""
        super().__init__(name, task)
        sides = (task.side, -(-task.side // 2), -(-task.side // 4), -(-task.side // 8))
        self.stages = tuple((64 * 2**i, s, s) for i, s in enumerate(sides))
        self.conv1 = nn.Conv2d(task.channels, 64, 3, 1, 1, bias=False)
        self.bn1 = TapBN(64)
        self.layer1 = _stage(blocks[0], 64, 64, 1)
        self.layer2 = _stage(blocks[1], 64, 128, 2)
        self.layer3 = _stage(blocks[2], 128, 256, 2)
        self.layer4 = _stage(blocks[3], 256, 512, 2)
        self.linear = nn.Linear(512, task.K)

    def features(self, z: Tensor, maps: list[Tensor] | None, bn: list[BNStat] | None) -> Tensor:
        """Mean over space of the last stage: (B, 512)."""
        z = F.relu(self.bn1(self.conv1(z), bn), inplace=True)
        for stage in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in stage:
                z = block(z, bn)
            if maps is not None:
                maps.append(z)
        return z.mean((2, 3))


def _stage(n: int, c_in: int, c_out: int, stride: int) -> nn.ModuleList:
    return nn.ModuleList(Block(c_in if i == 0 else c_out, c_out, stride if i == 0 else 1) for i in range(n))


NETS = {
    name: partial(ResNet, name, blocks)
    for name, blocks in (("resnet18", (2, 2, 2, 2)), ("resnet34", (3, 4, 6, 3)))
}
