"""Device, precision, layout and compilation of a trial, and the count of what it costs.

A method knows none of it: `Compute.prepare` wraps a module once, and afterwards ``net(x)`` runs in the
chosen layout, precision and compiler and is counted. Losses and statistics stay in fp32.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from harness.errors import DfkdError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Inside, no weight gradient of these modules is computed; gradients still flow through to the input.

    A parameter that was frozen before stays so afterwards.
    """
    held = [p for m in modules for p in m.parameters() if p.requires_grad]
    for p in held:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in held:
            p.requires_grad_(True)


class Meter:
    """Counts floating point operations of every counted module at its calls, without slowing them.

    What one sample costs is measured once per module, shape and gradient mode, on a copy with two blank
    samples under `torch.utils.flop_counter` (which would slow training 1.9 times). The mode is read at the
    call: does the graph run to the input, does it run to the weights.
    """

    def __init__(self) -> None:
        self.flops = 0.0
        #: module -> samples forwarded, taken back to the weights, taken back to the input alone
        self.passes: dict[str, list[int]] = {}
        self._cost: dict[tuple[Any, ...], float] = {}
        self._param: dict[str, nn.Parameter | None] = {}

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Evaluation and previews are not the method's cost."""
        held, passes = self.flops, copy.deepcopy(self.passes)
        try:
            yield
        finally:
            self.flops, self.passes = held, passes

    def watch(self, name: str, module: nn.Module) -> None:
        """Count every call of ``module`` from now on."""
        self._param[name] = next(module.parameters(), None)

        def count(mod: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensors = [a for a in args if isinstance(a, Tensor)]
            graph = torch.is_grad_enabled()
            param = self._param[name]
            to_input = graph and any(t.requires_grad for t in tensors)
            to_weights = graph and param is not None and param.requires_grad
            key = (name, *(t.shape[1:] for t in tensors), to_input, to_weights)
            if key not in self._cost:
                self._cost[key] = _flops_per_sample(mod, args, kwargs, to_input, to_weights)
            n = tensors[0].shape[0]
            self.flops += self._cost[key] * n
            tally = self.passes.setdefault(name, [0, 0, 0])
            tally[0] += n
            if to_input or to_weights:
                tally[1 if to_weights else 2] += n

        module.register_forward_pre_hook(count, with_kwargs=True)


def _flops_per_sample(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], to_input: bool, to_weights: bool
) -> float:
    from torch.utils.flop_counter import FlopCounterMode  # a tenth of a second that `dfkd list` does not need

    plain = _unwrapped_copy(module)
    for p in plain.parameters():
        p.requires_grad_(to_weights)
    batch = 2  # one sample has no batch statistics

    def ghost(a: Any) -> Any:
        if not isinstance(a, Tensor):
            return a
        out = torch.zeros((batch, *a.shape[1:]), dtype=a.dtype, device=a.device)
        return out.requires_grad_(to_input and a.is_floating_point())

    graph = torch.enable_grad() if to_input or to_weights else torch.no_grad()
    with graph, FlopCounterMode(display=False) as counter:
        out = plain(*[ghost(a) for a in args], **kwargs)
        logits = out if isinstance(out, Tensor) else out.logits
        if logits.requires_grad:
            logits.sum().backward()
    return counter.get_total_flops() / batch


def _unwrapped_copy(module: nn.Module) -> nn.Module:
    """A copy without our wrappers (compiled or autocast forward) and without hooks."""
    plain = copy.deepcopy(module)
    plain.__dict__.pop("forward", None)
    plain._forward_pre_hooks.clear()
    plain._forward_pre_hooks_with_kwargs.clear()
    return plain


@dataclass
class Compute:
    """How a trial computes.

    Attributes:
        device: where.
        precision: ``fp32``; ``bf16`` or ``fp16`` run the networks under autocast, outputs come back as fp32.
        channels_last: memory layout of weights.
        compile: whether forwards go through `torch.compile`.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    channels_last: bool = True
    compile: bool = False
    meter: Meter = field(default_factory=Meter)
    _scalers: dict[str, torch.amp.GradScaler] = field(default_factory=dict)

    def prepare(self, name: str, module: nn.Module) -> nn.Module:
        """Move, lay out, wrap and count a module, in place; its parameters stay the same objects.

        ``module.forward`` is replaced rather than the module wrapped, so that state dicts keep their names
        and the counting hook stays outside what is compiled.
        """
        module.to(self.device)
        if self.channels_last:
            module.to(memory_format=torch.channels_last)
        forward: Callable[..., Any] = module.forward
        if self.precision != "fp32":
            forward = torch.autocast(self.device.type, dtype=_DTYPES[self.precision])(forward)
        if self.compile:
            forward = torch.compile(forward)
        if forward is not module.forward:
            module.forward = forward
        self.meter.watch(name, module)
        return module

    @contextmanager
    def plain(self, *modules: nn.Module) -> Iterator[None]:
        """Inside, these modules run in eval mode, fp32, uncompiled, without a graph and uncounted."""
        modes = [(m, m.training, m.__dict__.pop("forward", None)) for m in modules]
        for m in modules:
            m.eval()
        try:
            with torch.no_grad(), self.meter.paused():
                yield
        finally:
            for m, training, forward in modes:
                m.train(training)
                if forward is not None:
                    m.__dict__["forward"] = forward

    def backward(
        self, loss: Tensor, opts: Sequence[torch.optim.Optimizer], name: str, clip: float | None
    ) -> None:
        """Gradients, and one step of each optimiser; fp16 on a GPU is scaled, with one scaler a name."""
        scaler = self._scaler(name)
        scaler.scale(loss).backward()
        for opt in opts:
            if clip is not None:
                scaler.unscale_(opt)
                torch.nn.utils.clip_grad_norm_([p for g in opt.param_groups for p in g["params"]], clip)
            scaler.step(opt)
        scaler.update()

    def _scaler(self, name: str) -> torch.amp.GradScaler:
        if self.precision != "fp16":  # one that passes everything through
            return torch.amp.GradScaler(self.device.type, enabled=False)
        if name not in self._scalers:
            self._scalers[name] = torch.amp.GradScaler(self.device.type)
        return self._scalers[name]

    def scaler_state(self) -> dict[str, Any]:
        """State of the fp16 scalers, for checkpoints."""
        return {k: s.state_dict() for k, s in self._scalers.items()}

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Continue from `scaler_state`."""
        for name, s in state.items():
            self._scaler(name).load_state_dict(s)


def pick_device(name: str) -> torch.device:
    """The device a name means; ``auto`` is the first GPU, or the CPU.

    Raises:
        DfkdError: for a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DfkdError(f"--device {name!r}: no GPU is visible here; use cpu")
    try:
        return torch.device(name)
    except RuntimeError:
        raise DfkdError(f"--device {name!r} is not one of auto, cpu, cuda, cuda:N") from None


@contextmanager
def own_globals(seed: int, threads: int) -> Iterator[None]:
    """Every global a trial relies on, set inside and given back afterwards: reused workers keep globals."""
    n, det = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    bench, tf32 = torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32
    filling: Any = torch.utils.deterministic
    fill = filling.fill_uninitialized_memory
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())), torch.enable_grad():
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(True, warn_only=True)
            # no operation of ours reads memory before it writes it, and the filling was 4 % of a round
            filling.fill_uninitialized_memory = False
            torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = False
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(n)
        torch.use_deterministic_algorithms(det)
        filling.fill_uninitialized_memory = fill
        torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = bench, tf32
