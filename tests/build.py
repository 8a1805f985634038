"""What many tests make: trials, rows of curves, results, directories as a run leaves them; runs nothing."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import registry
from harness.config import Budget, Task, Trial
from harness.errors import DfkdError
from harness.metrics.base import Evidence
from harness.settings import resolve
from harness.store.cards import Card
from harness.store.directory import Kind, TrialDir
from harness.tasks.catalog import RECIPES

POINTS = 100
TERMS = ("G/adv", "G/bn", "G/oh", "S/kd", "S/ce")


def trial(seed: int = 0, **change: Any) -> Trial:
    """A trial of ten rounds on digits, of a method that there is none of; any field may be another."""
    fields: dict[str, Any] = {
        "task": "digits", "task_version": 1, "teacher": "wrn16_2", "student": "wrn16_1", "method": "noop",
        "method_version": 1, "settings": {}, "recipe": RECIPES["small"], "teacher_seed": 0,
        "budget": Budget(amount=10), "seed": seed, "label": "noop", "points": 4,
    }  # fmt: skip
    return Trial(**(fields | change))


def trial_of(method: str, given: Mapping[str, Any] | None = None, **change: Any) -> Trial:
    """The same of a method that there is, under its own name, its settings resolved from those given."""
    cls = registry.methods.get(method)
    settings = resolve(method, cls.HP, cls.PRESETS, dict(given or {}))
    own = {"method": method, "method_version": cls.VERSION, "settings": settings, "label": method}
    return trial(**(own | change))


def row(point: int, **more: float) -> dict[str, Any]:
    """A point of a curve: five rounds, ten updates and half a second after the last."""
    counts = {"point": point, "round": 5 * point, "student_updates": 10 * point, "flops": 1e9 * point}
    return counts | {"seconds": 0.5 * point, "top1": 10.0 * point, "agreement": 10.0 * point} | more


def result(trial: Trial, **sections: Any) -> dict[str, Any]:
    """A whole ``result.json``: a dictionary adds to its section, anything else takes its place."""
    found: dict[str, Any] = {
        "id": trial.id,
        "metrics": {"top1": 90.0, "agreement": 91.0},
        "unavailable": {},
        "warnings": [],
        "spend": {"rounds": 10, "student_updates": 20, "flops": 2e9},
        "cost": {"seconds": 1.0, "seconds_total": 2.0, "peak_memory_mb": 900.0},
        "provenance": {
            "teacher_digest": "ab" * 32, "teacher_top1": 95.0, "data_digest": "cd" * 32, "device": "cpu",
            "threads": trial.cpus, "torch": "2.9.0+cpu", "python": "3.12.3", "machine": "x86_64, 2 cores",
            "kernels": "torch AVX2, openblas 0.3.30 Zen", "commit": "0123456789ab",
        },
    }  # fmt: skip
    for name, value in sections.items():
        found[name] = found[name] | value if isinstance(value, Mapping) else value
    return found


def finished(
    out: Path,
    trial: Trial,
    curve: Sequence[float] = (50.0, 90.0),
    arrays: Mapping[str, Mapping[str, np.ndarray]] | None = None,
    **sections: Any,
) -> TrialDir:
    """The directory of a finished trial.

    Args:
        out: the store.
        trial: which.
        curve: its top-1, point by point.
        arrays: file name -> what is in it.
        sections: as in `result`.
    """
    run = TrialDir(out, trial)
    run.prepare()
    run.cut(0)
    for point, top1 in enumerate(curve, 1):
        run.append(row(point, top1=top1))
    for name, values in (arrays or {}).items():
        run.write_arrays(name, values)
    run.finish(result(trial, **sections))
    return run


def a_task(side: int = 32, channels: int = 3, classes: int = 10, augment: Iterable[str] = ()) -> Task:
    """A task without files."""
    mean, std = (0.49, 0.48, 0.44)[:channels], (0.2, 0.25, 0.3)[:channels]
    names = tuple(f"class {k}" for k in range(classes))
    return Task("toy", 1, channels, side, names, mean, std, frozenset(augment))


#: four classes, pictures of 2 x 2 grey pixels
ANIMALS = Task("toy", 1, 1, 2, ("ant", "bee", "cat", "dog"), (0.5,), (0.5,))


def samples(t: Sequence[int], task: Task = ANIMALS, **given: Any) -> dict[str, np.ndarray]:
    """Arrays of a ``samples.npz`` whose images the teacher takes for ``t``: noise that nobody asked for."""
    rng, n = np.random.default_rng(0), len(t)
    made = {
        "images": rng.integers(0, 256, (n, *task.shape)).astype(np.uint8),
        "y": np.full(n, -1), "t": t, "s": t, "h": rng.normal(size=(n, 3)).astype(np.float16),
    }  # fmt: skip
    return {name: np.asarray(array) for name, array in (made | given).items()}


def evidence(samples: Mapping[str, np.ndarray] | None = None, task: Task = ANIMALS, **given: Any) -> Evidence:
    """What a metric looks at; arrays that are not given are zeros, for as many test images as the others."""
    sized = ("labels", "t_logits", "s_logits", "t_h", "test")
    n = max((len(given[k]) for k in sized if k in given), default=1)
    nothing = {
        "labels": np.zeros(n, np.int64), "t_logits": np.zeros((n, task.K), np.float32),
        "s_logits": np.zeros((n, task.K), np.float32), "t_h": np.zeros((n, 3), np.float32),
        "test": np.zeros((n, *task.shape), np.uint8), "samples": samples and dict(samples),
    }  # fmt: skip
    return Evidence(task=task, **(nothing | given))


def teacher(path: Path, weights: bytes = b"weights", **change: Any) -> Path:
    """A teacher's file and its card, as a training leaves them; any field of the card may be another."""
    fields: dict[str, Any] = {
        "task": "digits", "task_version": 1, "net": "wrn16_2", "recipe": RECIPES["small"], "seed": 0,
        "mean": (0.5,), "std": (0.5,), "top1": 99.0, "data_digest": "cd" * 32,
        "digest": hashlib.sha256(weights).hexdigest(), "source": "trained",
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(weights)
    path.with_suffix(".json").write_text(Card(**(fields | change)).model_dump_json())
    return path


def write(root: Path, files: Mapping[str, bytes]) -> Path:
    """A folder with these files in it."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zero bytes, 8 for unsigned bytes, the rank, the sizes big-endian, the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist() -> dict[str, bytes]:
    """MNIST's four files with 40 training and 20 test images, drawn; they belong into ``MNIST/raw``."""
    stream, files = np.random.default_rng(0), {}
    for part, n in (("train", 40), ("t10k", 20)):
        files[f"{part}-images-idx3-ubyte"] = idx(stream.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx((np.arange(n) % 10).astype(np.uint8))
    return files


def refused(call: Callable[[], Any], *says: str) -> None:
    """The call ends in one line for the user that has these words."""
    with pytest.raises(DfkdError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    for words in says:
        assert words in text


def frame_rows(*top1: float | None, **more: Any) -> list[dict[str, Any]]:
    """Rows of a results frame: a row of the table's trials, one a seed; None is a failed one.

    Args:
        top1: of each seed, in percent.
        more: columns that are to be otherwise, of all seeds.
    """
    label = more.get("variant", "cpsc")
    shared = {
        "task": "digits", "teacher": "wrn16_2", "student": "wrn16_1", "variant": label, "method": "cpsc",
        "reference": False, "control": False, "teacher_seed": 0, "budget": "100:rounds", "precision": "fp32",
        "settings": "{}", "reason": "", "stale": "", "warnings": "", "unavailable": "",
        "teacher_digest": "aa", "machine": "m", "data_digest": "dd", "classes": 10.0, "teacher_top1": 99.0,
    }  # fmt: skip
    failed = {"status": "failed", "reason": "boom", "teacher_digest": "", "data_digest": ""}
    rows = []
    for seed, value in enumerate(top1):
        own = {"id": f"{label}-{seed}-{sorted(map(str, more.items()))}", "seed": seed, "status": "done"}
        own |= {"top1": np.nan if value is None else value, **(failed if value is None else {})}
        rows.append(shared | own | more)
    return rows


def populate(out: Path, trials: Sequence[Trial], images: int = 40, side: int = 32) -> None:
    """Write the result, curve, samples and predictions of every trial under ``out``; numbers are drawn.

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
        (folder / "result.json").write_text(json.dumps(_drawn(trial, float(top1[-1])), indent=1))


def _drawn(trial: Trial, top1: float) -> dict[str, Any]:
    teacher = f"{zlib.crc32(f'{trial.task} {trial.teacher}'.encode()):08x}" * 8
    found = result(
        trial,
        metrics={
            "top1": top1, "agreement": top1, "val_top1": top1, "fd_teacher": 200 - top1,
            "class_coverage": 100.0,
        },
        unavailable={"fid_10000_test": "no Inception weights: give --inception-weights FILE"},
        spend={"rounds": 1000, "student_updates": 5000, "flops": 1.4e13},
        cost={"seconds": 70.0, "seconds_total": 80.0},
        provenance={
            "teacher_digest": teacher, "data_digest": f"{zlib.crc32(trial.task.encode()):08x}" * 8,
        },
    )  # fmt: skip
    for name in ("torch", "kernels"):  # as results of before there were any
        del found["provenance"][name]
    return found


def _npz(**arrays: np.ndarray) -> bytes:
    whole = io.BytesIO()
    np.savez_compressed(whole, **arrays)  # type: ignore[arg-type]
    return whole.getvalue()


def failed(
    out: Path, trial: Trial, kind: Kind = "method", reason: str = "loss of 'G' is not finite"
) -> TrialDir:
    """The directory of a trial that has a reason in place of a result."""
    run = TrialDir(out, trial)
    run.prepare()
    run.fail(kind, reason)
    return run


@contextmanager
def holder(run: TrialDir, seconds: float = 60.0) -> Iterator[None]:
    """Another process holds the trial for so long, or to the end of the block."""
    run.path.mkdir(parents=True, exist_ok=True)
    code = (
        "import sys, time; from filelock import FileLock; lock = FileLock(sys.argv[1]); lock.acquire();"
        "print('held', flush=True); time.sleep(float(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, str(run.path / "lock"), str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        try:
            yield
        finally:
            process.kill()
