"""What a network is to a method: how it is called, what it returns, its specification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn


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


class Net(nn.Module, ABC):
    """A classifier of images in [0, 1] units: ``net(x)`` -> logits, ``net(x, taps=("h",))`` -> `Out`.

    There is no other entry point: compile, counters and hooks see every call.

    Attributes:
        name: as the catalog has it.
        mean, std: the normaliser, buffers of shape (1, C, 1, 1), saved with the weights.
        stages: (C, H, W) of each of the ``maps``.
    """

    name: str
    mean: Tensor
    std: Tensor
    stages: tuple[tuple[int, int, int], ...]

    @property
    @abstractmethod
    def head(self) -> nn.Linear:
        """The last linear layer, ``h`` -> logits."""

    @abstractmethod
    def forward(self, x: Tensor, taps: Sequence[str] = ()) -> Tensor | Out:
        """Classify.

        Args:
            x: (B, C, H, W) images in [0, 1] units; may leave the range.
            taps: what else to return, out of ``h``, ``maps``, ``bn`` and ``inputs``.

        Returns:
            Logits (B, K); with taps an `Out`. Logits, ``h`` and ``bn`` are fp32 under autocast too.

        Raises:
            DfkdError: for an unknown tap.
        """


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
