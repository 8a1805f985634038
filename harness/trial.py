"""One trial from names to numbers: build it, spend its budget in rounds, look at it, write it down.

Runs without Ray and without MLflow. Killed anywhere, it goes on from its checkpoint to the same bits.
"""

from __future__ import annotations

import dataclasses
import io
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness import data, diagnose, registry, teachers
from harness.cards import Card
from harness.compute import Compute, own_globals, pick_device
from harness.config import Trial, seed_for
from harness.data import TaskData
from harness.errors import DfkdError, Diverged, Interrupted, Skipped
from harness.evaluate import Examiner, draw_samples, evidence, how_many
from harness.interface import Clock, Images, Method, Problem, Reference, Terms
from harness.metrics.base import STORED, chosen, evaluate
from harness.nets.base import Net, spec
from harness.nets.base import build as build_net
from harness.provenance import commit, kernels, machine
from harness.rundir import DiskError, Run

OnPoint = Callable[[dict[str, Any]], None]

#: rounds in which the budget's unit may stand still (a warm-up that trains no student) before a trial fails
_PATIENCE = 2000
#: share of the running time that checkpoints may take
_CHECKPOINT_SHARE = 0.02
_CHECKPOINT_EVERY = 2.0  # seconds, at least


@dataclass
class Job:
    """A trial's live objects."""

    trial: Trial
    method: Method
    data: TaskData
    card: Card
    cautions: list[str]  # of `harness.diagnose.before`

    @property
    def problem(self) -> Problem:
        """What the method was given."""
        return self.method.problem


