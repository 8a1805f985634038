"""Priors on synthetic images: functions of what the teacher's forward saw, or of the images alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from harness.network import BNStat, NetSpec, Out

#: (mean, variance) of each BatchNorm layer's input, as a running average over earlier batches
Memory = Sequence[tuple[Tensor, Tensor]]


def bn(out: Out, first: float = 1.0) -> Tensor:
    """Distance of a batch's BatchNorm statistics from the stored ones: BNS.

    sum over layers of ||var_running - var_batch||_2 + ||mean_running - mean_batch||_2, norms not squared,
    biased batch variance of each layer's input (DeepInversion, arXiv 1912.08795, as CPSC and CMI have it).

    Args:
        out: a forward that asked for the ``bn`` tap.
        first: weight of the first layer; the others have 1 (DeepInversion's ImageNet script: 10).
    """
    each = [_distance(b, b.mean, b.var) for b in _layers(out)]
    return torch.stack([first * each[0], *each[1:]]).sum()


def bn_momentum(out: Out, memory: Memory, momentum: float) -> Tensor:
    """`bn` of statistics mixed with a running average: (1 - m) batch + m average (FastDFKD, 2112.06253).

    The gradient is 1 - m of `bn`'s; with m = 0 it is `bn`.
    """
    m = momentum
    pairs = zip(_layers(out), memory, strict=True)
    mixed = [_distance(b, (1 - m) * b.mean + m * mean, (1 - m) * b.var + m * var) for b, (mean, var) in pairs]
    return torch.stack(mixed).sum()


def remembered(out: Out, memory: Memory | None, momentum: float) -> Memory:
    """The running average after this batch: m old + (1 - m) batch; the first batch as it is."""
    new = [(b.mean.detach(), b.var.detach()) for b in _layers(out)]
    if memory is None:
        return new
    m = momentum
    return [(m * a + (1 - m) * c, m * b + (1 - m) * d) for (a, b), (c, d) in zip(memory, new, strict=True)]


def pooled(out: Out) -> Tensor:
    """Spatial means of every BatchNorm layer's input, side by side: (B, sum of channels), fp32 (CMI).

    Args:
        out: a forward that asked for the ``inputs`` tap.
    """
    if not out.inputs:
        raise ValueError("pooled: the forward has no inputs tap; ask for taps=('inputs',)")
    return torch.cat([x.float().mean((2, 3)) for x in out.inputs], dim=1)


def tv_norm(x: Tensor) -> Tensor:
    """Total variation as the sum of four L2 norms over the batch: down, right and both diagonals.

    DeepInversion's released code; it grows with the square root of the batch. x: (B, C, H, W).
    """
    return torch.stack([torch.linalg.vector_norm(d) for d in _differences(x)]).sum()


def tv_mean(x: Tensor) -> Tensor:
    """Total variation as the sum of four mean absolute differences (DataFree). x: (B, C, H, W)."""
    return torch.stack([d.abs().mean() for d in _differences(x)]).sum()


def l2(x: Tensor) -> Tensor:
    """||x||_2 over the whole batch (DeepInversion's image norm)."""
    return torch.linalg.vector_norm(x)


def missing_bn(name: str, weight: float, t_spec: NetSpec) -> str | None:
    """For `Method.skip`: why a cell stays blank whose method matches statistics that the teacher has not."""
    if t_spec.has_bn or not weight:
        return None
    return f"teacher {t_spec.name} has no BatchNorm statistics to match; set {name}=0"


def _layers(out: Out) -> tuple[BNStat, ...]:
    if not out.bn:
        raise ValueError("bn prior: the forward has no bn tap; ask for taps=('bn',) of a net with BatchNorm")
    return out.bn


def _distance(b: BNStat, mean: Tensor, var: Tensor) -> Tensor:
    norm = torch.linalg.vector_norm
    return norm(b.running_var - var) + norm(b.running_mean - mean)


def _differences(x: Tensor) -> tuple[Tensor, ...]:
    return (
        x[:, :, 1:] - x[:, :, :-1],
        x[:, :, :, 1:] - x[:, :, :, :-1],
        x[:, :, 1:, 1:] - x[:, :, :-1, :-1],
        x[:, :, 1:, :-1] - x[:, :, :-1, 1:],
    )
