"""Whether the synthetic images show every class and differ at all: mode collapse as a warning."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.errors import Unavailable
from harness.metrics.base import Evidence, Metric

#: normalised entropy of the classes below which most of them are all but missing (3 of 10 alone: 0.48)
LOW_ENTROPY = 0.5
#: pixel spread, in [0, 1] units, below which images of a class are one image: 2.5 of 255 grey levels
LOW_SPREAD = 0.01


def class_coverage(ev: Evidence) -> dict[str, float]:
    """Percent of classes the teacher sees among the samples at least once; warns where one is missing."""
    seen = _counts(ev)
    if not seen.all():
        absent = _named(ev, np.flatnonzero(seen == 0))
        ev.warnings.append(f"mode collapse: the teacher sees no image of class {absent}")
    return {"class_coverage": 100.0 * float(np.mean(seen > 0))}


def class_entropy(ev: Evidence) -> dict[str, float]:
    """Entropy of the teacher's arg-max over the samples, divided by log K: 1 is balanced, 0 one class."""
    seen = _counts(ev)
    share = seen[seen > 0] / seen.sum()
    entropy = max(0.0, float(-(share * np.log(share)).sum() / np.log(ev.task.K)))
    if entropy < LOW_ENTROPY:
        ev.warnings.append(f"mode collapse: class entropy {entropy:.2f} of 1 among the images")
    return {"class_entropy": entropy}


def label_match(ev: Evidence) -> dict[str, float]:
    """Percent of samples that the teacher takes for the class that was asked for."""
    made = ev.images_made()
    asked = made["y"] >= 0
    if not asked.any():
        raise Unavailable("images are made without asking for a class")
    return {"label_match": 100.0 * float(np.mean(made["t"][asked] == made["y"][asked]))}


def spread(ev: Evidence) -> dict[str, float]:
    """Standard deviation of a pixel among samples of one (teacher) class, root mean square, [0, 1] units.

    Pooled with n_k - 1 over classes with two samples or more: 1 / sqrt(2) of the root mean square
    difference of two such samples. Within classes, because a conditional generator collapses to one image
    per class; each class whose own spread is tiny is named in a warning.
    """
    made = ev.images_made()
    squares, free = np.zeros(ev.task.K), np.zeros(ev.task.K)
    for k in range(ev.task.K):
        x = made["images"][made["t"] == k]
        if len(x) > 1:
            total = x.sum(0, dtype=np.int64)
            raw = np.square(x, dtype=np.uint16).sum(0, dtype=np.int64)  # 255^2 still fits; sums are exact
            squares[k] = float((raw - total**2 / len(x)).mean()) / 255**2
            free[k] = len(x) - 1
    if not free.any():
        raise Unavailable("no class has two images to compare")
    own = np.sqrt(squares / np.maximum(free, 1))
    if (same := np.flatnonzero((free > 0) & (own < LOW_SPREAD))).size:
        ev.warnings.append(f"mode collapse: the images of class {_named(ev, same)} are nearly one image")
    return {"spread": float(np.sqrt(squares.sum() / free.sum()))}


def _counts(ev: Evidence) -> np.ndarray:
    return np.bincount(ev.images_made()["t"], minlength=ev.task.K)


def _named(ev: Evidence, classes: Iterable[int], most: int = 5) -> str:
    names = [ev.task.classes[k] for k in classes]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


METRICS = (
    Metric("class_coverage", "class coverage", "%", "higher", ("samples",), class_coverage),
    Metric("class_entropy", "class entropy", "of 1", "higher", ("samples",), class_entropy),
    Metric("label_match", "label match", "%", "higher", ("samples with labels",), label_match),
    Metric("spread", "pixel spread within a class", "of 1", "", ("samples",), spread),
)
