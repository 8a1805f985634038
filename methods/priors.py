"""Priors on synthetic images: functions of what the teacher's forward saw."""

from __future__ import annotations

import torch
from torch import Tensor

from harness.interface import Out


def bn(out: Out) -> Tensor:
    """Distance of a batch's BatchNorm statistics from the stored ones: BNS.

    sum over layers of ||var_running - var_batch||_2 + ||mean_running - mean_batch||_2, norms not squared,
    biased batch variance of each layer's input (DeepInversion, arXiv 1912.08795, as CPSC and CMI have it).

    Args:
        out: a forward that asked for the ``bn`` tap.
    """
    if not out.bn:
        raise ValueError("bn prior: the forward has no bn tap; ask for taps=('bn',) of a net with BatchNorm")
    norm = torch.linalg.vector_norm
    return torch.stack([norm(b.running_var - b.var) + norm(b.running_mean - b.mean) for b in out.bn]).sum()
