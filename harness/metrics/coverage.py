"""Whether the synthetic images show every class and differ at all: mode collapse as a warning."""

from __future__ import annotations

import numpy as np

from harness.metrics.base import Evidence, Metric

#: normalised entropy of the classes below which a share of them is all but missing
LOW_ENTROPY = 0.7
#: mean over pixels of the standard deviation over images, in [0, 1] units, below which they are one image
LOW_SPREAD = 0.01


def class_coverage(ev: Evidence) -> dict[str, float]:
    """Percent of classes the teacher sees among the samples at least once; warns where one is missing."""
    seen = np.bincount(ev.images_made()["t"], minlength=ev.task.K)
    covered = 100.0 * float(np.mean(seen > 0))
    if covered < 100.0:
        absent = [ev.task.classes[k] for k in np.flatnonzero(seen == 0)]
        more = f" and {len(absent) - 5} more" if len(absent) > 5 else ""
        named = ", ".join(absent[:5]) + more
        ev.warnings.append(f"mode collapse: the teacher sees no image of class {named}")
    return {"class_coverage": covered}


def class_entropy(ev: Evidence) -> dict[str, float]:
    """Entropy of the teacher's arg-max over the samples, divided by log K: 1 is balanced, 0 one class."""
    share = np.bincount(ev.images_made()["t"], minlength=ev.task.K) / len(ev.images_made()["t"])
    share = share[share > 0]
    entropy = float(-(share * np.log(share)).sum() / np.log(ev.task.K))
    if entropy < LOW_ENTROPY:
        ev.warnings.append(f"mode collapse: class entropy {entropy:.2f} of 1 among the samples")
    return {"class_entropy": max(0.0, entropy)}


def label_match(ev: Evidence) -> dict[str, float]:
    """Percent of samples that the teacher takes for the class that was asked for; none where none was."""
    made = ev.images_made()
    asked = made["y"] >= 0
    return (
        {"label_match": 100.0 * float(np.mean(made["t"][asked] == made["y"][asked]))} if asked.any() else {}
    )


def spread(ev: Evidence) -> dict[str, float]:
    """Standard deviation over the samples, mean over pixels, [0, 1] units; warns where all are one image."""
    pixels = ev.images_made()["images"]
    value = float((pixels.astype(np.float32) / 255).std(axis=0).mean())
    if value < LOW_SPREAD:
        ev.warnings.append(f"mode collapse: the samples are nearly one image (pixel spread {value:.4f})")
    return {"spread": value}


METRICS = (
    Metric("class_coverage", "class coverage", "%", "higher", ("samples",), class_coverage),
    Metric("class_entropy", "class entropy", "of 1", "higher", ("samples",), class_entropy),
    Metric("label_match", "label match", "%", "higher", ("samples with labels",), label_match),
    Metric("spread", "pixel spread", "[0, 1]", "", ("samples",), spread),
)
