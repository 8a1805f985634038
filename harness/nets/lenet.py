"""LeNet-5 and its half in DAFL's MNIST form, with and without BN."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import Task
from harness.nets.base import Net, TapBN
from harness.network import BNStat

#: the side LeNet-5 was drawn for: its third conv sees exactly 5x5 pixels
HOME = 32


class LeNet(Net):
    """Three valid 5x5 convs with ReLU, 2x2 max-pool after the first two, then two linear layers.

    Made for 32 x 32. A smaller image is framed with zeros, the mean colour, up to 32. A larger one leaves
    the third conv more than one position: their mean is taken, so at 32 nothing changes. ``h`` is the
    input of the last linear layer (84 or 42 numbers, after ReLU); ``maps`` are the three convs'
    activations, before pooling.
    """

    HEAD: ClassVar[str] = "fc2"

    def __init__(self, name: str, widths: tuple[int, int, int, int], norm: bool, task: Task) -> None:
        """``widths`` of the three convs and the hidden linear layer; ``norm`` puts BN after each conv."""
        super().__init__(name, task)
        c1, c2, c3, hidden = widths
        self.conv1 = nn.Conv2d(task.channels, c1, 5)
        self.conv2 = nn.Conv2d(c1, c2, 5)
        self.conv3 = nn.Conv2d(c2, c3, 5)
        self.bn1, self.bn2, self.bn3 = (TapBN(c) if norm else None for c in (c1, c2, c3))
        self.fc1, self.fc2 = nn.Linear(c3, hidden), nn.Linear(hidden, task.K)
        short = max(HOME - task.side, 0)
        self.frame = (short // 2, short - short // 2) * 2
        s1 = task.side + short - 4
        s2 = s1 // 2 - 4
        s3 = s2 // 2 - 4
        self.stages = ((c1, s1, s1), (c2, s2, s2), (c3, s3, s3))

    def features(self, z: Tensor, maps: list[Tensor] | None, bn: list[BNStat] | None) -> Tensor:
        """Activation of the hidden linear layer: (B, 84), or (B, 42) for the half."""
        if self.frame[1]:
            z = F.pad(z, self.frame)
        stages = ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3))
        for i, (conv, norm) in enumerate(stages):
            z = conv(z) if norm is None else norm(conv(z), bn)
            z = F.relu(z, inplace=True)
            if maps is not None:
                maps.append(z)
            if i < 2:
                z = F.max_pool2d(z, 2)
        return F.relu(self.fc1(z.mean((2, 3))))


FULL, HALF = (6, 16, 120, 84), (3, 8, 60, 42)

NETS = {
    name: partial(LeNet, name, widths, norm)
    for name, widths, norm in (
        ("lenet5", FULL, False),
        ("lenet5_half", HALF, False),
        ("lenet5_bn", FULL, True),
        ("lenet5_half_bn", HALF, True),
    )
}
