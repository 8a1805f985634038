"""Wide ResNets WRN-d-k in their pre-activation CIFAR form (ZSKT's definition and key names)."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import Task
from harness.nets.base import Net, TapBN, fan_out_normal
from harness.network import BNStat


def conv3x3(c_in: int, c_out: int, stride: int = 1) -> nn.Conv2d:
    """3x3 convolution, padded, without bias."""
    return nn.Conv2d(c_in, c_out, 3, stride, 1, bias=False)


class Block(nn.Module):
    """BN-ReLU-conv-BN-ReLU-conv plus the input; no activation after the sum.

    Where widths differ a 1x1 conv of the *activated* input is added instead of the raw input.
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        """Two 3x3 convs, the first with the stride."""
        super().__init__()
        self.bn1, self.conv1 = TapBN(c_in), conv3x3(c_in, c_out, stride)
        self.bn2, self.conv2 = TapBN(c_out), conv3x3(c_out, c_out)
        # the key name of the published checkpoints
        self.convShortcut = nn.Conv2d(c_in, c_out, 1, stride, bias=False) if c_in != c_out else None

    def forward(self, x: Tensor, bn: list[BNStat] | None) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        a = F.relu(self.bn1(x, bn), inplace=True)
        y = F.relu(self.bn2(self.conv1(a), bn), inplace=True)
        skip = x if self.convShortcut is None else self.convShortcut(a)
        return skip + self.conv2(y)


class Group(nn.Module):
    """``n`` blocks, the first with the stride."""

    def __init__(self, n: int, c_in: int, c_out: int, stride: int) -> None:
        """Blocks under ``layer``, the key name of the published checkpoints."""
        super().__init__()
        self.layer = nn.ModuleList(
            Block(c_in if i == 0 else c_out, c_out, stride if i == 0 else 1) for i in range(n)
        )

    def forward(self, x: Tensor, bn: list[BNStat] | None) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H / stride, W / stride)."""
        for block in self.layer:
            x = block(x, bn)
        return x


class WRN(Net):
    """WRN-d-k: widths 16k, 32k, 64k; ``maps`` are the three groups' sums, before the final BN."""

    def __init__(self, depth: int, k: int, task: Task) -> None:
        """``depth`` = 6 n + 4 layers at ``k`` times the base width."""
        super().__init__(f"wrn{depth}_{k}", task)
        n = (depth - 4) // 6
        sides = (task.side, -(-task.side // 2), -(-task.side // 4))
        self.stages = tuple((16 * k * 2**i, s, s) for i, s in enumerate(sides))
        self.conv1 = conv3x3(task.channels, 16)
        self.block1 = Group(n, 16, 16 * k, 1)
        self.block2 = Group(n, 16 * k, 32 * k, 2)
        self.block3 = Group(n, 32 * k, 64 * k, 2)
        self.bn1 = TapBN(64 * k)
        self.fc = nn.Linear(64 * k, task.K)
        fan_out_normal(self)

    def features(self, z: Tensor, maps: list[Tensor] | None, bn: list[BNStat] | None) -> Tensor:
        """Mean over space of the final BN-ReLU: (B, 64 k)."""
        z = self.conv1(z)
        for group in (self.block1, self.block2, self.block3):
            z = group(z, bn)
            if maps is not None:
                maps.append(z)
        return F.relu(self.bn1(z, bn), inplace=True).mean((2, 3))


NETS = {f"wrn{d}_{k}": partial(WRN, d, k) for d, k in ((16, 1), (16, 2), (40, 1), (40, 2))}
