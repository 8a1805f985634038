"""Image generators of the DAFL family, plain and with Categorical Feature Embedding, and the adapter.

All share one trunk: linear to (w0, side/4, side/4), BN, twice (nearest x2, conv3x3, BN, LeakyReLU 0.2),
conv3x3 to the image. Images leave in [0, 1] units, fp32 and never clamped: a generator that works in the
networks' normalised space ends in the inverse map ``x * std + mean``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from harness.config import Task
from harness.errors import DfkdError, unknown
from harness.nets.base import fp32

FINALS = ("tanh_bn", "sigmoid", "bn")

#: which of the four normalisations are categorical; which one the 3-layer variant drops is not recorded
CFE_PRESETS: Mapping[str, tuple[int, ...]] = MappingProxyType(
    {"full": (0, 1, 2, 3)}
    | {f"drop{i}": tuple(j for j in range(4) if j != i) for i in range(4)}
    | {"none": ()}
)


class Trunk(nn.Module):
    """Layers and geometry the generators share; a side that is no multiple of 4 is made larger, then cropped.

    Attributes:
        nz: width of the latent.
    """

    SLOPE: ClassVar[float] = 0.2
    mean: Tensor
    std: Tensor

    def __init__(self, nz: int, task: Task, width: Sequence[int]) -> None:
        """Linear and three convs (with bias); default initialisation.

        Raises:
            DfkdError: when ``nz`` or a width is not positive, or there are not three widths.
        """
        super().__init__()
        if nz < 1:
            raise DfkdError(f"generator nz={nz} must be at least 1")
        if len(width) != 3 or min(width) < 1:
            raise DfkdError(f"generator width={tuple(width)} must be three positive numbers")
        w0, w1, w2 = width
        self.nz, self.side = nz, task.side
        self.base = (w0, -(-task.side // 4), -(-task.side // 4))
        self.linear = nn.Linear(nz, w0 * self.base[1] * self.base[2])
        self.conv1 = nn.Conv2d(w0, w1, 3, padding=1)
        self.conv2 = nn.Conv2d(w1, w2, 3, padding=1)
        self.conv3 = nn.Conv2d(w2, task.channels, 3, padding=1)
        # the task's constants, not weights: a checkpoint need not carry them
        self.register_buffer("mean", torch.tensor(task.mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(task.std).view(1, -1, 1, 1), persistent=False)

    def start(self, z: Tensor) -> Tensor:
        """(B, nz) -> (B, w0, base, base)."""
        return self.linear(z).view(-1, *self.base)

    def last(self, x: Tensor) -> Tensor:
        """The last conv, cropped to the side: (B, C, H, W), fp32 so that an image keeps all its bits."""
        return fp32(self.conv3(x)[:, :, : self.side, : self.side])

    def act(self, x: Tensor) -> Tensor:
        """LeakyReLU, in place: BN keeps its input, not its output."""
        return F.leaky_relu(x, self.SLOPE, inplace=True)

    def units(self, x: Tensor) -> Tensor:
        """From the networks' normalised space to [0, 1] units."""
        return x * self.std + self.mean


#: from this side on one strided convolution is faster than upsampling first (below, folding costs more)
FOLD_FROM = 7


def twice(x: Tensor, conv: nn.Conv2d) -> Tensor:
    """``conv`` (3x3, padding 1) of x upsampled to twice its side by nearest neighbour: (B, C, 2H, 2W).

    The four copies of a pixel meet a 3x3 kernel in 16 places, not 36: upsampling and convolution are one
    transposed convolution with stride 2, whose 4x4 kernel is the 3x3 one summed over every 2x2 shift. Equal
    to the two steps up to rounding, at 4/9 of the multiplications; the large input is never made.
    """
    if x.shape[-1] < FOLD_FROM:
        return conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    k = F.pad(conv.weight, (1, 1, 1, 1))
    k = k[:, :, 1:, 1:] + k[:, :, 1:, :-1] + k[:, :, :-1, 1:] + k[:, :, :-1, :-1]
    return F.conv_transpose2d(x, k.flip(2, 3).transpose(0, 1), conv.bias, stride=2, padding=1)


class DAFLGenerator(Trunk):
    """DAFL's generator and its relatives: DFAD (eps 1e-5), the DataFree family (``final="sigmoid"``)."""

    def __init__(
        self,
        nz: int,
        task: Task,
        *,
        bn_eps: float = 1e-5,
        final: str = "tanh_bn",
        affine_out: bool = False,
        width: Sequence[int] = (128, 128, 64),
    ) -> None:
        """Build.

        Args:
            nz: width of the latent.
            task: gives channels, side and the constants of the inverse map.
            bn_eps: eps of the two BN after convs; DAFL's released code has 0.8 there.
            final: ``tanh_bn`` and ``bn`` end in a BN in normalised space, ``sigmoid`` directly in [0, 1].
            affine_out: whether that last BN has a learned scale and shift.
            width: channels after the linear layer, the first and the second conv.

        Raises:
            DfkdError: for an unknown ``final`` or an impossible size.
        """
        super().__init__(nz, task, width)
        if final not in FINALS:
            raise unknown("generator final", final, FINALS)
        self.final = final
        self.bn0 = nn.BatchNorm2d(width[0])
        self.bn1 = nn.BatchNorm2d(width[1], eps=bn_eps)
        self.bn2 = nn.BatchNorm2d(width[2], eps=bn_eps)
        self.bn3 = None if final == "sigmoid" else nn.BatchNorm2d(task.channels, affine=affine_out)

    def forward(self, z: Tensor) -> Tensor:
        """(B, nz) -> images (B, C, H, W) in [0, 1] units, not clamped."""
        x = self.bn0(self.start(z))
        x = self.act(self.bn1(twice(x, self.conv1)))
        x = self.last(self.act(self.bn2(twice(x, self.conv2))))
        if self.bn3 is None:
            return torch.sigmoid(x)
        return self.units(self.bn3(torch.tanh(x) if self.final == "tanh_bn" else x))


