"""What every classifier shares: images in [0, 1], the normaliser inside, and taps read in the one forward."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness import network
from harness.config import Task
from harness.errors import DfkdError
from harness.network import BNStat, Out

TAPS = ("h", "maps", "bn", "inputs")
SPACE = (0, 2, 3)

#: smallest image side: below it the deepest stage of a CIFAR network has no pixel left
MIN_SIDE = 8


def fp32(x: Tensor) -> Tensor:
    """``x`` in fp32 where autocast left half precision; fp32 and fp64 pass through untouched."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


class _BatchStats(torch.autograd.Function):
    """Mean and biased variance over batch and space, with the closed form of their gradient.

    ``torch.var_mean`` says the same in one word but is 7 to 20 times slower on a CPU, where it would
    cost more than the teacher's own forward. Both passes are here: no cancellation as in E[x^2] - m^2.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, H, W) -> mean (C,), variance (C,)."""
        if x.is_cuda:
            var, mean = torch.var_mean(x, dim=SPACE, unbiased=False)
        else:
            mean = x.mean(SPACE)
            d = x - mean[:, None, None]
            var = d.mul_(d).mean(SPACE)
        ctx.save_for_backward(x, mean)
        return mean, var

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        """Linear in x per channel: g_mean / n + g_var 2 (x - mean) / n."""
        x, mean = ctx.saved_tensors
        g_mean, g_var = grads
        n = x.numel() // x.shape[1]
        slope = g_var * (2 / n)
        return torch.addcmul((g_mean / n - slope * mean)[:, None, None], x, slope[:, None, None])


def bn_stat(bn: nn.BatchNorm2d, x: Tensor) -> BNStat:
    """Statistics of ``x`` (B, C, H, W), the input of ``bn``, beside the running ones it holds *before* x.

    Differentiable in x. In train mode the running statistics are copied, since the forward overwrites them.

    Raises:
        DfkdError: when the layer keeps no running statistics.
    """
    if bn.running_mean is None or bn.running_var is None:
        raise DfkdError(f"tap 'bn': a BatchNorm layer of {bn.num_features} channels tracks no statistics")
    running = (fp32(bn.running_mean), fp32(bn.running_var))
    if bn.training:
        running = (running[0].clone(), running[1].clone())
    mean, var = _BatchStats.apply(fp32(x))
    return BNStat(mean, var, *running, x)


class Inputs(list[Any]):
    """A list that BatchNorm layers fill with their bare inputs: nobody asked for statistics."""


class TapBN(nn.BatchNorm2d):
    """BatchNorm2d that, handed a list, notes its input there; without one it costs nothing."""

    def forward(self, input: Tensor, bn: list[Any] | None = None) -> Tensor:
        """Normalise ``input`` (B, C, H, W); same shape out. `Inputs` get the input bare."""
        if bn is not None:
            bn.append(input if isinstance(bn, Inputs) else bn_stat(self, input))
        return super().forward(input)


class Net(network.Net):
    """A classifier of ours.

    A subclass names its last linear layer in `HEAD`, sets ``stages``, registers its BN layers in forward
    order and writes `features`.
    """

    HEAD: ClassVar[str] = "fc"

    def __init__(self, name: str, task: Task) -> None:
        """Keep the name and the task's normaliser.

        Raises:
            DfkdError: for a side too small, or a normaliser that does not fit the channels.
        """
        super().__init__()
        if task.side < MIN_SIDE:
            raise DfkdError(
                f"net {name!r} needs images of at least {MIN_SIDE} pixels a side, not {task.side}"
            )
        self.name = name
        self.register_buffer("mean", _per_channel("mean", task.mean, task.channels))
        self.register_buffer("std", _per_channel("std", task.std, task.channels))

    @property
    def head(self) -> nn.Linear:
        """The last linear layer, ``h`` -> logits."""
        layer = getattr(self, self.HEAD)
        assert isinstance(layer, nn.Linear)
        return layer

    @abstractmethod
    def features(self, z: Tensor, maps: list[Tensor] | None, bn: list[BNStat] | None) -> Tensor:
        """Normalised images (B, C, H, W) -> feature (B, D); fills the lists it is given, in forward order."""

    def forward(self, x: Tensor, taps: Sequence[str] = ()) -> Tensor | Out:
        """Classify: normaliser, `features`, head."""
        for tap in taps:
            if tap not in TAPS:
                raise DfkdError(f"unknown tap {tap!r}; known: {', '.join(TAPS)}")
        maps: list[Tensor] | None = [] if "maps" in taps else None
        bn: list[Any] | None = [] if "bn" in taps else Inputs() if "inputs" in taps else None
        h = self.features((x - self.mean) / self.std, maps, bn)
        logits = fp32(self.head(h))
        if not taps:
            return logits
        seen = tuple(bn or ())
        return Out(
            logits,
            fp32(h) if "h" in taps else None,
            None if maps is None else tuple(maps),
            seen if "bn" in taps else None,
            tuple(b.input if "bn" in taps else b for b in seen) if "inputs" in taps else None,
        )


def fan_out_normal(net: Net, head_std: float | None = None) -> None:
    """Initialise as WRN and the CIFAR VGG do: conv weights N(0, 2 / (k^2 C_out)), conv and head biases 0.

    Args:
        net: the network, complete.
        head_std: standard deviation of the head's weights; None leaves torch's default.
    """
    if net.head.weight.is_meta:
        return  # a normal draw on the meta device imports the compiler: a second for no number
    for m in net.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
            if m.bias is not None:
                nn.init.zeros_(m.bias)
    nn.init.zeros_(net.head.bias)
    if head_std is not None:
        nn.init.normal_(net.head.weight, std=head_std)


def reset_normaliser(net: Net, mean: Sequence[float], std: Sequence[float]) -> None:
    """Give a network other normalising constants, one per channel, in [0, 1] units.

    Raises:
        DfkdError: when their number is not the number of channels, or a std is not positive.
    """
    channels = net.mean.shape[1]
    net.mean.copy_(_per_channel("mean", mean, channels))
    net.std.copy_(_per_channel("std", std, channels))


def _per_channel(what: str, values: Sequence[float], channels: int) -> Tensor:
    if len(values) != channels:
        raise DfkdError(f"normaliser {what} {tuple(values)} has {len(values)} values for {channels} channels")
    if what == "std" and min(values) <= 0:
        raise DfkdError(f"normaliser std {tuple(values)} must be positive")
    return torch.tensor(values, dtype=torch.float32).view(1, channels, 1, 1)
