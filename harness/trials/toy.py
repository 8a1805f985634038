"""A toy problem on which any method runs in seconds, and settings made small for it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch

from harness import registry
from harness.compute import Compute, own_globals
from harness.config import Task
from harness.errors import DfkdError
from harness.interface import Clock, Images, Method, Problem, Reference
from harness.nets.catalog import build as build_net
from harness.nets.catalog import spec
from harness.settings import resolve, settings_of
from harness.tasks.catalog import describe
from harness.tasks.images import Loader, Split

#: three classes of 8 x 8 grey images, normalised unlike [0, 1] so that a missing inverse map shows
TOY = Task("toy", 1, 1, 8, ("a", "b", "c"), (0.3,), (0.35,), frozenset({"pad"}))


TEACHER, STUDENT = "wrn16_2", "wrn16_1"

#: the most images of a store that a toy ever fills
_STORE = 64


def shrunk(hp: type, values: Mapping[str, Any], **most: int) -> dict[str, Any]:
    """Those of the settings whose role has a bound, made no larger than it.

    Args:
        hp: the method's settings, which say each one's role.
        values: setting -> value.
        most: role (see `harness.settings.setting`) -> the largest value: ``steps=1, store=64``.
    """
    metas = {name: meta for name, (_, meta) in settings_of(hp).items()}
    return {k: min(v, most[role]) for k, v in values.items() if (role := metas[k].role) in most}


def toy_problem(
    seed: int = 0, teacher: str = TEACHER, student: str = STUDENT, task: Task = TOY, rows: int = 32
) -> Problem:
    """A problem with a seeded random teacher whose BatchNorm statistics have seen noise, ``rows`` a batch."""
    torch.manual_seed(seed)
    t = build_net(teacher, task)
    with torch.no_grad():
        for _ in range(3):
            t(torch.rand(rows, *task.shape))
    t.eval().requires_grad_(False)
    s = build_net(student, task)
    compute = Compute()
    compute.prepare("T", t)
    compute.prepare("S", s)
    return Problem(task, t, s, Clock(3, 0.5), torch.Generator().manual_seed(seed), compute)


def toy_method(
    name: str, settings: dict[str, Any] | None = None, seed: int = 0, problem: Problem | None = None
) -> Method:
    """A method on the toy problem, its batch and step counts made small where it has such settings."""
    cls = registry.methods.get(name)
    defaults = {k: default for k, (default, _) in settings_of(cls.HP).items()}
    small = shrunk(cls.HP, defaults, batch=8, steps=2, warmup=0, store=_STORE)
    hp = cls.HP(**resolve(name, cls.HP, cls.PRESETS, small | (settings or {})))
    problem = problem or toy_problem(seed)
    if issubclass(cls, Reference):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (24, *problem.task.shape), dtype=np.uint8)
        split = Split(images, np.arange(24, dtype=np.int64) % problem.task.K)
        loader = Loader(split, problem.task, problem.rng, torch.device("cpu"))
        method: Method = cls(problem, hp, Images(loader.batch, loader.state, loader.load))
    else:
        method = cls(problem, hp)
    for key, part in method.parts.items():
        problem.compute.prepare(key, part)
    for schedule in method.schedules:
        schedule.set(problem.clock.progress)
    return method


def loss_of(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """``error``: why the method has no loss with these settings, or empty; ``terms``: names of its terms.

    Args:
        method: its name.
        settings: all of them; `obstacles` has found none.
    """
    with own_globals(0, 1):
        made = _smallest(method, settings)
        try:
            return {"error": "", "terms": sorted(made.round())}
        except DfkdError as error:
            return {"error": str(error), "terms": []}


def _smallest(method: str, settings: Mapping[str, Any]) -> Method:
    hp = registry.methods.get(method).HP
    stores = {"store": _STORE}
    few = stores | {"steps": 1, "warmup": 0}
    for most in (few | {"batch": 4}, few):
        with suppress(DfkdError):  # a method may want larger batches, or a number of steps that is its own
            return toy_method(method, dict(settings) | shrunk(hp, settings, **most))
    return toy_method(method, dict(settings) | shrunk(hp, settings, **stores))


def obstacles(
    method: str, settings: Sequence[Mapping[str, Any]], cells: Sequence[tuple[str, tuple[str, str]]]
) -> Iterator[str]:
    """Why the method refuses its settings in each cell (task, pair), or an empty text."""
    cls, problem = registry.methods.get(method), None
    for each, (name, pair) in zip(settings, cells, strict=True):
        task = describe(name)
        if reason := cls.skip(cls.HP(**each), task, *(spec(net, task) for net in pair)):
            yield reason
            continue
        with own_globals(0, 1):
            problem = problem or toy_problem()
            try:
                toy_method(method, dict(each) | shrunk(cls.HP, each, store=_STORE), problem=problem)
            except DfkdError as error:
                yield str(error)
            else:
                yield ""
