"""What a trial and a teacher cost on this machine, timed for a second or so each.

Networks have random weights and images are noise: neither changes the time, so no teacher and no data set
is needed. All else is a trial's own code. A round too long for the time given is made with fewer inner steps
and, where one step is too long, with a smaller batch, and scaled up: cost is linear in both.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.compute import own_globals, pick_device
from harness.config import Recipe, Task, Trial, seed_for
from harness.errors import DfkdError, Diverged, Skipped, Unavailable
from harness.grids.bench_book import Cost
from harness.interface import Method, Terms
from harness.metrics import fid
from harness.metrics.base import STORED, how_many
from harness.nets.catalog import build as build_net
from harness.store.cards import Card
from harness.store.directory import TrialDir
from harness.tasks import catalog
from harness.tasks.catalog import sizes
from harness.tasks.images import Split, TaskData
from harness.trials import teachers
from harness.trials.build import build
from harness.trials.checkpoint import pools_of
from harness.trials.examine import logits_and_features
from harness.trials.loop import Loop
from harness.trials.provenance import peak_memory, reset_peak_memory
from harness.trials.trial import finish

#: settings in which the cost of a round is linear: of both halves, and of one
_BATCHES = ("batch", "synthesis_batch")
_STEPS = {"g_steps": "synthesize", "s_steps": "distill"}
#: samples and inner steps at least: fewer samples cost as much, fewer steps cannot be told from the rest
_ROWS, _FEW = 16, 3
#: rows of a pool that are kept at most
_EXCERPT = 10_000
#: rounds of a kind that are timed at least, the first apart; images of each split that are looked at
_ROUNDS, _SEEN = 3, 512


def measure(trial: Trial, device: str = "cpu", seconds: float = 3.0, inception: Path | None = None) -> Cost:
    """Time a trial's rounds, and what comes before, between and after them.

    Args:
        trial: whose; neither its teacher nor its data need be there.
        device: where.
        seconds: for the rounds; the rest takes about as long again. Three rounds are finished however long
            they take, made smaller if need be.
        inception: weights, as `harness.trials.trial.run_trial` takes them.

    Raises:
        Skipped: when the method says that it cannot run here.
        DfkdError: for settings that the method refuses, or a method that trains no student.
    """
    with (
        own_globals(seed_for(trial.seed, "train"), trial.cpus),
        TemporaryDirectory(prefix="dfkd-") as scratch,
    ):
        small = _affordable(trial, device, seconds, Path(scratch) / "try")
        reset_peak_memory(pick_device(device))
        began = time.perf_counter()
        loop = _loop(trial, small, device, Path(scratch))
        cost = {"start": time.perf_counter() - began}
        watch, warm, ran = _Watch(trial, small, loop.method), _Lap(), 0
        if warmup := int(trial.settings.get("warmup_rounds", 0)):
            extra, warm, ran = _rounds(watch, seconds / 3, 0)
            cost["start"] += extra
            loop.job.problem.clock.round = warmup
        extra, lap, more = _rounds(watch, seconds, None)
        if not lap.updates:
            raise DfkdError(f"{trial.method} trains no student with these settings: it cannot be timed")
        cost["start"] += extra
        cut = any(small[k] < trial.settings[k] for k in _BATCHES if k in small)
        memory = None if cut else peak_memory(loop.compute.device)
        cost["start"] += _teachers_look(loop, trial)
        cost |= _looks(loop, trial) | _pools(loop.method, trial, small, ran + more)
        cost |= _end(loop, trial, seconds, inception)
        return Cost(
            seconds=lap.seconds, flops=lap.flops, updates=lap.updates, warm=warmup,
            warm_seconds=warm.seconds, warm_flops=warm.flops, memory=memory, timed=lap.timed, **cost,
        )  # fmt: skip


def teaching(
    task: str, net: str, recipe: Recipe, threads: int, device: str = "cpu", seconds: float = 2.0
) -> float:
    """Seconds in which a teacher would be trained, from steps on noise.

    Args:
        task: on what.
        net: which network.
        recipe: of the training.
        threads: of the CPU.
        device: where.
        seconds: for the steps.
    """
    described, n_train = catalog.describe(task), sizes(task)[0]
    whole = min(recipe.batch, n_train)

    def step(rows: int) -> float:
        """Of one step; the first does not count."""
        ends: list[float] = []

        def on_epoch(epoch: int, epochs: int, loss: float) -> None:
            ends.append(time.perf_counter())
            if len(ends) > _ROUNDS and ends[-1] - ends[0] > seconds / 2:
                raise _Enough

        images = noise(described, rows)
        # a rate of nothing: a training on noise must not diverge while it is timed
        calm = recipe.model_copy(update={"batch": rows, "epochs": 10_000, "lr": 1e-6})
        with suppress(_Enough):
            found = TaskData(described, images, images, images, "")
            teachers.fit(found, net, calm, 0, torch.device(device), on_epoch)
        return statistics.median(b - a for a, b in pairwise(ends))

    with own_globals(0, threads):
        few = min(_ROWS, whole)
        took = step(few) * whole / few
        if few < whole and _ROUNDS * took < 2 * seconds:
            took = step(whole)
        return took * max(1, n_train // whole) * recipe.epochs  # as `harness.trials.teachers.fit` does


class _Enough(Exception):
    """The time is up."""


def noise(task: Task, n: int) -> Split:
    """Images of a task's shape, and labels."""
    rng = np.random.default_rng(0)
    return Split(rng.integers(0, 256, (n, *task.shape), dtype=np.uint8), np.arange(n) % task.K)


