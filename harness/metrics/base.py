"""What a metric is: a row with a title, a unit, a direction and a function of the evidence."""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from harness.errors import Unavailable, unknown

if TYPE_CHECKING:
    from harness.config import Task
    from harness.tasks.images import Split

#: images the store keeps of a trial. Every metric but those in Inception's features looks at no more, so that
#: the n on which its number depends is the same with and without Inception weights, and from the store.
STORED = 2000


@dataclass
class Evidence:
    """All that a metric may look at, on the test split and on what the student was trained on.

    Attributes:
        labels: (N,) int64 true classes.
        t_logits, s_logits: (N, K) fp32 of teacher and student.
        t_h: (N, D) fp32 teacher features of the test images.
        samples: arrays of ``samples.npz`` (``images`` uint8 (n, C, H, W); ``y`` asked or -1; ``t``, ``s``
            arg-max of teacher and student; ``h`` (n, D) teacher feature, fp16), or None without any.
        inception: a file with Inception weights; None looks into torch's cache.
        data_digest: names the test images in caches.
        cache: where reference features may be kept, or None.
        warnings: metrics add what a reader of the table should know.
        features: Inception features of samples and test images and the weights of its last layer, once
            computed.
        val_labels, val_logits: (M,) and (M, K) of the student on the validation images.
        predict: images uint8 (n, C, H, W) of the task's shape -> the student's logits (n, K) fp32; None where
            only answers are left, no student.
        data_root: where data sets lie, as `harness.tasks.images.load` takes it.
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
    features: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None
    val_labels: np.ndarray | None = None
    val_logits: np.ndarray | None = None
    predict: Callable[[np.ndarray], np.ndarray] | None = None
    data_root: Path | None = None

    def images_made(self, most: int = STORED) -> dict[str, np.ndarray]:
        """The first ``most`` samples.

        Raises:
            Unavailable: for a method that makes none.
        """
        if self.samples is None:
            raise Unavailable("trained on real data: no synthetic images")
        if not len(self.samples["images"]):
            raise Unavailable("the method made no image")
        return {k: v[:most] for k, v in self.samples.items()}

    def test_rows(self, n: int) -> np.ndarray:
        """Which n test images stand for the split, ascending; the same for everybody, all where n = N.

        A fixed draw, not the first n: a test split may be ordered by class. MT19937 through
        `numpy.random.RandomState`, whose stream numpy promises never to change.
        """
        N = len(self.test)
        return np.arange(N) if n >= N else np.sort(np.random.RandomState(0).permutation(N)[:n])


@dataclass(frozen=True)
class Metric:
    """One row.

    Attributes:
        name: as the command line calls it.
        title, unit: for tables.
        better: ``higher``, ``lower`` or nothing.
        needs: what it takes, in words.
        fn: evidence -> column -> number, or in words why that column has none; may raise
            `harness.errors.Unavailable`.
        column: evidence -> the column that stays blank when ``fn`` raises; None where it is the name.
        opt_in: too costly for every trial: taken where a grid (`harness.config.Grid.metrics`) or
            ``dfkd measure --metrics`` asks for it. Its columns are its name, or begin with it and ``_``.
    """

    name: str
    title: str
    unit: str
    better: str
    needs: tuple[str, ...]
    fn: Callable[[Evidence], Mapping[str, float | str]]
    column: Callable[[Evidence], str] | None = None
    opt_in: bool = False


@lru_cache(maxsize=1)
def all_metrics() -> dict[str, Metric]:
    """Every metric by name: each module of this package may define ``METRICS``."""
    package = importlib.import_module("harness.metrics")
    found: dict[str, Metric] = {}
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"harness.metrics.{info.name}")
        found.update({m.name: m for m in getattr(module, "METRICS", ())})
    return found


def chosen(asked: Iterable[str] = ()) -> list[str]:
    """Names of every metric that a trial takes unasked, then of those asked for, each once.

    Raises:
        DfkdError: for an unknown one.
    """
    known, asked = all_metrics(), list(asked)
    for name in asked:
        if name not in known:
            raise unknown("metric", name, known)
    return list(dict.fromkeys([*(m.name for m in known.values() if not m.opt_in), *asked]))


def evaluate(
    ev: Evidence, names: Iterable[str] | None = None
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Measure; a metric that cannot be had never stops another.

    Args:
        ev: the evidence.
        names: which metrics; default all but those that are opt-in.

    Returns:
        Column -> finite number, column -> why there is none, and warnings about the images.

    Raises:
        DfkdError: for an unknown metric, before any is computed.
    """
    known = all_metrics()
    wanted = chosen() if names is None else list(names)
    for name in wanted:
        if name not in known:
            raise unknown("metric", name, known)
    numbers: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for metric in (known[name] for name in wanted):
        try:
            found = metric.fn(ev)
        except Unavailable as reason:
            unavailable[metric.column(ev) if metric.column else metric.name] = str(reason)
            continue
        for column, value in found.items():
            if isinstance(value, str):
                unavailable[column] = value
            elif math.isfinite(value):
                numbers[column] = float(value)
            else:
                unavailable[column] = f"the number is {value}"
    return numbers, unavailable, list(dict.fromkeys(ev.warnings))


class Title(NamedTuple):
    """How a metric is shown.

    Attributes:
        text: over the column.
        about: in half a sentence what it is.
        digits: after the point.
        scale: what its numbers are multiplied with.
    """

    text: str
    about: str
    digits: int
    scale: float = 1


#: metric, in the order of the columns; for `of` "_n_" stands for any number, "*" for any name
_TITLES: dict[str, Title] = {
    "agreement": Title("agreement (%)", "test images on which student and teacher decide alike", 2),
    "fd_teacher": Title("fd_teacher", "Fréchet distance in the teacher's features, lower is better", 1),
    "fid_n_test": Title("FID (n={0}, {1})", "lower is better", 2),
    "kid_n_test": Title("KID x 1000 (n={0}, {1})", "lower is better", 2, 1000),
    "is_n_samples": Title("Inception Score (n={0})", "higher is better; it knows ImageNet's classes", 2),
    "class_coverage": Title("coverage (%)", "classes the teacher sees among the images", 0),
    "label_match": Title(
        "labels met (%)", "images the teacher sees as the class asked for; chance 100 / K", 0
    ),
    "diversity": Title("diversity", "of images of a class, in the teacher's features; test images have 1", 2),
    "hf_ratio": Title("fine detail", "share of high frequencies; test images have 1, less is blur", 2),
    "corruption": Title("corrupted (%)", "top-1 on corrupted test images: mean of the four kinds", 2),
    "corruption_drop": Title("lost (%)", "share of the top-1 that corruption costs; lower is better", 1),
    "corruption_noise": Title("noise (%)", "top-1 under Gaussian noise, mean of five strengths", 2),
    "corruption_blur": Title("blur (%)", "top-1 under Gaussian blur, mean of five strengths", 2),
    "corruption_contrast": Title("contrast (%)", "top-1 at low contrast, mean of five strengths", 2),
    "corruption_pixelate": Title("pixelate (%)", "top-1 on pixelated images, mean of five strengths", 2),
    "shift": Title("other data set (%)", "top-1 on another data set of the same classes", 2),
    "shift_*": Title("on {0} (%)", "top-1 on the test images of another data set of the same classes", 2),
}
