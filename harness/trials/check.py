"""Conformance: what any method must keep, tried on a toy problem on the CPU, in seconds."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import io
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from harness import registry
from harness.compute import own_globals
from harness.errors import DfkdError
from harness.interface import Terms
from harness.nets.catalog import spec
from harness.settings import coerce, resolve, settings_of
from harness.trials.checkpoint import restore, state_of
from harness.trials.toy import STUDENT, TEACHER, TOY, toy_method


class Verdict(NamedTuple):
    """One check of one method: ``error`` is empty when it passed."""

    method: str
    check: str
    error: str
    seconds: float


class Broken(Exception):
    """A rule that a method does not keep; the message says which and how."""


def _bits(module: nn.Module, buffers: bool = True) -> dict[str, Tensor]:
    found = module.state_dict() if buffers else dict(module.named_parameters())
    return {k: v.detach().clone() for k, v in found.items()}


def _moved(before: dict[str, Tensor], after: dict[str, Tensor]) -> list[str]:
    return [k for k, v in before.items() if not torch.equal(v, after[k])]


def _require(fine: object, message: str) -> None:
    if not fine:
        raise Broken(message)


def settings(name: str) -> None:
    """HP is a frozen dataclass of described settings; defaults and presets are legal and in their space."""
    cls = registry.methods.get(name)
    hp = cls.HP
    params = getattr(hp, "__dataclass_params__", None)
    _require(getattr(params, "frozen", False), "HP is not a frozen dataclass")
    for f in dataclasses.fields(hp):
        _require("dfkd" in f.metadata, f"HP.{f.name} is neither a setting() nor a weight()")
        meta = f.metadata["dfkd"]
        coerce(name, f.name, f.default, f.default, meta)
        space = meta.space
        if space:
            choice = space.kind == "choice"
            within = f.default in space.options if choice else space.low <= f.default <= space.high
            _require(within, f"HP.{f.name}: default {f.default!r} is outside its space")
    for key, presets in cls.PRESETS.items():
        for value in presets:
            resolve(name, hp, cls.PRESETS, {key: value})
    module = inspect.getmodule(cls)
    _require(cls.TITLE and cls.PAPER, "TITLE or PAPER is empty")
    _require(module and module.__doc__, "the file opens with no docstring: equations, then departures")


def roles(name: str) -> None:
    """Who may move whom: nobody the teacher, synthesize not the student, distill not the image makers."""
    method = toy_method(name)
    teacher, student = _bits(method.T), _bits(method.S, buffers=False)
    method.synthesize()
    moved = _moved(student, _bits(method.S, buffers=False))
    _require(not moved, f"synthesize() changed the student's {moved[:2]}")
    makers = {k: _bits(method.parts[k], buffers=False) for k in method.MAKERS if k in method.parts}
    method.distill()
    for k, before in makers.items():
        moved = _moved(before, _bits(method.parts[k], buffers=False))
        _require(not moved, f"distill() changed {k}'s {moved[:2]}")
    _require(_moved(student, _bits(method.S, buffers=False)), "distill() left the student as it was")
    _require(method.updates.get("S", 0) > 0, "distill() counted no step of 'S': use self.step('S', ...)")
    moved = _moved(teacher, _bits(method.T))
    _require(not moved, f"the teacher's {moved[:2]} changed")
    _require(all(p.grad is None for p in method.T.parameters()), "the teacher's weights were given gradients")


def terms(name: str) -> None:
    """round() returns finite, detached scalars, named by phase."""
    found = toy_method(name).round()
    _require(isinstance(found, Terms) and found, "round() returned no Terms")
    for k, v in found.items():
        _require(k.startswith(("G/", "S/")), f"term {k!r} names no phase: use prefixed()")
        _require(v.ndim == 0 and not v.requires_grad, f"term {k!r} is not a detached scalar")
        _require(torch.isfinite(v), f"term {k!r} is not finite")


def off_weights(name: str) -> None:
    """A weight at its off value takes its term away, and never makes a round dearer."""
    cls = registry.methods.get(name)
    full = toy_method(name)
    full_terms, full_cost = full.round(), full.problem.compute.meter.flops
    for key, (_, meta) in settings_of(cls.HP).items():
        if not meta.term:
            continue
        try:
            method = toy_method(name, {key: meta.off})
            left = method.round()
        except DfkdError:
            continue  # a half with nothing left to minimise is refused in words
        gone = {k for k in full_terms if k.partition("/")[2] == meta.term} & set(left)
        _require(not gone, f"{key}={meta.off} leaves the term {sorted(gone)}")
        _require(
            method.problem.compute.meter.flops <= full_cost, f"{key}={meta.off} costs more than the default"
        )


def sample(name: str) -> None:
    """The method's samples are images of the task's shape, equal for equal rng; nothing moves."""
    method = toy_method(name)
    method.round()
    state = copy.deepcopy(state_of(method))
    ambient = torch.get_rng_state()
    labels = torch.arange(10) % TOY.K
    made = [method.sample(10, labels, torch.Generator().manual_seed(5)) for _ in range(2)]
    _require(torch.equal(ambient, torch.get_rng_state()), "sample() used torch's global random stream")
    _require(same(state, state_of(method)), "sample() changed the method's state or the train stream")
    if made[0] is None or made[1] is None:
        _require(method.USES_DATA, "sample() returned None, which only a Reference may")
        return
    x, y = made[0]
    _require(tuple(x.shape) == (10, *TOY.shape), f"sample(10) has shape {tuple(x.shape)}")
    _require(torch.isfinite(x).all() and not x.requires_grad, "samples are not finite, or carry a graph")
    _require(torch.equal(x, made[1][0]), "sample() differs between two calls with the same rng")
    _require(y is None or torch.equal(y, labels), "sample() did not return the labels asked for")


def determinism(name: str) -> None:
    """The same seed gives the same bits."""
    states = []
    for _ in range(2):
        with own_globals(0, 1):
            method = toy_method(name)
            method.round()
            states.append(state_of(method))
    _require(same(*states), "two runs with one seed differ")


def resume(name: str) -> None:
    """Saved after a round, loaded into a fresh method, the next round has the same bits."""
    with own_globals(0, 1):
        whole = toy_method(name)
        whole.round()
        file = io.BytesIO()
        torch.save({"method": state_of(whole), "rng": torch.get_rng_state()}, file)
        whole.round()
    with own_globals(1, 1):
        again = toy_method(name, seed=1)
        again.T.load_state_dict(whole.T.state_dict())
        file.seek(0)
        state = torch.load(file, weights_only=True)
        restore(again, state["method"])
        torch.set_rng_state(state["rng"])
        again.round()
    _require(same(state_of(whole), state_of(again)), "a resumed round differs from an uninterrupted one")


def cost(name: str) -> None:
    """The cost count is within 2 % of torch's flop counter over a round."""
    method = toy_method(name)
    method.round()  # shapes are measured once, outside the counter
    meter = method.problem.compute.meter
    before = meter.flops
    with FlopCounterMode(display=False) as counter:
        method.round()
    counted, true = meter.flops - before, counter.get_total_flops()
    _require(abs(counted - true) <= 0.02 * true, f"counted {counted:.4g} flops, the flop counter {true:.4g}")