def build(
    trial: Trial,
    *,
    data_root: Path | None,
    teachers_dir: Path,
    device: str = "cpu",
    loaded: TaskData | None = None,
    scratch: Path | None = None,
    taught: tuple[Net, Card] | None = None,
) -> Job:
    """Turn names into objects; call it inside `harness.compute.own_globals`.

    Args:
        trial: which.
        data_root: as `harness.data.load` takes it.
        teachers_dir: where the teacher lies.
        device: where to compute.
        loaded: the task's images, where they are open already.
        scratch: as `Problem.scratch`.
        taught: a teacher instead of the one that lies there.

    Raises:
        Skipped: when the method says that it cannot run here.
        DfkdError: for missing data or teacher, or settings that the method refuses.
    """
    found = loaded or data.load(trial.task, data_root)
    cls = registry.methods.get(trial.method)
    hp = cls.HP(**trial.settings)
    specs = spec(trial.teacher, found.task), spec(trial.student, found.task)
    reason = cls.skip(hp, found.task, *specs)
    if reason:
        raise Skipped(reason)
    compute = Compute(pick_device(device), trial.precision, trial.channels_last, trial.compile)
    teacher, card = taught or teachers.load(teachers_dir, trial, found.task)
    # The normaliser belongs to the teacher's file: the student and the generator get the same.
    task = dataclasses.replace(found.task, mean=card.mean, std=card.std)
    torch.manual_seed(seed_for(trial.seed, "student"))
    student = build_net(trial.student, task)
    compute.prepare("T", teacher)
    compute.prepare("S", student)
    student.train()
    rng = torch.Generator(compute.device).manual_seed(seed_for(trial.seed, "train"))
    problem = Problem(task, teacher, student, Clock(), rng, compute, scratch)
    torch.manual_seed(seed_for(trial.seed, "parts"))
    if issubclass(cls, Reference):
        loader = data.Loader(found.train, found.task, rng, compute.device)
        method: Method = cls(problem, hp, Images(loader.batch, loader.state, loader.load))
    else:
        method = cls(problem, hp)
    for name, part in method.parts.items():
        compute.prepare(name, part)
    torch.manual_seed(seed_for(trial.seed, "train"))
    return Job(trial, method, found, card, diagnose.before(cls, hp, found.task, *specs))


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

    def __init__(self, job: Job, run: Run, on_point: OnPoint | None = None) -> None:
        """Take the trial over where its checkpoint left it, or start."""
        self.job, self.run, self.on_point = job, run, on_point
        self.method, self.trial, self.compute = job.method, job.trial, job.problem.compute
        self.at = Progress()
        self.examiner = Examiner(job.data, job.problem.teacher, self.compute)
        self.seen: dict[str, float] = {}
        self._file = run.path / "checkpoint" / "state.pt"
        self._pools = pools_of(run)
        self._resume()

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
        wait = _CHECKPOINT_EVERY
        while clock.progress < 1.0:
            for schedule in self.method.schedules:
                schedule.set(clock.progress)
            before = self.spend()[budget.unit]
            self.at.add(self.method.round())
            self.at.rounds += 1
            spent = self.spend()[budget.unit]
            self.at.idle = 0 if spent > before else self.at.idle + 1
            if self.at.idle >= _PATIENCE:
                raise Diverged(
                    f"{budget.unit} stood still for {_PATIENCE} rounds: the budget {budget} cannot be spent"
                )
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
                self._save()
                saved = time.perf_counter()
                wait = max(_CHECKPOINT_EVERY, (saved - began) / _CHECKPOINT_SHARE)
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

    def _save(self) -> None:
        """Replace the checkpoint atomically: a kill leaves the old one or the new one."""
        self.method.check_finite()
        state = {
            "method": self.method.state_dict(),
            "progress": vars(self.at),
            "clock": vars(self.job.problem.clock),
            "flops": self.compute.meter.flops,
            "rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if self.compute.device.type == "cuda" else [],
        }
        self._file.parent.mkdir(exist_ok=True)
        save_atomic(state, self._file)

    def _resume(self) -> None:
        rows = self.run.curve()
        if self._file.exists():
            try:
                state = torch.load(self._file, map_location="cpu", weights_only=True)
                if len(rows) < state["progress"]["rows"]:
                    raise DfkdError(
                        f"curve.jsonl has {len(rows)} points, the checkpoint {state['progress']['rows']}"
                    )
                self.method.load_state_dict(state["method"])
            except Exception as error:
                # The method may be half loaded: forget the file and let the next try start from nothing.
                self._file.unlink()
                shutil.rmtree(self._pools, ignore_errors=True)
                self.run.cut(0)
                line = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise Interrupted(f"checkpoint cannot be read, the trial starts over: {line}") from error
            self.at = Progress(**state["progress"])
            self.at.terms = {k: v.to(self.compute.device) for k, v in self.at.terms.items()}
            vars(self.job.problem.clock).update(state["clock"])
            self.compute.meter.flops = state["flops"]
            torch.set_rng_state(state["rng"])
            if state["cuda_rng"] and self.compute.device.type == "cuda":
                torch.cuda.set_rng_state_all(state["cuda_rng"])
        else:  # killed before its first checkpoint
            shutil.rmtree(self._pools, ignore_errors=True)
        self.run.cut(self.at.rows)


def run_trial(
    trial: Trial,
    run: Run,
    *,
    data_root: Path | None = None,
    teachers_dir: Path,
    device: str = "cpu",
    inception: Path | None = None,
    on_point: OnPoint | None = None,
) -> dict[str, Any]:
    """Run a trial to its result, or on from its checkpoint; the caller holds ``run.lock()``.

    Every global it relies on is set and given back.

    Returns:
        What ``result.json`` holds.

    Raises:
        Skipped, Diverged: the method's own; everything else is the machine's or a bug.
    """
    began = time.perf_counter()
    with own_globals(seed_for(trial.seed, "train"), trial.cpus):
        arguments: dict[str, Any] = {"data_root": data_root, "teachers_dir": teachers_dir, "device": device}
        arguments["scratch"] = pools_of(run)
        loaded = data.load(trial.task, data_root)
        run.prepare()
        reset_peak_memory(pick_device(device))
        try:
            loop = Loop(build(trial, loaded=loaded, **arguments), run, on_point)
        except Interrupted as error:
            run.write_json("note.json", {"note": str(error)})
            loop = Loop(build(trial, loaded=loaded, **arguments), run, on_point)
        run.warn(loop.job.cautions)
        loop.go()
        numbers, unavailable, warnings = finish(loop, inception, data_root)
        result = {
            "id": trial.id,
            "metrics": numbers,
            "unavailable": unavailable,
            "warnings": warnings,
            "spend": loop.spend(),
            "cost": {
                "seconds": loop.at.seconds,
                "seconds_total": time.perf_counter() - began,
                "peak_memory_mb": peak_memory(loop.compute.device),
            },
            "provenance": _provenance(loop),
        }
        run.finish(result)
        return result


