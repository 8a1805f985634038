"""Spends a trial's budget: rounds, points, and when a checkpoint is due."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.errors import Diverged
from harness.interface import Terms
from harness.store.directory import TrialDir
from harness.trials import checkpoint
from harness.trials.examine import Examiner, Job

OnPoint = Callable[[dict[str, Any]], None]


class Pace(NamedTuple):
    """How often a trial is saved, and how long it may stand still.

    Attributes:
        every: seconds between two checkpoints, at least.
        share: of the running time that checkpoints may take.
        patience: rounds in which the budget's unit does not move (a warm-up that trains no student) before a
            trial fails.
    """

    every: float = 2.0
    share: float = 0.02
    patience: int = 2000


PACE = Pace()


@dataclass
class Progress:
    """What the loop itself carries across rounds: spend, time, the terms since the last point."""

    rounds: int = 0
    seconds: float = 0.0
    point: int = 0
    rows: int = 0
    idle: int = 0
    terms: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, terms: Terms) -> None:
        """Sum a round's terms, on their device."""
        for k, v in terms.items():
            self.terms[k] = self.terms[k] + v if k in self.terms else v.clone()
            self.counts[k] = self.counts.get(k, 0) + 1

    def means(self) -> dict[str, float]:
        """Mean of each term over the rounds since the last point, and start anew."""
        out = {k: float(v) / self.counts[k] for k, v in self.terms.items()}
        self.terms, self.counts = {}, {}
        return out


class Loop:
    """Spends a trial's budget: rounds, points, checkpoints."""

    def __init__(
        self,
        job: Job,
        run: TrialDir,
        on_point: OnPoint | None = None,
        pace: Pace = PACE,
        look: type[Examiner] = Examiner,
    ) -> None:
        """Take the trial over where its checkpoint left it, or start.

        Args:
            job: what is run.
            run: its directory.
            on_point: told every new row of the curve.
            pace: of checkpoints.
            look: how the student is looked at, at every point.

        Raises:
            Interrupted: for a checkpoint that cannot be read; it is gone, and ``job`` may be half loaded.
        """
        self.job, self.run, self.on_point, self.pace = job, run, on_point, pace
        self.method, self.trial, self.compute = job.method, job.trial, job.problem.compute
        self.at = Progress()
        self.examiner = look(job.data, job.problem.teacher, self.compute)
        self.seen: dict[str, float] = {}
        if (progress := checkpoint.read(run, self.method)) is not None:
            self.at = Progress(**progress)
            self.at.terms = {k: v.to(self.compute.device) for k, v in self.at.terms.items()}
        run.cut(self.at.rows)

    def spend(self) -> dict[str, float]:
        """What was spent, in each unit."""
        updates = self.method.updates.get("S", 0)
        return {"rounds": self.at.rounds, "student_updates": updates, "flops": self.compute.meter.flops}

    def go(self) -> None:
        """Rounds until the budget is spent.

        Raises:
            Diverged: when a loss is not finite, or the budget's unit does not move.
        """
        clock, budget = self.job.problem.clock, self.trial.budget
        started = saved = time.perf_counter()
        wait = self.pace.every
        while clock.progress < 1.0:
            for schedule in self.method.schedules:
                schedule.set(clock.progress)
            before = self.spend()[budget.unit]
            self.at.add(self.method.round())
            self.at.rounds += 1
            spent = self.spend()[budget.unit]
            self.at.idle = 0 if spent > before else self.at.idle + 1
            if self.at.idle >= self.pace.patience:
                still = f"{budget.unit} stood still for {self.at.idle} rounds"
                raise Diverged(f"{still}: the budget {budget} cannot be spent")
            clock.round, clock.progress = self.at.rounds, min(1.0, spent / budget.amount)
            point = int(clock.progress * self.trial.points)
            now = time.perf_counter()
            if point <= self.at.point and now - saved < wait:
                continue
            if self.compute.device.type == "cuda":
                torch.cuda.synchronize()
                now = time.perf_counter()
            self.at.seconds += now - started
            if point > self.at.point:
                self._point(point)
            began = time.perf_counter()
            if began - saved >= wait and clock.progress < 1.0:
                self.method.check_finite()
                checkpoint.write(self.run, self.method, vars(self.at))
                saved = time.perf_counter()
                wait = max(self.pace.every, (saved - began) / self.pace.share)
            started = time.perf_counter()

    def _point(self, point: int) -> None:
        self.method.check_finite()
        self.seen = self.examiner(self.job.problem.student)
        row = {"point": point, "round": self.at.rounds} | self.spend() | {"seconds": self.at.seconds}
        row |= self.seen | self.at.means()
        del row["rounds"]
        self.run.append(row)
        self.at.point, self.at.rows = point, self.at.rows + 1
        if self.on_point:
            self.on_point(row)
