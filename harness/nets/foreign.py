"""Anybody else's classifier behind the `Net` interface; the only module with hooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from harness.errors import DfkdError
from harness.interface import BNStat, Out
from harness.nets.base import Net, check_taps, collected, collector, fp32, note


class Foreign(Net):
    """Wraps a module that maps normalised images (B, C, H, W) to logits (B, K).

    ``h`` is the input of its last linear layer with K outputs, ``bn`` the inputs of its BatchNorm2d
    layers as they run; there is no ``maps``, since nobody knows the stages of a stranger. Hooks are set
    only for a call that asks for taps.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str,
        classes: int,
        channels: int,
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """Find the head.

        Raises:
            DfkdError: when no linear layer has ``classes`` outputs.
        """
        super().__init__(name=name, classes=classes, channels=channels, side=side, mean=mean, std=std)
        self.inner = module
        self.stages = ()
        heads = [
            path
            for path, m in module.named_modules()
            if isinstance(m, nn.Linear) and m.out_features == classes
        ]
        if not heads:
            raise DfkdError(f"net {name!r} has no linear layer with {classes} outputs, one per class")
        self._path = heads[-1]

    @property
    def head(self) -> nn.Linear:
        """The last linear layer with K outputs."""
        layer = self.inner.get_submodule(self._path)
        assert isinstance(layer, nn.Linear)
        return layer

    def forward(self, x: Tensor, taps: Sequence[str] = ()) -> Tensor | Out:
        """As `Net.forward`.

        Raises:
            DfkdError: for the tap ``maps``, or a module that returns no (B, K) tensor.
        """
        check_taps(taps)
        if "maps" in taps:
            raise DfkdError(f"net {self.name!r} is foreign and has no tap 'maps'; it has: h, bn, inputs")
        z = (x - self.mean) / self.std
        if not taps:
            return self._logits(z)
        h: list[Tensor] = []
        bn = collector(taps)
        logits = self._tapped(z, h, bn)
        return Out(logits, fp32(h[-1]) if "h" in taps else None, None, *collected(taps, bn))

    def features(self, z: Tensor, maps: list[Tensor] | None, bn: list[BNStat] | None) -> Tensor:
        """Input of the head: (B, D)."""
        h: list[Tensor] = []
        self._tapped(z, h, bn)
        return h[-1]

    def _logits(self, z: Tensor) -> Tensor:
        logits = self.inner(z)
        if not isinstance(logits, Tensor) or logits.shape != (len(z), self.classes):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise DfkdError(f"net {self.name!r} must return logits (B, {self.classes}), not {got}")
        return fp32(logits)

    def _tapped(self, z: Tensor, h: list[Tensor], bn: list[BNStat] | None) -> Tensor:
        """Logits; fills ``h`` and ``bn``. The hooks are gone again, whatever happens."""

        def see_h(module: nn.Module, args: tuple[Any, ...]) -> None:
            h.append(args[0])

        def see_bn(module: nn.Module, args: tuple[Any, ...]) -> None:
            assert isinstance(module, nn.BatchNorm2d) and bn is not None
            note(module, args[0], bn)

        hooks = [self.head.register_forward_pre_hook(see_h)]
        if bn is not None:
            norms = (m for m in self.inner.modules() if isinstance(m, nn.BatchNorm2d))
            hooks += [m.register_forward_pre_hook(see_bn) for m in norms]
        try:
            return self._logits(z)
        finally:
            for hook in hooks:
                hook.remove()
