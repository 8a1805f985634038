"""What a method costs per student update, counted on a small copy of it: in passes, and in flops.

Costs and updates of a round are linear in samples and in each number of inner steps, which settings say by
their role (`harness.settings.setting`): a method is run with both small, and what was counted is scaled to
the settings asked for. Warm-up rounds are not in it, nor what CMI's head does with a bank that has filled up.
What a trial spends is counted as it runs, and lacks neither.
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
from harness.interface import Problem
from harness.settings import resolve, with_role
from harness.trials.toy import shrunk, toy_method, toy_problem

#: samples in the smaller of a method's batches while it is counted
_ROWS = 4

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

    counted = _count(name, settings or {}, toy_problem, read)
    found: dict[str, Passes] = {}
    for part, row in zip(names, counted.reshape(-1, 3), strict=True):
        key = "G" if part == "adapted" else part
        found[key] = Passes(*(np.array(found.get(key, (0, 0, 0))) + row))
    return found


def flops_per_update(name: str, settings: Mapping[str, Any], task: Task, pair: tuple[str, str]) -> float:
    """Floating point operations per student update on a task and pair; reads no file: networks are random."""

    def problem() -> Problem:
        return toy_problem(teacher=pair[0], student=pair[1], task=task, rows=2)

    counted = _count(name, settings, problem, lambda meter: np.array([meter.flops]))
    cls = registry.methods.get(name)
    full = resolve(name, cls.HP, cls.PRESETS, settings)
    return float(counted[0]) * next((full[k] for k in with_role(cls.HP, "batch")), 1)


def _count(
    name: str, settings: Mapping[str, Any], problem: Callable[[], Problem], read: Callable[[Meter], Count]
) -> Count:
    """What ``read`` sees after a round, per student update and per sample of the student's batch."""
    hp, presets = registry.methods.get(name).HP, registry.methods.get(name).PRESETS
    full = resolve(name, hp, presets, settings)
    sizes = {k: full[k] for k in with_role(hp, "batch")}
    share = min(sizes.values(), default=_ROWS) / _ROWS
    small = {k: max(2, round(v / share)) for k, v in sizes.items()} | shrunk(hp, full, warmup=0)
    steps = {k: full[k] for k in with_role(hp, "steps")}

    def at(few: dict[str, int]) -> Count:
        with own_globals(0, 1):
            method = toy_method(name, full | small | few, problem=problem())
            method.round()
            return np.append(read(method.problem.compute.meter), method.updates.get("S", 0))

    *total, updates = _extended(at, steps, {})
    if not updates:
        told = ", ".join(f"{name}.{k} = {v}" for k, v in steps.items() if not v) or f"a round of {name}"
        raise DfkdError(f"{told} makes no student update to count the cost of")
    return np.array(total) / updates / next((small[k] for k in sizes), 1)


def _extended(at: Callable[[dict[str, int]], Count], steps: dict[str, int], few: dict[str, int]) -> Count:
    """A count at ``steps`` that is linear in each of them, from rounds of one and two: exact, being whole."""
    if not steps:
        return at(few)
    (key, value), *others = steps.items()
    one = _extended(at, dict(others), few | {key: min(value, 1)})
    if value <= 1:
        return one
    return one + (value - 1) * (_extended(at, dict(others), few | {key: 2}) - one)
