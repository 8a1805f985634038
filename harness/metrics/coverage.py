"""Whether the synthetic images show every class asked for and differ at all; warns where they do not."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from harness.errors import Unavailable
from harness.metrics.base import Column, Evidence, Metric

#: normalised entropy of the classes below which most of them are all but missing (3 of 10 alone: 0.48)
LOW_ENTROPY = 0.5
#: pixel spread, in [0, 1] units, below which images of a class are one image: 2.5 of 255 grey levels
LOW_SPREAD = 0.01
#: association of class asked and class seen below which the class asked for makes no difference: on 2,000
#: images chance reaches 0.05, and inversion methods that get 13 to 18 % of their labels right 0.10 to 0.16
LOW_ASSOCIATION = 0.1


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
    """Percent of samples that the teacher takes for the class that was asked for; warns of no relation."""
    made = ev.images_made()
    asked = made["y"] >= 0
    if not asked.any():
        raise Unavailable("images are made without asking for a class")
    found = association(made["y"][asked], made["t"][asked], ev.task.K)
    if found < LOW_ASSOCIATION:
        ev.warnings.append(
            "labels ignored: the class asked for makes no difference to the class the teacher sees "
            f"(association {found:.2f} of 1)"
        )
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


def association(asked: np.ndarray, seen: np.ndarray, K: int) -> float:
    """How far the class seen depends on the class asked for, whichever goes with which: from 0 to 1.

    Cramér's V with its bias taken off (Bergsma, J. Korean Stat. Soc. 42, 2013): with phi^2 = chi^2 / n of the
    r x c table of classes that occur, max(0, phi^2 - (r-1)(c-1)/(n-1)) over min(r', c') - 1, where
    r' = r - (r-1)^2/(n-1), c' likewise; the square root.

    Args:
        asked: (n,) classes below K.
        seen: (n,) classes below K.
        K: number of classes.

    Returns:
        0 where all images are seen as one class; NaN where one class was asked for, or where so few images
        would often reach `LOW_ASSOCIATION` / 2 by chance (about 600 are needed for ten classes).
    """
    n = len(asked)
    table = np.bincount(asked * K + seen, minlength=K * K).reshape(K, K).astype(np.float64)
    table = table[table.any(1)][:, table.any(0)]
    r, c = table.shape
    if r < 2 or n < 3:
        return float("nan")
    if c < 2:
        return 0.0
    free = (r - 1) * (c - 1)
    if np.sqrt(2 * free) / n / (min(r, c) - 1) > (LOW_ASSOCIATION / 2) ** 2:  # deviation of V^2 by chance
        return float("nan")
    expected = table.sum(1, keepdims=True) * table.sum(0) / n
    phi2 = max(0.0, float((np.square(table - expected) / expected).sum()) / n - free / (n - 1))
    wide = min(r - (r - 1) ** 2 / (n - 1), c - (c - 1) ** 2 / (n - 1))
    return float(np.sqrt(phi2 / (wide - 1)))


def _counts(ev: Evidence) -> np.ndarray:
    return np.bincount(ev.images_made()["t"], minlength=ev.task.K)


def _named(ev: Evidence, classes: Iterable[int], most: int = 5) -> str:
    names = [ev.task.classes[k] for k in classes]
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


METRICS = (
    Metric(
        *("class_coverage", "class coverage", "%", "higher", ("samples",), class_coverage),
        columns=(Column("coverage (%)", "classes the teacher sees among the images", 0),),
        place=6,
    ),
    Metric("class_entropy", "class entropy", "of 1", "higher", ("samples",), class_entropy, columns=()),
    Metric(
        *("label_match", "label match", "%", "higher", ("samples with labels",), label_match),
        columns=(
            Column("labels met (%)", "images the teacher sees as the class asked for; chance 100 / K", 0),
        ),
        place=7,
    ),
    Metric("spread", "pixel spread within a class", "of 1", "", ("samples",), spread, columns=()),
)
