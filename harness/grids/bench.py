"""What a trial and a teacher cost on this machine: some of its rounds, timed, times the budget.

Networks have random weights and images are noise: neither changes the time, so no teacher and no data set is
needed. All else is the trial's own: its code, networks, settings and batches. On one thread of a CPU,
seconds are the processor's: what else the machine is doing does not count.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray

from harness.compute import own_globals, pick_device
from harness.config import Budget, Task, Trial, seed_for
from harness.errors import DfkdError
from harness.interface import Method
from harness.metrics.base import STORED
from harness.nets.catalog import build as build_net
from harness.settings import with_role
from harness.store.cards import Card
from harness.store.directory import TrialDir
from harness.tasks import catalog
from harness.tasks.images import Split, TaskData
from harness.trials import teachers
from harness.trials.build import build
from harness.trials.checkpoint import pools_of
from harness.trials.loop import Loop
from harness.trials.provenance import peak_memory, reset_peak_memory
from harness.trials.trial import finish

#: rounds, and steps of a teacher, that are timed after a first, which sets much up; after so many seconds no
#: other round is begun
_ROUNDS, _ENOUGH = 3, 10.0
#: images of a split that are looked at, and drawn of the method, at most: what they cost is linear
_SEEN = 2000


@dataclass(frozen=True)
class Cost:
    """What a trial costs: seconds, and floating point operations (2 per multiply-add).

    Attributes:
        seconds, flops, updates: of a round; updates are the student's.
        warm: rounds before the student is trained; warm_seconds, warm_flops: of one of them.
        start: seconds before the first round, with what that takes longer than others.
        look: seconds at each point of the curve.
        finish: seconds after the last round: images, metrics, files.
        memory: MiB, of the GPU's allocator at most, or on the CPU the resident set after the rounds.
    """

    seconds: float
    flops: float
    updates: float
    warm: int = 0
    warm_seconds: float = 0.0
    warm_flops: float = 0.0
    start: float = 0.0
    look: float = 0.0
    finish: float = 0.0
    memory: float = 0.0

    def rounds(self, budget: Budget) -> int:
        """Rounds until a budget is spent.

        Raises:
            DfkdError: when none of them spends its unit.
        """
        if budget.unit == "rounds":
            return math.ceil(budget.amount)
        by_warm, each = (self.warm_flops, self.flops) if budget.unit == "flops" else (0.0, self.updates)
        left = budget.amount - self.warm * by_warm
        if left <= 0:
            return _ceil(budget.amount / by_warm)
        if not each:
            raise DfkdError(f"a round spends no {budget.unit}: the budget {budget} cannot be spent")
        return self.warm + _ceil(left / each)

    def total(self, budget: Budget, points: int) -> float:
        """Seconds of a whole trial of that budget, looked at so many times."""
        rounds = self.rounds(budget)
        warm = min(rounds, self.warm)
        spent = warm * self.warm_seconds + (rounds - warm) * self.seconds
        return self.start + spent + min(rounds, points) * self.look + self.finish


def _ceil(x: float) -> int:
    # the quotient of a sum and one of its parts may come out a hair above a whole number
    return max(1, math.ceil(x * (1 - 1e-9)))


def device_name(device: str) -> str:
    """``cpu``, or the name of the GPU.

    Raises:
        DfkdError: for a GPU that is not there.
    """
    found = pick_device(device)
    return torch.cuda.get_device_name(found) if found.type == "cuda" else found.type


def measure(trial: Trial, device: str = "cpu", seconds: float = 1.0) -> Cost:
    """Time a trial's rounds, and what comes before, between and after them; FID apart.

    Args:
        trial: whose; neither its teacher nor its data need be there.
        device: where.
        seconds: of rounds at least, and three of them after the first; where that takes ten seconds, fewer.

    Raises:
        Skipped: when the method says that it cannot run here.
        DfkdError: for settings that the method refuses, or a method that trains no student.
    """
    where = pick_device(device)
    now = _clock(where, trial.cpus)
    (n_train, n_test), task = catalog.sizes(trial.task), catalog.describe(trial.task)
    share = min(1.0, _SEEN / max(n_test, STORED))
    with own_globals(seed_for(trial.seed, "train"), trial.cpus), TemporaryDirectory(prefix="dfkd-") as out:
        reset_peak_memory(where)
        began = now()
        train, val, test = (noise(task, math.ceil(n * share)) for n in (n_train, n_train // 10, n_test))
        loop = _loop(trial, TaskData(task, train, val, test, ""), device, Path(out))
        start = now() - began
        method = loop.method
        for opt in method.opts.values():  # without a step no training on noise diverges; it takes as long
            for group in opt.param_groups:
                group["lr"] = 0.0
        warm, by_warm = (
            sum(trial.settings[k] for k in with_role(type(method.hp), "warmup")),
            Cost(0.0, 0.0, 0.0),
        )
        if warm:
            extra, by_warm = _rounds(method, now, seconds, hold=True)
            start += extra
            loop.job.problem.clock.round = warm
        extra, each = _rounds(method, now, seconds, hold=False)
        start += extra
        if not each.updates:
            raise DfkdError(f"{trial.method} trains no student with these settings: it cannot be timed")
        memory = peak_memory(where)
        looks = [_timed(lambda: loop.examiner(method.S), now) for _ in range(_ROUNDS)]
        images = math.ceil(STORED * share)
        # metrics that only some grids ask for are left out: beside the training they are little
        loop.job = replace(loop.job, trial=trial.model_copy(update={"metrics": ()}))
        nowhere = Path("no Inception")
        finish(loop, nowhere, None, 1)  # the first loads much
        ended = _timed(lambda: finish(loop, nowhere, None, images), now)
    return replace(
        each, warm=warm, warm_seconds=by_warm.seconds, warm_flops=by_warm.flops,
        start=start, look=min(looks) / share, finish=ended / share, memory=memory,
    )  # fmt: skip


def teaching(trial: Trial, device: str = "cpu") -> float:
    """Seconds in which a trial's teacher would be trained, from three steps on noise."""
    where, recipe = pick_device(device), trial.recipe
    task, n_train = catalog.describe(trial.task), catalog.sizes(trial.task)[0]
    batch, now = min(recipe.batch, n_train), _clock(where, trial.cpus)
    images, ends = noise(task, batch), list[float]()
    # epochs of one step; a rate of next to nothing, so that a training on noise does not diverge
    calm = recipe.model_copy(update={"batch": batch, "epochs": 1 + _ROUNDS, "lr": 1e-6})
    found = TaskData(task, images, images, images, "")
    with own_globals(0, trial.cpus):
        teachers.fit(found, trial.teacher, calm, 0, where, lambda *_: ends.append(now()))
    steps = max(1, n_train // batch) * recipe.epochs  # what fills no batch is left out, as in the training
    return (ends[-1] - ends[0]) / _ROUNDS * steps


def noise(task: Task, n: int) -> Split:
    """Images of a task's shape, one at least, and labels."""
    rng, n = np.random.default_rng(0), max(1, n)
    return Split(rng.integers(0, 256, (n, *task.shape), dtype=np.uint8), np.arange(n) % task.K)


def _loop(trial: Trial, data: TaskData, device: str, out: Path) -> Loop:
    """A trial of random networks on these images, ready to run."""
    task = data.task
    teacher = build_net(trial.teacher, task)
    with torch.no_grad():
        for _ in range(3):  # with BatchNorm statistics of no image at all, a deep network overflows
            teacher(torch.rand(16, *task.shape))
    card = Card(
        task=trial.task, task_version=trial.task_version, net=trial.teacher, recipe=None, seed=None,
        mean=task.mean, std=task.std, top1=0.0, data_digest="", digest="", source="random",
    )  # fmt: skip
    run = TrialDir(out, trial)
    run.prepare()
    job = build(
        trial, data_root=None, teachers_dir=out, device=device, scratch=pools_of(run), loaded=data,
        taught=(teacher.eval().requires_grad_(False), card),
    )  # fmt: skip
    return Loop(job, run)


def _rounds(method: Method, now: Callable[[], float], seconds: float, hold: bool) -> tuple[float, Cost]:
    """Time rounds.

    Args:
        method: whose.
        now: the clock.
        seconds: as `measure` takes it.
        hold: the same number for each of them, as for those of a warm-up.

    Returns:
        Seconds that the first took beyond the others, and what each of these took.
    """
    clock, meter = method.problem.clock, method.problem.compute.meter

    def after_a_round() -> NDArray[np.float64]:
        method.round()
        clock.round += not hold
        return state()

    def state() -> NDArray[np.float64]:
        return np.array([now(), meter.flops, method.updates.get("S", 0)])

    began = state()
    first = last = after_a_round()
    n = 0
    while last[0] - began[0] < _ENOUGH and (n < _ROUNDS or last[0] - first[0] < seconds):
        last = after_a_round()
        n += 1
    each = Cost(*((last - first) / n if n else first - began).tolist())
    return max(0.0, float(first[0] - began[0]) - each.seconds), each


def _clock(device: torch.device, threads: int) -> Callable[[], float]:
    """Seconds: of the processor where one thread does it all, else of the wall clock, the GPU waited for."""
    if device.type != "cuda":
        return time.process_time if threads == 1 else time.perf_counter

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return waited


def _timed(work: Callable[[], object], now: Callable[[], float]) -> float:
    began = now()
    work()
    return now() - began