class CategoricalBN(nn.Module):
    """BN whose scale and shift belong to the class: ``BN(x) * scale[y] + shift[y]``.

    Released form: two K x C tables, initially 1 and 0. With ``dim = m`` both are linear in one m-dim
    embedding of the class, initially close to 1 and 0.
    """

    def __init__(self, channels: int, classes: int, dim: int | None, eps: float) -> None:
        """Tables for ``classes`` x ``channels``, direct or through ``dim`` numbers a class."""
        super().__init__()
        self.bn = nn.BatchNorm2d(channels, eps=eps, affine=False)
        self.table = None if dim is None else nn.Embedding(classes, dim)
        self.scale: nn.Module
        self.shift: nn.Module
        if dim is None:
            self.scale, self.shift = nn.Embedding(classes, channels), nn.Embedding(classes, channels)
            nn.init.ones_(self.scale.weight)
            nn.init.zeros_(self.shift.weight)
            return
        self.scale, self.shift = nn.Linear(dim, channels), nn.Linear(dim, channels)
        for layer, start in ((self.scale, 1.0), (self.shift, 0.0)):
            nn.init.normal_(layer.weight, std=0.02 / dim**0.5)  # classes start 0.02 apart, whatever dim
            nn.init.constant_(layer.bias, start)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Normalise x (B, C, H, W) for the classes y (B,), int64; same shape out."""
        x = self.bn(x)
        e = y if self.table is None else self.table(y)
        scale, shift = self.scale(e).to(x.dtype), self.shift(e).to(x.dtype)
        return torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])


class PlainBN(nn.BatchNorm2d):
    """Affine BN that takes a label and does not look at it."""

    def forward(self, input: Tensor, y: Tensor | None = None) -> Tensor:
        """Normalise ``input`` (B, C, H, W); same shape out."""
        return super().forward(input)


class CFEGenerator(Trunk):
    """CPSC's conditional generator: the label acts through its normalisations alone.

    The four normalisations stand after the linear layer (0), conv1 (1), conv2 (2) and the tanh (3).
    """

    WIDTH: ClassVar[tuple[int, int, int]] = (128, 128, 64)

    def __init__(
        self,
        nz: int,
        task: Task,
        *,
        cfe_layers: Sequence[int] = CFE_PRESETS["full"],
        cfe_embedding_dim: int | None = None,
        bn_eps: float = 1e-3,
    ) -> None:
        """Build.

        Args:
            nz: width of the latent.
            task: gives classes, channels, side and the constants of the inverse map.
            cfe_layers: which normalisations are categorical; the others are affine BN (`CFE_PRESETS`).
            cfe_embedding_dim: None for K x C tables, or m for tables factorised through m numbers a class.
            bn_eps: eps of all four normalisations.

        Raises:
            DfkdError: for a layer that is not there, or a dimension below 1.
        """
        super().__init__(nz, task, self.WIDTH)
        bad = sorted(set(cfe_layers) - {0, 1, 2, 3})
        if bad:
            raise DfkdError(f"cfe_layers={tuple(cfe_layers)}: no layer {bad[0]}; allowed: 0, 1, 2, 3")
        if cfe_embedding_dim is not None and cfe_embedding_dim < 1:
            raise DfkdError(f"cfe_embedding_dim={cfe_embedding_dim} must be None or at least 1")
        self.classes = task.K
        self.norms = nn.ModuleList(
            CategoricalBN(c, task.K, cfe_embedding_dim, bn_eps) if i in cfe_layers else PlainBN(c, bn_eps)
            for i, c in enumerate((*self.WIDTH, task.channels))
        )

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Latents z (B, nz) and labels y (B,), int64 -> images (B, C, H, W) in [0, 1] units, not clamped."""
        x = self.norms[0](self.start(z), y)
        x = self.act(self.norms[1](twice(x, self.conv1), y))
        x = self.last(self.act(self.norms[2](twice(x, self.conv2), y)))
        return self.units(self.norms[3](torch.tanh(x), y))


class Adapter(nn.Module):
    """Student feature (B, d_in) -> teacher's width (B, d_out): linear, ReLU, linear, then unit length."""

    def __init__(self, d_in: int, d_out: int, *, normalise: bool = True) -> None:
        """``normalise=False`` leaves the length as it comes, as released."""
        super().__init__()
        self.normalise = normalise
        self.lin1 = nn.Linear(d_in, d_in)
        self.lin2 = nn.Linear(d_in, d_out)

    def forward(self, h: Tensor) -> Tensor:
        """(B, d_in) -> (B, d_out), fp32."""
        out = fp32(self.lin2(F.relu(self.lin1(h))))
        return F.normalize(out, dim=1) if self.normalise else out
