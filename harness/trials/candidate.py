"""One trial of a search: the ordinary rounds, looked at on the validation images and on no other.

The test images are gone before anything is built: where a trial keeps them, these have the validation images
again. A reference, which learns from real images, gets the training set without them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from harness import registry
from harness.compute import own_globals
from harness.config import Trial, seed_for
from harness.errors import Diverged, Interrupted
from harness.store.directory import TrialDir
from harness.tasks import images
from harness.tasks.images import TaskData
from harness.trials.build import build
from harness.trials.checkpoint import pools_of
from harness.trials.examine import Examiner, logits_and_features
from harness.trials.loop import Loop, OnPoint
from harness.trials.provenance import commit, kernels, machine


class Validator(Examiner):
    """Looks at the student on the validation images; asks the teacher nothing."""

    def __post_init__(self) -> None:
        """Keep the labels."""
        self.labels = torch.from_numpy(np.asarray(self.data.val.labels))
        self.s_logits = torch.empty(0)

    def __call__(self, student: nn.Module) -> dict[str, float]:
        """``val_top1`` in percent and ``val_nll`` in nats, as the metric ``val`` has them.

        Raises:
            Diverged: when the student's logits are not finite.
        """
        self.s_logits, _ = logits_and_features(student, self.data.val, self.compute)
        if not bool(torch.isfinite(self.s_logits).all()):
            raise Diverged("the student's logits on the validation images are not finite")
        hits = self.s_logits.argmax(1) == self.labels
        nll = F.cross_entropy(self.s_logits.double(), self.labels)
        return {"val_top1": 100.0 * float(hits.double().mean()), "val_nll": float(nll)}


def blind(found: TaskData, reference: bool) -> TaskData:
    """The data without its test images; for a reference also with a training set apart from ``val``."""
    train = images.without_val(found) if reference else found.train
    return dataclasses.replace(found, train=train, test=found.val)


def run_candidate(
    trial: Trial,
    run: TrialDir,
    *,
    data_root: Path | None = None,
    teachers_dir: Path,
    device: str = "cpu",
    inception: Path | None = None,
    on_point: OnPoint | None = None,
) -> dict[str, Any]:
    """Stands in for `harness.trials.trial.run_trial`: the same rounds, rows of ``val_top1`` and ``val_nll``.

    Takes no samples and no other metric. Resumed, it tells ``on_point`` of the rows that stand, too.

    Returns:
        What ``result.json`` holds.

    Raises:
        Skipped, Diverged: as `harness.trials.trial.run_trial`.
    """
    with own_globals(seed_for(trial.seed, "train"), trial.cpus):
        reference = registry.methods.get(trial.method).USES_DATA
        loaded = blind(images.load(trial.task, data_root), reference)
        run.prepare()
        loop = _loop(trial, run, loaded, on_point, teachers_dir, device)
        for row in run.curve() if on_point else ():
            on_point(row)  # type: ignore[misc]
        loop.go()
        result = {
            "id": trial.id,
            "metrics": loop.seen or loop.examiner(loop.job.problem.student),
            "warnings": [],
            "spend": loop.spend(),
            "cost": {"seconds": loop.at.seconds},
            "provenance": {
                "teacher_digest": loop.job.card.digest,
                "data_digest": loop.job.data.digest,
                "device": str(loop.compute.device),
                "threads": torch.get_num_threads(),
                "torch": torch.__version__,
                "machine": machine(),
                "kernels": kernels(),
                "commit": commit(),
            },
        }
        run.finish(result)
        return result


def _loop(
    trial: Trial, run: TrialDir, loaded: TaskData, on_point: OnPoint | None, teachers_dir: Path, device: str
) -> Loop:
    """The trial's loop, looking at validation images; from nothing where its checkpoint is damaged."""

    def made() -> Loop:
        job = build(
            trial,
            data_root=None,
            teachers_dir=teachers_dir,
            device=device,
            loaded=loaded,
            scratch=pools_of(run),
        )
        return Loop(job, run, on_point)

    try:
        loop = made()
    except Interrupted as error:
        run.write_json("note.json", {"note": str(error)})
        loop = made()
    loop.examiner = Validator(loop.job.data, loop.job.problem.teacher, loop.compute)
    return loop
