"""Random views of images as tensors, in batches and differentiable: crops, flips, jitter, zoom.

All draw from the stream they are handed, on the device of the images, and never wait for it. What enters
from outside an image is black (0 in [0, 1] units).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.config import Task


def margin(side: int) -> int:
    """Pixels that a crop or a jitter may move an image: an eighth of its side, 4 at 32."""
    return max(1, side // 8)


def augment(x: Tensor, task: Task, rng: torch.Generator) -> Tensor:
    """Random crops after padding by an eighth of the side, and flips, each image its own.

    Only what the task bears.

    Args:
        x: (n, C, H, W) in [0, 1] units.
        task: says what it bears.
        rng: on the device of x.
    """
    if "pad" in task.augment:
        x = crop(x, margin(task.side), rng)
    if "flip" in task.augment:
        x = flip(x, rng)
    return x


def crop(x: Tensor, pad: int, rng: torch.Generator) -> Tensor:
    """Each image (n, C, H, W) moved by up to ``pad`` pixels in both directions, its own offset each."""
    n, channels, height, width = x.shape
    dy, dx = torch.randint(2 * pad + 1, (2, n), generator=rng, device=x.device)
    wide = F.pad(x, (pad, pad, pad, pad))
    rows = (dy[:, None] + torch.arange(height, device=x.device)).view(n, 1, height, 1)
    cols = (dx[:, None] + torch.arange(width, device=x.device)).view(n, 1, 1, width)
    tall = wide.gather(2, rows.expand(n, channels, height, wide.shape[3]))
    return tall.gather(3, cols.expand(n, channels, height, width))


def flip(x: Tensor, rng: torch.Generator) -> Tensor:
    """Each image (n, C, H, W) mirrored left to right with probability 1/2."""
    mirrored = torch.rand(len(x), generator=rng, device=x.device) < 0.5
    return torch.where(mirrored[:, None, None, None], x.flip(3), x)


def flip_all(x: Tensor, rng: torch.Generator) -> Tensor:
    """The whole batch mirrored with probability 1/2 (DeepInversion)."""
    return torch.where(torch.rand(1, generator=rng, device=x.device) < 0.5, x.flip(3), x)


def jitter(x: Tensor, most: int, rng: torch.Generator) -> Tensor:
    """The whole batch rolled round by up to ``most`` pixels, one offset for all (DeepInversion)."""
    dy, dx = torch.randint(-most, most + 1, (2, 1), generator=rng, device=x.device)
    height, width = x.shape[2:]
    rows = (torch.arange(height, device=x.device) - dy) % height
    cols = (torch.arange(width, device=x.device) - dx) % width
    return x.index_select(2, rows).index_select(3, cols)


def zoom(x: Tensor, low: float, rng: torch.Generator) -> Tensor:
    """Each image's own random window stretched to the whole, bilinear (a random resized crop).

    Args:
        x: (n, C, H, W).
        low: smallest share of the area; the share is uniform in [low, 1], the aspect ratio log-uniform
            in [3/4, 4/3], a side is cut at the image's own.
        rng: on the device of x.
    """
    n = len(x)
    area, aspect, at_y, at_x = torch.rand(4, n, generator=rng, device=x.device)
    area = low + (1 - low) * area
    ratio = torch.exp((2 * aspect - 1) * math.log(4 / 3))
    tall = torch.sqrt(area / ratio).clamp(max=1)
    wide = torch.sqrt(area * ratio).clamp(max=1)
    zero = torch.zeros_like(tall)
    # In grid_sample's coordinates the image is [-1, 1]: scale by the window, move it inside.
    rows = torch.stack([zero, tall, (2 * at_y - 1) * (1 - tall)], dim=1)
    cols = torch.stack([wide, zero, (2 * at_x - 1) * (1 - wide)], dim=1)
    grid = F.affine_grid(torch.stack([cols, rows], dim=1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid.to(x.dtype), mode="bilinear", padding_mode="border", align_corners=False)
