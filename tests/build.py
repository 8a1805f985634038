"""Trial directories as a finished run leaves them, without running anything: numbers are drawn."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.config import Trial

POINTS = 100
TERMS = ("G/adv", "G/bn", "G/oh", "S/kd", "S/ce")


def finish(out: Path, trials: Sequence[Trial], images: int = 40, side: int = 32) -> None:
    """Write the result, curve, samples and predictions of every trial under ``out``.

    Args:
        out: the store.
        trials: each with its own accuracy, drawn from its id.
        images: in ``samples.npz``; 2,000 in a real one.
        side: of an image, in pixels.
    """
    rng = np.random.default_rng(0)
    samples = _npz(
        images=rng.integers(0, 255, (images, 3, side, side), dtype=np.uint8),
        y=np.arange(images) % 10, t=np.arange(images) % 10, s=np.arange(images) % 10,
        h=rng.normal(size=(images, 64)).astype(np.float16),
    )  # fmt: skip
    y = rng.integers(0, 10, 1000).astype(np.uint8)
    for trial in trials:
        own = np.random.default_rng(zlib.crc32(trial.id.encode()))
        top1 = 60 + 30 * own.random() + own.normal(0, 0.3, POINTS) - 20 * np.exp(-np.arange(POINTS) / 15)
        losses = own.random((POINTS, len(TERMS)))
        lines = [
            json.dumps(
                {"point": i + 1, "round": 10 * (i + 1), "student_updates": 50 * (i + 1),
                 "flops": 1.4e11 * (i + 1), "seconds": 0.7 * (i + 1), "top1": top1[i], "agreement": top1[i]}
                | dict(zip(TERMS, losses[i].tolist(), strict=True))
            )
            for i in range(POINTS)
        ]  # fmt: skip
        s = np.where(own.random(len(y)) < top1[-1] / 100, y, (y + 1) % 10).astype(np.uint8)
        folder = out / "trials" / trial.id
        folder.mkdir(parents=True)
        (folder / "curve.jsonl").write_text("\n".join(lines) + "\n")
        (folder / "samples.npz").write_bytes(samples)
        (folder / "predictions.npz").write_bytes(_npz(y=y, s=s))
        (folder / "lock").touch()
        (folder / "trial.json").write_text(json.dumps({"id": trial.id} | trial.model_dump(mode="json")))
        (folder / "result.json").write_text(json.dumps(_result(trial, float(top1[-1])), indent=1))


def _result(trial: Trial, top1: float) -> dict[str, object]:
    return {
        "id": trial.id,
        "metrics": {
            "top1": top1, "agreement": top1, "val_top1": top1, "fd_teacher": 200 - top1,
            "class_coverage": 100.0,
        },
        "unavailable": {"fid_10000_test": "no Inception weights: give --inception-weights FILE"},
        "warnings": [],
        "spend": {"rounds": 1000, "student_updates": 5000, "flops": 1.4e13},
        "cost": {"seconds": 70.0, "seconds_total": 80.0, "peak_memory_mb": 900.0},
        "provenance": {
            "teacher_digest": f"{zlib.crc32(f'{trial.task} {trial.teacher}'.encode()):08x}" * 8,
            "teacher_top1": 95.0, "data_digest": f"{zlib.crc32(trial.task.encode()):08x}" * 8,
            "device": "cpu", "threads": trial.cpus, "python": "3.12.3", "machine": "x86_64, 2 cores",
            "commit": "0123456789ab",
        },
    }  # fmt: skip


def _npz(**arrays: np.ndarray) -> bytes:
    whole = io.BytesIO()
    np.savez_compressed(whole, **arrays)  # type: ignore[arg-type]
    return whole.getvalue()
