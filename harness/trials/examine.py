"""Look at a trial without touching it: accuracy, what the student is fed, evidence for metrics."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.compute import Compute
from harness.config import Trial, seed_for
from harness.errors import DfkdError, Diverged
from harness.interface import Method, Problem
from harness.metrics.accuracy import percent
from harness.metrics.base import STORED, Evidence
from harness.network import Out
from harness.store.cards import Card
from harness.tasks.cache import cache_dir
from harness.tasks.images import Split, TaskData

#: pixels of a batch, and the most images: more than this, and activations leave a CPU's caches (WRNs on
#: 28 x 28 images take 1.5 times as long by 512)
_PIXELS, _BATCH = 1 << 17, 512
#: a batch is a multiple of this many images: by 167 the logits of LeNet-5's halves have other last bits than
#: by 512, by 64, 128 or 192 the same, as those of every network that was tried
_LOT = 64


def logits_and_features(
    net: nn.Module, images: Split | np.ndarray, compute: Compute
) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and features (N, D) of a network in eval mode, fp32, on the CPU, uncounted.

    Args:
        net: a classifier.
        images: a split, or (N, C, H, W) uint8.
        compute: where.
    """
    pixels = images.images if isinstance(images, Split) else images
    logits, features = [], []
    on_cpu = compute.device.type == "cpu"
    fits = max(1, _PIXELS // (_LOT * pixels[0, 0].size)) * _LOT if on_cpu and len(pixels) else _BATCH
    batch = min(_BATCH, fits)
    with compute.plain(net):
        for start in range(0, len(pixels), batch):
            x = torch.from_numpy(np.ascontiguousarray(pixels[start : start + batch]))
            out = net(x.to(compute.device).float().div_(255), taps=("h",))
            assert isinstance(out, Out) and out.h is not None
            logits.append(out.logits.cpu())
            features.append(out.h.cpu())
    return torch.cat(logits), torch.cat(features)


class Answers:
    """What the last teachers of this process said: another trial that asks the same gets the same tensors.

    They are found by the contents of weights, buffers and images, so that no other teacher's are taken.
    """

    def __init__(self, most: int = 4) -> None:
        """Remember the last ``most``."""
        self.most = most
        self.kept: OrderedDict[tuple[object, ...], tuple[Tensor, Tensor]] = OrderedDict()

    def __call__(self, teacher: nn.Module, images: np.ndarray, compute: Compute) -> tuple[Tensor, Tensor]:
        """As `logits_and_features`."""
        seen = hashlib.sha256()
        for name, value in teacher.state_dict().items():
            seen.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
        seen.update(np.ascontiguousarray(images).tobytes())
        where = (compute.device, compute.channels_last, torch.get_num_threads())
        key = (seen.hexdigest(), images.shape, *where)
        if key not in self.kept:
            self.kept[key] = logits_and_features(teacher, images, compute)
            while len(self.kept) > self.most:
                self.kept.popitem(last=False)
        self.kept.move_to_end(key)
        return self.kept[key]


answers = Answers()


@dataclass
class Job:
    """A trial's live objects."""

    trial: Trial
    method: Method
    data: TaskData
    card: Card
    cautions: list[str]  # of `harness.trials.diagnose.before`

    @property
    def problem(self) -> Problem:
        """What the method was given."""
        return self.method.problem


@dataclass
class Examiner:
    """The test split and the teacher's answers on it, computed once."""

    data: TaskData
    teacher: nn.Module
    compute: Compute

    def __post_init__(self) -> None:
        """Ask the teacher."""
        self.t_logits, self.t_h = answers(self.teacher, self.data.test.images, self.compute)
        self.labels = torch.from_numpy(np.asarray(self.data.test.labels))
        self.s_logits = torch.empty(0)

    def __call__(self, student: nn.Module) -> dict[str, float]:
        """Percent of test images right (``top1``), and percent on which S and T agree (``agreement``).

        Raises:
            Diverged: when the student's logits are not finite.
        """
        self.s_logits, _ = logits_and_features(student, self.data.test, self.compute)
        if not bool(torch.isfinite(self.s_logits).all()):
            raise Diverged("the student's logits on the test images are not finite")
        guess = self.s_logits.argmax(1)
        return {
            "top1": percent((guess == self.labels).numpy()),
            "agreement": percent((guess == self.t_logits.argmax(1)).numpy()),
        }

    def confusion(self) -> np.ndarray:
        """(K, K) int64: rows the true class, columns the student's."""
        K = self.data.task.K
        table = torch.bincount(self.labels * K + self.s_logits.argmax(1), minlength=K * K)
        return table.reshape(K, K).numpy()

    def predictions(self) -> dict[str, np.ndarray]:
        """Of the test split: ``y`` labels, ``s`` and ``t`` arg-max of S and T, (N,), as small as K allows."""
        kind = np.min_scalar_type(self.data.task.K - 1)
        return {
            "y": self.labels.numpy().astype(kind),
            "s": self.s_logits.argmax(1).numpy().astype(kind),
            "t": self.t_logits.argmax(1).numpy().astype(kind),
        }


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
        return {"val_top1": percent(hits.numpy()), "val_nll": float(nll)}


def draw_samples(
    method: Method, seed: int, n: int, examiner: Examiner
) -> tuple[dict[str, np.ndarray], dict[str, float]] | None:
    """What the student is trained on now, as the store keeps it; None for a method that makes no images.

    Labels asked for are the same for every method: each class equally often, shuffled by the ``eval`` stream.

    Returns:
        Arrays ``images`` (n, C, H, W) uint8, ``y`` (label asked, -1 for none), ``t`` and ``s`` (arg-max of
        teacher and student), ``h`` (teacher feature, fp16); and ``clipped``, the percent of pixels that had
        left [0, 1].

    Raises:
        DfkdError: when the method returns images of a wrong shape.
        Diverged: when they are not finite.
    """
    problem = method.problem
    compute, task = problem.compute, problem.task
    rng = torch.Generator(compute.device).manual_seed(seed_for(seed, "eval"))
    drawn = []
    # What the store keeps comes first and alone, so that it does not depend on how many more FID takes.
    for part in (min(n, STORED), n - STORED):
        if part <= 0:
            continue
        labels = torch.arange(part, device=compute.device) % task.K
        labels = labels[torch.randperm(part, generator=rng, device=compute.device)]
        with compute.meter.paused(), torch.no_grad():
            made = method.sample(part, labels, rng)
        if made is None:
            return None
        if tuple(made[0].shape) != (part, *task.shape):
            raise DfkdError(
                f"sample({part}) returned shape {tuple(made[0].shape)}, not {(part, *task.shape)}"
            )
        if not bool(torch.isfinite(made[0]).all()):
            raise Diverged("the method's images are not finite")
        drawn.append(made)
    x = torch.cat([part for part, _ in drawn])
    asked = [labels for _, labels in drawn if labels is not None]
    y = torch.cat(asked) if asked else None
    clipped = 100.0 * float(((x < 0) | (x > 1)).double().mean())
    images = (x.float().clamp(0, 1) * 255).round().to(torch.uint8).cpu().contiguous().numpy()
    t, h = logits_and_features(problem.teacher, images, compute)
    s, _ = logits_and_features(problem.student, images, compute)
    arrays = {
        "images": images,
        "y": (torch.full((n,), -1) if y is None else y.cpu()).numpy().astype(np.int64),
        "t": t.argmax(1).numpy(),
        "s": s.argmax(1).numpy(),
        "h": h.numpy().astype(np.float16),
    }
    return arrays, {"clipped": clipped}


def evidence(
    examiner: Examiner,
    student: nn.Module,
    samples: dict[str, np.ndarray] | None,
    spend: dict[str, Any],
    inception: Path | None,
    data_root: Path | None = None,
) -> Evidence:
    """Everything a metric may look at; the examiner has seen the student."""
    data = examiner.data
    val_logits, _ = logits_and_features(student, data.val, examiner.compute)

    def predict(images: np.ndarray) -> np.ndarray:
        return logits_and_features(student, images, examiner.compute)[0].numpy()

    return Evidence(
        task=data.task,
        labels=examiner.labels.numpy(),
        t_logits=examiner.t_logits.numpy(),
        s_logits=examiner.s_logits.numpy(),
        t_h=examiner.t_h.numpy(),
        test=data.test.images,
        samples=samples,
        spend=spend,
        inception=inception,
        device=str(examiner.compute.device),
        data_digest=examiner.data.digest,
        cache=cache_dir(),
        val_labels=np.asarray(data.val.labels),
        val_logits=val_logits.numpy(),
        predict=predict,
        data_root=data_root,
    )
