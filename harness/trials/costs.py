"""What a method costs per student update, counted on a small copy of it: in passes, and in flops.

The count is linear in samples and in inner steps, so a method is run with batches and step counts made small
and what was counted is scaled to the settings asked for. Warm-up rounds are not in it, nor what CMI's head
does with a bank that has filled up. What a trial spends is counted as it runs, and lacks neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness import registry
from harness.compute import Meter, own_globals
from harness.config import Task
from harness.errors import DfkdError
from harness.interface import Method, Problem
from harness.settings import resolve
from harness.trials.toy import toy_method, toy_problem

#: samples in the smaller of a method's batches while it is counted
_ROWS = 4
_BATCHES = ("batch", "synthesis_batch")
_STEPS = ("g_steps", "s_steps")

Count = NDArray[np.float64]


class Passes(NamedTuple):
    """Passes through a network per student update, in batches of the student's size.

    Attributes:
        forward: forwards.
        weights: of these, taken back to the weights (and to the input, where something there asks).
        input: of these, taken back to the input alone.
    """

    forward: float
    weights: float
    input: float


def passes(name: str, settings: Mapping[str, Any] | None = None) -> dict[str, Passes]:
    """Passes per student update of T, S and each part, at a method's defaults or these settings.

    A copy that is adapted in place of a generator counts as the generator, ``G``.
    """
    names: list[str] = []

    def read(meter: Meter) -> Count:
        names.extend(n for n in meter.passes if n not in names)
        return np.array([meter.passes.get(n, (0, 0, 0)) for n in names], dtype=float).ravel()

    counted = _count(name, dict(settings or {}), toy_problem, read)
    found: dict[str, Passes] = {}
    for part, row in zip(names, counted.reshape(-1, 3), strict=True):
        key = "G" if part == "adapted" else part
        found[key] = Passes(*(np.array(found.get(key, (0, 0, 0))) + row))
    return found


def flops_per_update(name: str, settings: Mapping[str, Any], task: Task, pair: tuple[str, str]) -> float:
    """Floating point operations per student update on a task and pair; reads no file: networks are random."""

    def problem() -> Problem:
        return toy_problem(teacher=pair[0], student=pair[1], task=task, rows=2)

    cls = registry.methods.get(name)
    batch = resolve(name, cls.HP, cls.PRESETS, settings).get("batch", 1)
    return float(_count(name, dict(settings), problem, lambda m: np.array([m.flops]))[0]) * batch


def _count(
    name: str, settings: dict[str, Any], problem: Callable[[], Problem], read: Callable[[Meter], Count]
) -> Count:
    """What ``read`` sees after a round, per student update and per sample of the student's batch."""
    cls = registry.methods.get(name)
    full = resolve(name, cls.HP, cls.PRESETS, settings)
    asked = {k: full[k] for k in _STEPS if k in full}
    sizes = {k: full[k] for k in _BATCHES if k in full}
    share = min(sizes.values(), default=_ROWS) / _ROWS
    small: dict[str, Any] = {k: max(2, round(v / share)) for k, v in sizes.items()}
    small |= {"warmup_rounds": 0} if "warmup_rounds" in full else {}
    # c(g, s) = c(1, 1) + (g - 1) (c(2, 1) - c(1, 1)) + (s - 1) (c(1, 2) - c(1, 1))
    base = {k: min(v, 1) for k, v in asked.items()}

    def at(**changed: int) -> Count:
        return _round(name, full | small | base | changed, problem, read)

    first, updates = at(), asked.get("s_steps", 1)
    total = first
    for key, value in asked.items():
        if value > 1:
            total = total + (value - 1) * (at(**{key: 2}) - first)
    if not updates:
        raise DfkdError(f"{name}.s_steps = 0 makes no student update to count the cost of")
    return total / updates / small.get("batch", 1)


def _round(
    name: str, settings: dict[str, Any], problem: Callable[[], Problem], read: Callable[[Meter], Count]
) -> Count:
    with own_globals(0, 1):
        method: Method = toy_method(name, settings, problem=problem())
        method.round()
        return read(method.problem.compute.meter)
