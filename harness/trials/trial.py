"""One trial from names to numbers: build it, spend its budget in rounds, look at it, write it down.

Runs without Ray and without MLflow. Killed anywhere, it goes on from its checkpoint to the same bits.
"""

from __future__ import annotations

import dataclasses
import io
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.torch import save

from harness import files, registry
from harness.compute import own_globals, pick_device
from harness.config import Trial, seed_for
from harness.errors import Interrupted
from harness.metrics.base import STORED, chosen, evaluate, how_many
from harness.store.directory import TrialDir
from harness.tasks import images
from harness.tasks.images import TaskData
from harness.trials import diagnose
from harness.trials.build import build
from harness.trials.checkpoint import final_of, pools_of, restore_final
from harness.trials.examine import Examiner, Validator, draw_samples, evidence
from harness.trials.loop import PACE, Loop, OnPoint, Pace
from harness.trials.provenance import peak_memory, provenance, reset_peak_memory


def run_trial(
    trial: Trial,
    run: TrialDir,
    *,
    data_root: Path | None = None,
    teachers_dir: Path,
    device: str = "cpu",
    inception: Path | None = None,
    on_point: OnPoint | None = None,
    on: Literal["test", "val"] = "test",
    pace: Pace = PACE,
) -> dict[str, Any]:
    """Run a trial to its result, or on from its checkpoint; the caller holds ``run.lock()``.

    Every global it relies on is set and given back.

    Args:
        trial: which.
        run: its directory.
        data_root: as `harness.tasks.images.load` takes it.
        teachers_dir: where its teacher lies.
        device: where to compute.
        inception: a file with Inception weights, for the metrics that want them.
        on_point: told every row of the curve.
        on: images that the student is looked at on. On ``val``, for a search, the trial is `blind`, rows and
            result have ``val_top1`` and ``val_nll`` and no other metric, no samples are taken, and
            ``on_point`` is told of the rows that stand from before, too.
        pace: of checkpoints.

    Returns:
        What ``result.json`` holds.

    Raises:
        Skipped, Diverged: the method's own; everything else is the machine's or a bug.
    """
    began = time.perf_counter()
    with own_globals(seed_for(trial.seed, "train"), trial.cpus):
        loaded = images.load(trial.task, data_root)
        if on == "val":
            loaded = blind(loaded, registry.methods.get(trial.method).USES_DATA)
        run.prepare()
        reset_peak_memory(pick_device(device))

        def started() -> Loop:
            about: dict[str, Any] = {"data_root": data_root, "teachers_dir": teachers_dir, "device": device}
            job = build(trial, loaded=loaded, scratch=pools_of(run), **about)
            return Loop(job, run, on_point, pace, Validator if on == "val" else Examiner)

        try:
            loop = started()
        except Interrupted as error:
            run.write_json("note.json", {"note": str(error)})
            loop = started()
        if on == "test":
            run.warn(loop.job.cautions)
        for row in run.curve() if on == "val" and on_point else ():
            on_point(row)  # type: ignore[misc]
        loop.go()
        if on == "val":
            told = {"metrics": loop.seen or loop.examiner(loop.job.problem.student), "warnings": []}
        else:
            numbers, unavailable, warnings = finish(loop, inception, data_root)
            told = {"metrics": numbers, "unavailable": unavailable, "warnings": warnings}
        cost = {
            "seconds": loop.at.seconds,
            "seconds_total": time.perf_counter() - began,
            "peak_memory_mb": peak_memory(loop.compute.device),
        }
        origin = provenance(loop.job.card, loaded.digest, loop.compute.device)
        if on == "val":
            del origin["teacher_top1"]  # measured on test images
        result = {"id": trial.id, **told, "spend": loop.spend(), "cost": cost, "provenance": origin}
        run.finish(result)
        return result


def blind(found: TaskData, reference: bool) -> TaskData:
    """The data of a search's trial: the test images are gone, where a trial keeps them are the validation's.

    Args:
        found: the whole.
        reference: whether the method learns from real images; its training set lacks those of validation.
    """
    train = images.without_val(found) if reference else found.train
    return dataclasses.replace(found, train=train, test=found.val)


def finish(
    loop: Loop, inception: Path | None, data_root: Path | None, most: int | None = None
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Samples, metrics and the files of ``final/``; the last point was just taken.

    Args:
        loop: its budget spent.
        inception: as `run_trial` takes it.
        data_root: the same.
        most: images to draw of the method; None: what metrics and the store ask for.

    Returns:
        As `harness.metrics.base.evaluate`.
    """
    run, job, method = loop.run, loop.job, loop.method
    if not len(loop.examiner.s_logits):  # resumed after the last point
        loop.seen = loop.examiner(job.problem.student)
    final = run.path / "final"
    final.mkdir(exist_ok=True)
    weights = {k: v.detach().cpu().contiguous() for k, v in method.S.state_dict().items()}
    t = job.trial
    about = {"net": t.student, "task": t.task, "trial": t.id, "method": t.method}  # to rebuild it
    files.write(final / "student.safetensors", save(weights, metadata=about))
    kept = final_of(method)
    files.write_torch(final / "parts.pt", kept)
    restore_final(method, kept)  # a pool is cut to an excerpt: `dfkd measure` draws from the same
    n = most or how_many(inception, len(job.data.test))
    drawn = draw_samples(method, job.trial.seed, n, loop.examiner)
    samples, cut = drawn if drawn else (None, {})
    if samples is not None:
        run.write_arrays("samples.npz", {k: v[:STORED] for k, v in samples.items()})
    run.write_arrays("predictions.npz", loop.examiner.predictions())
    table = io.BytesIO()
    np.save(table, loop.examiner.confusion())
    files.write(run.path / "confusion.npy", table.getvalue())
    seen = evidence(loop.examiner, method.S, samples, loop.spend(), inception, data_root)
    numbers, unavailable, warnings = evaluate(seen, chosen(job.trial.metrics))
    shown = diagnose.after(seen, numbers, run.curve(), method.USES_DATA)
    return numbers | cut, unavailable, list(dict.fromkeys([*job.cautions, *warnings, *shown]))
