"""One trial from names to numbers: build it, spend its budget in rounds, look at it, write it down.

Runs without Ray and without MLflow. Killed anywhere, it goes on from its checkpoint to the same bits.
"""

from __future__ import annotations

import io
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from harness import files
from harness.compute import own_globals, pick_device
from harness.config import Trial, seed_for
from harness.errors import Interrupted
from harness.metrics.base import STORED, chosen, evaluate, how_many
from harness.store.directory import TrialDir
from harness.tasks.images import load
from harness.trials import diagnose
from harness.trials.build import Job, build
from harness.trials.checkpoint import final_of, pools_of, restore_final
from harness.trials.examine import draw_samples, evidence
from harness.trials.loop import Loop, OnPoint
from harness.trials.provenance import commit, kernels, machine, peak_memory, reset_peak_memory


def run_trial(
    trial: Trial,
    run: TrialDir,
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
        loaded = load(trial.task, data_root)
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
    kept = final_of(method)
    files.write_torch(final / "parts.pt", kept)
    restore_final(method, kept)  # a pool is cut to an excerpt: `dfkd measure` draws from the same
    n = images or how_many(inception, len(job.data.test))
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


def export_student(state: Mapping[str, Tensor], path: Path, job: Job) -> None:
    """A student's weights and normaliser as safetensors, with what is needed to rebuild it as metadata."""
    about = {
        "net": job.trial.student,
        "task": job.trial.task,
        "trial": job.trial.id,
        "method": job.trial.method,
    }
    with files.whole(path) as new:
        save_file({k: v.detach().cpu().contiguous() for k, v in state.items()}, new, metadata=about)


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
