"""From a trial's names to live objects: teacher, student, method, data."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from harness import registry
from harness.compute import Compute, pick_device
from harness.config import Trial, seed_for
from harness.errors import DfkdError, Skipped
from harness.interface import Clock, Images, Method, Problem, Reference
from harness.nets.base import Net
from harness.nets.catalog import build as build_net
from harness.nets.catalog import spec
from harness.store import cards
from harness.store.cards import Card
from harness.tasks.images import Loader, TaskData, load
from harness.trials import diagnose, teachers
from harness.trials.examine import Job


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
        data_root: as `harness.tasks.images.load` takes it.
        teachers_dir: where the teacher lies.
        device: where to compute.
        loaded: the task's images, where they are open already.
        scratch: as `Problem.scratch`.
        taught: a teacher instead of the one that lies there.

    Raises:
        Skipped: when the method says that it cannot run here.
        DfkdError: for missing data or teacher, or settings that the method refuses.
    """
    found = loaded or load(trial.task, data_root)
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
        loader = Loader(found.train, found.task, rng, compute.device)
        method: Method = cls(problem, hp, Images(loader.batch, loader.state, loader.load))
    else:
        method = cls(problem, hp)
    for name, part in method.parts.items():
        compute.prepare(name, part)
    torch.manual_seed(seed_for(trial.seed, "train"))
    return Job(trial, method, found, card, diagnose.before(cls, hp, found.task, *specs))


def have_teacher(trial: Trial, *, data_root: Path | None, teachers_dir: Path, device: str = "cpu") -> str:
    """Find the trial's teacher or train it, and check its accuracy once on this machine.

    Returns:
        A line about it, empty when it was there.

    Raises:
        DfkdError: for an imported teacher that is not there, missing data, or a wrong accuracy.
    """
    card, told = cards.find(teachers_dir, trial), ""
    if card is None and trial.teacher_digest:
        raise DfkdError(
            f"no imported teacher {trial.teacher_digest[:12]} for {trial.teacher} on {trial.task} in "
            f"{teachers_dir}; `dfkd teachers list` shows what is there"
        )
    if card is None:
        card = teachers.train(
            teachers_dir, trial.task, trial.teacher, trial.recipe, trial.teacher_seed,
            data_root=data_root, device=device, threads=trial.cpus,
        )  # fmt: skip
        told = f"top1 {card.top1:.2f}, trained in {card.seconds:.0f} s"
    teachers.verify(teachers_dir, card, load(trial.task, data_root), device)
    return told
