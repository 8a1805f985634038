"""What a network is to a method: its outputs, its statistics, its specification."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor


class BNStat(NamedTuple):
    """One BatchNorm layer's *input* (B, C, H, W) and its statistics, each of shape (C,), fp32."""

    mean: Tensor
    var: Tensor  # biased, over batch and space
    running_mean: Tensor
    running_var: Tensor
    input: Tensor


class Out(NamedTuple):
    """What ``net(x, taps=...)`` returns; a tap that was not asked for is None.

    Attributes:
        logits: (B, K), fp32.
        h: (B, D), un-normalised pooled feature before the head, fp32.
        maps: last activation of each stage, (B, C_i, H_i, W_i).
        bn: one `BNStat` per BatchNorm layer, in forward order.
        inputs: the input of each BatchNorm layer, (B, C, H, W), in forward order.
    """

    logits: Tensor
    h: Tensor | None = None
    maps: tuple[Tensor, ...] | None = None
    bn: tuple[BNStat, ...] | None = None
    inputs: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class NetSpec:
    """What is known of a network without its weights.

    Attributes:
        stages: (C, H, W) of each stage's last activation (the ``maps`` tap).
        width: width of the feature ``h``.
        bn_channels: channels of each BatchNorm layer, in forward order; empty without BN.
        params: number of parameters.
    """

    name: str
    channels: int
    side: int
    classes: int
    stages: tuple[tuple[int, int, int], ...]
    width: int
    bn_channels: tuple[int, ...]
    params: int

    @property
    def has_bn(self) -> bool:
        """Whether there are BatchNorm statistics to match."""
        return bool(self.bn_channels)
