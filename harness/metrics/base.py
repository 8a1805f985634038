"""What a metric is: a row with a title, a unit, a direction and a function of the evidence."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import Unavailable, unknown

if TYPE_CHECKING:
    import numpy as np

    from harness.data import Split
    from harness.interface import Task


@dataclass
class Evidence:
    """All that a metric may look at, on the test split and on what the student was trained on.

    Attributes:
        labels: (N,) int64 true classes.
        t_logits, s_logits: (N, K) fp32 of teacher and student.
        t_h: (N, D) fp32 teacher features of the test images.
        samples: arrays of ``samples.npz`` (``images`` uint8 (n, C, H, W); ``y`` asked or -1; ``t``, ``s``
            arg-max of teacher and student; ``h`` (n, D) teacher feature, fp16), or None without any.
        inception: a file with Inception weights, or None.
        data_digest: names the test images in caches.
        cache: where reference features may be kept, or None.
        warnings: metrics add what a reader of the table should know.
        features: Inception features of samples and test images, once computed.
    """

    task: Task
    labels: np.ndarray
    t_logits: np.ndarray
    s_logits: np.ndarray
    t_h: np.ndarray
    test: Split
    samples: dict[str, np.ndarray] | None
    spend: Mapping[str, Any] = field(default_factory=dict)
    inception: Path | None = None
    device: str = "cpu"
    data_digest: str = ""
    cache: Path | None = None
    warnings: list[str] = field(default_factory=list)
    features: tuple[np.ndarray, np.ndarray] | None = None

    def images_made(self) -> dict[str, np.ndarray]:
        """The samples.

        Raises:
            Unavailable: for a method that makes none.
        """
        if self.samples is None:
            raise Unavailable("trained on real data: no synthetic images")
        return self.samples


@dataclass(frozen=True)
class Metric:
    """One row.

    Attributes:
        name: as the command line calls it; a column's name may add n and split to it.
        title, unit: for tables.
        better: ``higher``, ``lower`` or nothing.
        needs: what it takes, in words.
        fn: evidence -> column -> number; may raise `harness.errors.Unavailable`.
    """

    name: str
    title: str
    unit: str
    better: str
    needs: tuple[str, ...]
    fn: Callable[[Evidence], dict[str, float]]


@lru_cache(maxsize=1)
def all_metrics() -> dict[str, Metric]:
    """Every metric by name: each module of this package may define ``METRICS``."""
    package = importlib.import_module("harness.metrics")
    found: dict[str, Metric] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"harness.metrics.{info.name}")
        found.update({m.name: m for m in getattr(module, "METRICS", ())})
    return found


def evaluate(
    ev: Evidence, names: Iterable[str] | None = None
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Measure.

    Args:
        ev: the evidence.
        names: which metrics; default all.

    Returns:
        Column -> number, metric -> why it cannot be had, and warnings about the images.

    Raises:
        DfkdError: for an unknown metric.
    """
    known = all_metrics()
    numbers: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for name in known if names is None else names:
        if name not in known:
            raise unknown("metric", name, known)
        try:
            numbers |= {k: float(v) for k, v in known[name].fn(ev).items()}
        except Unavailable as reason:
            unavailable[name] = str(reason)
    return numbers, unavailable, list(dict.fromkeys(ev.warnings))
