"""How often the student is right, and how often it says what the teacher says."""

from __future__ import annotations

import numpy as np

from harness.metrics.base import Evidence, Metric


def top1(ev: Evidence) -> dict[str, float]:
    """Percent of test images whose arg-max is the true class."""
    return {"top1": 100.0 * float(np.mean(ev.s_logits.argmax(1) == ev.labels))}


def agreement(ev: Evidence) -> dict[str, float]:
    """Percent of test images on which student and teacher have the same arg-max, right or wrong."""
    return {"agreement": 100.0 * float(np.mean(ev.s_logits.argmax(1) == ev.t_logits.argmax(1)))}


METRICS = (
    Metric("top1", "top-1", "%", "higher", ("student",), top1),
    Metric("agreement", "agreement with the teacher", "%", "higher", ("student", "teacher"), agreement),
)
