"""How often the student is right, and how often it says what the teacher says."""

from __future__ import annotations

import numpy as np

from harness.errors import Unavailable
from harness.metrics.base import Column, Evidence, Metric


def top1(ev: Evidence) -> dict[str, float]:
    """Percent of test images whose arg-max is the true class."""
    return {"top1": right(ev.s_logits, ev.labels)}


def agreement(ev: Evidence) -> dict[str, float]:
    """Percent of test images on which student and teacher have the same arg-max, right or wrong."""
    return {"agreement": percent(_decisions(ev.s_logits, "student") == _decisions(ev.t_logits, "teacher"))}


def val(ev: Evidence) -> dict[str, float]:
    """On the validation images: percent right, and mean cross-entropy in nats; settings are chosen by it."""
    if ev.val_logits is None or ev.val_labels is None:
        raise Unavailable("no validation images")
    top1 = right(ev.val_logits, ev.val_labels)
    from scipy.special import log_softmax  # a listing of metrics does not need it

    log_p = log_softmax(ev.val_logits.astype(np.float64), axis=1)
    nll = -log_p[np.arange(len(log_p)), ev.val_labels].mean()
    return {"val_top1": top1, "val_nll": float(nll)}


def _decisions(logits: np.ndarray, whose: str) -> np.ndarray:
    # numpy's arg-max of a row with a NaN is the NaN's place: a class, and thus a number, out of nothing
    if not np.isfinite(logits).all():
        raise Unavailable(f"the {whose}'s logits are not finite")
    found: np.ndarray = logits.argmax(1)
    return found


def right(logits: np.ndarray, labels: np.ndarray) -> float:
    """Percent of the student's logits (N, K) whose arg-max is the label (N,).

    Raises:
        Unavailable: for logits that are not finite.
    """
    return percent(_decisions(logits, "student") == labels)


def percent(hits: np.ndarray) -> float:
    """Percent that is true, of booleans (N,)."""
    return 100.0 * float(np.mean(hits))


METRICS = (
    # a report says how it was reached, in columns of its own
    Metric("top1", "top-1", "%", "higher", ("student",), top1, columns=()),
    Metric(
        *("val", "top-1 and cross-entropy on val", "%, nats", "", ("student",), val),
        blank=lambda ev: "val_top1",
        columns=(),
    ),
    Metric(
        *("agreement", "agreement with the teacher", "%", "higher", ("student", "teacher"), agreement),
        columns=(Column("agreement (%)", "test images on which student and teacher decide alike"),),
        place=1,
    ),
)