def skip(name: str) -> None:
    """A cell is refused in words, or not, for a teacher with and without BatchNorm."""
    cls = registry.methods.get(name)
    hp = cls.HP(**resolve(name, cls.HP, cls.PRESETS, {}))
    for teacher in (TEACHER, "lenet5"):
        answer = cls.skip(hp, TOY, spec(teacher, TOY), spec(STUDENT, TOY))
        _require(answer is None or (isinstance(answer, str) and answer), f"skip() returned {answer!r}")


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal to the last bit: tensors, and dicts and lists of them."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


CHECKS: tuple[Callable[[str], None], ...] = (
    settings, roles, terms, off_weights, sample, determinism, resume, cost, skip,
)  # fmt: skip


def check(name: str) -> list[Verdict]:
    """Run every check on a method of this package or of another.

    Raises:
        DfkdError: when no such method can be loaded.
    """
    registry.methods.get(name)
    verdicts = []
    for rule in CHECKS:
        began, error = time.perf_counter(), ""
        try:
            with own_globals(0, 1):
                rule(name)
        except Broken as broken:
            error = str(broken)
        except Exception as bug:  # noqa: BLE001 - a stranger's method may raise anything
            error = f"{type(bug).__name__}: {bug}"
        verdicts.append(Verdict(name, rule.__name__, error, time.perf_counter() - began))
    return verdicts