def finish(
    loop: Loop, inception: Path | None, data_root: Path | None, images: int | None = None
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Samples, metrics and the files of ``final/``; the last point was just taken.

    Args:
        loop: its budget spent.
        inception: as `run_trial` takes it.
        data_root: the same.
        images: to draw of the method; None: what metrics and the store ask for.

    Returns:
        As `harness.metrics.base.evaluate`.
    """
    run, job, method = loop.run, loop.job, loop.method
    if not len(loop.examiner.s_logits):  # resumed after the last point
        loop.seen = loop.examiner(job.problem.student)
    final = run.path / "final"
    final.mkdir(exist_ok=True)
    export_student(method.S.state_dict(), final / "student.safetensors", job)
    kept = method.final_state()
    save_atomic(kept, final / "parts.pt")
    method.load_final_state(kept)  # a pool is cut to an excerpt: `dfkd measure` draws from the same
    n = images or how_many(inception, len(job.data.test))
    drawn = draw_samples(method, job.trial.seed, n, loop.examiner)
    samples, cut = drawn if drawn else (None, {})
    if samples is not None:
        run.write_arrays("samples.npz", {k: v[:STORED] for k, v in samples.items()})
    run.write_arrays("predictions.npz", loop.examiner.predictions())
    new = run.path / ".confusion.tmp.npy"
    np.save(new, loop.examiner.confusion())
    new.replace(run.path / "confusion.npy")
    seen = evidence(loop.examiner, method.S, samples, loop.spend(), inception, data_root)
    numbers, unavailable, warnings = evaluate(seen, chosen(job.trial.metrics))
    shown = diagnose.after(seen, numbers, run.curve(), method.USES_DATA)
    return numbers | cut, unavailable, list(dict.fromkeys([*job.cautions, *warnings, *shown]))


def pools_of(run: Run) -> Path:
    """Where a trial's pools lie beside its checkpoint, to be dropped with it."""
    return run.path / "checkpoint" / "pools"


def export_student(state: Mapping[str, Tensor], path: Path, job: Job) -> None:
    """A student's weights and normaliser as safetensors, with what is needed to rebuild it as metadata."""
    about = {
        "net": job.trial.student,
        "task": job.trial.task,
        "trial": job.trial.id,
        "method": job.trial.method,
    }
    new = path.with_name(f".{path.name}.tmp")
    save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, new, metadata=about)
    new.replace(path)


def save_atomic(state: Any, path: Path) -> None:
    """`torch.save` under a temporary name, then rename.

    Raises:
        DiskError: when it cannot be written; what was half-written is gone.
    """
    whole = io.BytesIO()  # torch's own writer hides the system's error and keeps the file open with it
    torch.save(state, whole)
    new = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        new.write_bytes(whole.getbuffer())
        new.replace(path)
    except OSError as error:
        raise DiskError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        new.unlink(missing_ok=True)


def reset_peak_memory(device: torch.device) -> None:
    """Forget what earlier work of this process took on a GPU."""
    if device.type == "cuda":
        torch.cuda.init()  # before the first use there is nothing to reset, and torch refuses
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> float:
    """MiB: the GPU allocator's most since `reset_peak_memory`, or this process's resident set now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20


def _provenance(loop: Loop) -> dict[str, Any]:
    device = loop.compute.device
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return gpu | {
        "teacher_digest": loop.job.card.digest,
        "teacher_top1": loop.job.card.top1,
        "data_digest": loop.job.data.digest,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": machine(),
        "kernels": kernels(),
        "commit": commit(),
    }
