"""Add metrics to a finished trial: rebuilt from its files, its images drawn again, nothing trained."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from harness.compute import own_globals
from harness.config import seed_for
from harness.errors import DfkdError
from harness.metrics.base import chosen, evaluate, how_many
from harness.store.directory import TrialDir
from harness.store.warnings import renewed
from harness.trials import diagnose
from harness.trials.build import Job, build
from harness.trials.checkpoint import restore_final
from harness.trials.examine import Examiner, draw_samples, evidence
from harness.trials.provenance import kernels


def measure(
    run: TrialDir,
    names: Sequence[str],
    *,
    teachers_dir: Path,
    data_root: Path | None = None,
    inception: Path | None = None,
    device: str = "cpu",
) -> tuple[dict[str, float], dict[str, str]]:
    """Measure and put the numbers into ``result.json``, atomically.

    Args:
        run: of a trial that is done.
        names: metrics, of `harness.metrics.base.all_metrics`.
        teachers_dir: with the trial's teacher.
        data_root: see `harness.tasks.images.data_root`.
        inception: weights, for FID and KID.
        device: where.

    Returns:
        Column -> number, and column -> why there is none now; a number of before stays then.

    Raises:
        DfkdError: for a trial that is not done or running, a teacher or data other than the trial's, files
            that are missing, or a student whose accuracy is not the recorded one.
    """
    with run.lock():
        result = run.result()
        if result is None:
            raise DfkdError(f"trial {run.id} ({run.trial.cell}) is {run.settled()}: nothing to measure")
        with own_globals(seed_for(run.trial.seed, "train"), run.trial.cpus):
            job = build(run.trial, data_root=data_root, teachers_dir=teachers_dir, device=device)
            _same_origin(job, result["provenance"])
            _restore(job, run.path / "final")
            examiner = Examiner(job.data, job.problem.teacher, job.problem.compute)
            seen = examiner(job.problem.student)
            _same_student(seen["top1"], result["metrics"].get("top1"), len(job.data.test))
            n = how_many(inception, len(job.data.test))
            drawn = draw_samples(job.method, run.trial.seed, n, examiner)
            samples = drawn[0] if drawn else None
            ev = evidence(examiner, job.method.S, samples, result["spend"], inception, data_root)
            numbers, unavailable, warnings = evaluate(ev, names)
            metrics = result["metrics"] | numbers
            shown = diagnose.after(ev, metrics, run.curve(), job.method.USES_DATA)
        reasons = result.get("unavailable", {}) | unavailable
        changed = {
            "metrics": metrics,
            "unavailable": {k: v for k, v in reasons.items() if k not in metrics},
            "provenance": _with_kernels(result["provenance"]),
            "warnings": renewed(result.get("warnings", ()), [*job.cautions, *warnings, *shown]),
        }
        run.write_json("result.json", result | changed)
    return numbers, unavailable


def check_names(names: Sequence[str], asked: Sequence[str] = ()) -> list[str]:
    """The names; for none, those of every metric a trial takes, and those its grid asks for.

    Raises:
        DfkdError: for an unknown one.
    """
    every = chosen([*asked, *names])
    return list(names) or every


def _same_origin(job: Job, provenance: dict[str, Any]) -> None:
    for what, now in (("teacher", job.card.digest), ("data", job.data.digest)):
        was = str(provenance.get(f"{what}_digest", ""))
        if was and was != now:
            raise DfkdError(f"{what} was {was[:12]} when the trial ran, is {now[:12]}: run the trial anew")


def _with_kernels(provenance: dict[str, Any]) -> dict[str, Any]:
    """Provenance that tells those of the measuring, too, where they are not the trial's: see `kernels`."""
    own, now = str(provenance.get("kernels", "")), kernels()
    if not own or own == now or own.endswith(f"; measured with {now}"):
        return provenance
    return provenance | {"kernels": f"{own}; measured with {now}"}


def _restore(job: Job, final: Path) -> None:
    """The student and what makes its images, as they were at the last point."""
    try:
        student = load_file(final / "student.safetensors")
        state = torch.load(final / "parts.pt", map_location="cpu", weights_only=True)
        job.method.S.load_state_dict(student)
        restore_final(job.method, state)
    except (OSError, SafetensorError, pickle.UnpicklingError, RuntimeError, KeyError, EOFError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DfkdError(f"{final} cannot be read: {line}") from error


def _same_student(now: float, was: float | None, n: int) -> None:
    # Other hardware may turn a few close calls; more than that is another network.
    if was is not None and abs(now - was) > max(0.5, 200.0 / n):
        raise DfkdError(f"the stored student gets {now:.2f} %, the result says {was:.2f} %: damaged files")