# --- rounds -------------------------------------------------------------------------------------


class _Lap(NamedTuple):
    """A round of the trial; ``timed``: the share of its seconds that the clock saw."""

    seconds: float = 0.0
    flops: float = 0.0
    updates: float = 0.0
    timed: float = 1.0


def _loop(trial: Trial, changed: Mapping[str, int], device: str, scratch: Path) -> Loop:
    """A trial of random networks on noise, ready to run."""
    task, (n_train, n_test) = catalog.describe(trial.task), sizes(trial.task)
    train, val, test = (noise(task, min(n, _SEEN)) for n in (n_train, max(1, n_train // 10), n_test))
    teacher = build_net(trial.teacher, task)
    with torch.no_grad():
        for _ in range(3):  # with BatchNorm statistics of no image at all, a deep network overflows
            teacher(torch.rand(_ROWS, *task.shape))
    card = Card(
        task=trial.task, task_version=trial.task_version, net=trial.teacher, recipe=None, seed=None,
        mean=task.mean, std=task.std, top1=0.0, data_digest="", digest="", source="random",
    )  # fmt: skip
    trial = trial.model_copy(update={"settings": trial.settings | dict(changed)})
    run = TrialDir(scratch, trial)
    run.path.mkdir(parents=True)
    job = build(
        trial, data_root=None, teachers_dir=scratch, device=device, scratch=pools_of(run),
        loaded=TaskData(task, train, val, test, ""), taught=(teacher.eval().requires_grad_(False), card),
    )  # fmt: skip
    job.problem.clock.progress = 0.5  # schedules stand there while it is timed
    return Loop(job, run)


class _Watch:
    """Times a method's rounds, and the inner steps of their halves; takes every step with a rate of nothing.

    Such a step takes as long, and no training on noise diverges.
    """

    def __init__(self, trial: Trial, made: Mapping[str, int], method: Method) -> None:
        self.method, self._device = method, method.problem.compute.device
        self._more = {half: (trial.settings[k], made[k]) for k, half in _STEPS.items() if k in made}
        self._rows = max((trial.settings[k] / made[k] for k in _BATCHES if k in made), default=1.0)
        self._half = ""
        self._ends: dict[str, dict[str, list[Any]]] = {}
        step = method.step

        def still(
            name: str, terms: Mapping[str, Tensor], clip: float | None = None, also: tuple[str, ...] = ()
        ) -> Terms:
            for key in (name, *also):
                for group in method.opts[key].param_groups:
                    group["lr"] = 0.0
            done = step(name, terms, clip, also)
            self._ends.setdefault(self._half, {}).setdefault(name, []).append(self._now())
            return done

        method.step = still  # type: ignore[method-assign]
        for half in _STEPS.values():
            setattr(method, half, self._named(half, getattr(method, half)))

    def lap(self) -> _Lap:
        """One round, as long as the trial's own would be."""
        method = self.method
        self._ends = {}
        for schedule in method.schedules:
            schedule.set(method.problem.clock.progress)
        began = self._now()
        method.round()
        took = self._now() - began
        method.problem.clock.round += 1
        whole = took.copy()
        for half, (wanted, made) in self._more.items():
            # of the optimisers that step there, the one that does so most often
            ends = max(self._ends.get(half, {"": []}).values(), key=len)
            if wanted > made and len(ends) > 1:
                whole += (wanted - made) * len(ends) / made * (ends[-1] - ends[0]) / (len(ends) - 1)
        whole[:2] *= self._rows  # an update is one whatever its batch
        seconds, flops, updates = map(float, whole)
        return _Lap(seconds, flops, updates, float(took[0]) / seconds)

    def _named(self, half: str, work: Callable[[], Terms]) -> Callable[[], Terms]:
        def named() -> Terms:
            self._half = half
            return work()

        return named

    def _now(self) -> Any:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        meter = self.method.problem.compute.meter
        return np.array([time.perf_counter(), meter.flops, self.method.updates.get("S", 0)])


def _affordable(trial: Trial, device: str, seconds: float, scratch: Path) -> dict[str, int]:
    """The trial's batches and steps, or smaller ones with which three rounds take about the seconds given.

    Found by one round of the smallest. Steps are made fewer first: what a step costs does not depend on
    their number, while half a batch may cost more than half.
    """
    batches = {k: int(trial.settings[k]) for k in _BATCHES if trial.settings.get(k)}
    steps = {k: int(trial.settings[k]) for k in _STEPS if trial.settings.get(k)}

    def sized(rows: float, inner: float) -> dict[str, int]:
        few = {k: min(v, max(_ROWS, round(v * rows))) for k, v in batches.items()}
        return few | {k: max(min(v, _FEW), round(v * inner)) for k, v in steps.items()}

    least = sized(0.0, 0.0)
    try:
        watch = _Watch(trial, least, _loop(trial, least, device, scratch).method)
        watch.method.problem.clock.round = int(trial.settings.get("warmup_rounds", 0))
        for _ in range(2):  # the first has to set much up
            full = watch.lap().seconds
    except Skipped:
        raise
    except DfkdError:  # a method that refuses so small a batch
        return sized(1.0, 1.0)
    share = min(1.0, seconds / _ROUNDS / full)
    inner = min(1.0, max(share, _FEW / max(steps.values(), default=_FEW)))
    return sized(min(1.0, share / inner), inner)


def _rounds(watch: _Watch, seconds: float, at: int | None) -> tuple[float, _Lap, int]:
    """Time rounds until the time is up.

    Args:
        watch: of the method.
        seconds: after which, with two rounds done beside the first, no other is begun.
        at: hold the clock at this round; None lets it go on.

    Returns:
        Seconds that the first took beyond the others; the median of these; how many there were in all.
    """
    laps, began = list[_Lap](), time.perf_counter()
    while len(laps) < _ROUNDS or time.perf_counter() - began < seconds:
        if at is not None:
            watch.method.problem.clock.round = at
        try:
            laps.append(watch.lap())
        except Diverged:  # on noise that may be; what was timed before counts
            if len(laps) < 2:
                raise
            break
    middle = _Lap(*(statistics.median(getattr(lap, k) for lap in laps[1:]) for k in _Lap._fields))
    extra = laps[0].seconds * laps[0].timed - middle.seconds * middle.timed
    return max(0.0, extra), middle, len(laps)


# --- before, between, after -----------------------------------------------------------------------


def _timed(work: Callable[[], Any], device: torch.device) -> float:
    began = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _looks(loop: Loop, trial: Trial) -> dict[str, float]:
    """Seconds of a point: the student's look at the test images."""
    times = [_timed(lambda: loop.examiner(loop.method.S), loop.compute.device) for _ in range(3)]
    return {"look": min(times) * sizes(trial.task)[1] / len(loop.job.data.test)}


def _teachers_look(loop: Loop, trial: Trial) -> float:
    """Seconds of the teacher's look at the test images beyond those it saw when the loop was made."""
    teacher, test = loop.job.problem.teacher, loop.job.data.test
    took = _timed(lambda: logits_and_features(teacher, test, loop.compute), loop.compute.device)
    return took * (sizes(trial.task)[1] / len(test) - 1)


def _end(loop: Loop, trial: Trial, seconds: float, inception: Path | None) -> dict[str, float]:
    """Seconds of all that follows the last round, and what it leaves on disk but for pools.

    What images cost is linear in their number, so some are enough. Metrics that only some grids ask for are
    left out: beside the training they are little.
    """
    nowhere = Path("no weights")  # Inception's share is timed by itself

    def ending(images: int) -> float:
        return _timed(lambda: finish(loop, nowhere, None, images), loop.compute.device)

    loop.job = replace(loop.job, trial=trial.model_copy(update={"metrics": ()}))
    ending(64)
    few, more = ending(64), ending(192)
    each = max(0.0, more - few) / 128
    wanted = how_many(inception, sizes(trial.task)[1])
    took, drawn = few + each * (wanted - 64), 192
    if took < seconds:
        took, drawn = ending(wanted), STORED  # of more than these none is kept
    path = loop.run.path
    own = {"samples.npz": STORED / drawn, "predictions.npz": sizes(trial.task)[1] / len(loop.job.data.test)}
    held = sum(
        own.get(f.name, 1.0) * f.stat().st_size
        for f in path.rglob("*")
        if f.is_file() and "checkpoint" not in f.parts
    )
    held -= sum(_bytes(state) for state in loop.method.final_state()["pools"].values())
    if (path / "samples.npz").exists() and (weights := fid.weights_file(inception)):
        with suppress(Unavailable):  # a file that is none of Inception: then there is no FID
            took += _inception(weights, catalog.describe(trial.task), str(loop.compute.device)) * min(
                how_many(weights, sizes(trial.task)[1]), sizes(trial.task)[1]
            )
    return {"finish": took, "bytes": held}


def _inception(weights: Path, task: Task, device: str) -> float:
    """Seconds for an image; those of the test images are in the cache after the first trial."""
    net, _, _ = fid.load_inception(weights)
    x = noise(task, 8).images
    fid.features(net, x[:2], device)
    return _timed(lambda: fid.features(net, x, device), torch.device(device)) / len(x)


def _pools(method: Method, trial: Trial, made: Mapping[str, int], rounds: int) -> dict[str, float]:
    """Bytes that a round adds to what is left of the pools, and the most that there can be."""
    key = next((k for k in reversed(_BATCHES) if k in made), "")
    share = trial.settings[key] / made[key] if key else 1.0
    each = most = 0.0
    for state in method.final_state()["pools"].values():
        held = len(next(iter(state["rows"].values()))) if state.get("rows") else 0
        if held and "capacity" in state:
            row = _bytes(state["rows"]) / held
            each += share * row * held / rounds
            most += row * min(int(state["capacity"]), _EXCERPT)
    return {"pool": each, "pool_most": most}


def _bytes(state: Any) -> int:
    """Of all tensors in nested dicts and lists."""
    if isinstance(state, Tensor):
        return state.numel() * state.element_size()
    inner = state.values() if isinstance(state, dict) else state if isinstance(state, list | tuple) else ()
    return sum(map(_bytes, inner))
