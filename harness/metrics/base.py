"""What a metric is: a row with its names, its direction, its columns and a function of the evidence."""

from __future__ import annotations

import importlib
import math
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import Unavailable, unknown

if TYPE_CHECKING:
    from harness.config import Task

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
        test: the test images, (N, C, H, W) uint8, possibly memory-mapped.
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
    test: np.ndarray
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
class Column:
    """How a number is shown in a report's main table.

    Attributes:
        title: over the column; ``{}`` is what the ``*`` of ``number`` stood for.
        about: in half a sentence what it is.
        digits: after the point.
        scale: what its numbers are multiplied with.
        number: its name, where that is not the metric's; one ``*`` stands for anything: ``fid_*_test``.
    """

    title: str
    about: str = ""
    digits: int = 2
    scale: float = 1
    number: str = ""

    def of(self, number: str) -> Column | None:
        """This column for one number, its title filled in; None where the name is another."""
        found = re.fullmatch(re.escape(self.number).replace(r"\*", "(.+)"), number)
        return replace(self, title=self.title.format(*found.groups())) if found else None


@dataclass(frozen=True)
class Metric:
    """One row.

    Attributes:
        name: as the command line calls it.
        title, unit: in words.
        better: ``higher``, ``lower`` or nothing.
        needs: what it takes, in words.
        fn: evidence -> number's name -> number, or in words why there is none; may raise
            `harness.errors.Unavailable`.
        blank: evidence -> the number that is missing when ``fn`` raises; None where it is the metric's name.
        opt_in: too costly for every trial: taken where a grid (`harness.config.Grid.metrics`) or
            ``dfkd measure --metrics`` asks for it. Its numbers are its name, or begin with it and ``_``.
        columns: which of its numbers are in a report's main table; None: the one of the metric's name, under
            its title and unit.
        place: of its columns in that table, ascending.
        images: Inception weights or None, number of test images -> how many samples it looks at; None for
            no more than the store keeps.
    """

    name: str
    title: str
    unit: str
    better: str
    needs: tuple[str, ...]
    fn: Callable[[Evidence], Mapping[str, float | str]]
    blank: Callable[[Evidence], str] | None = None
    opt_in: bool = False
    columns: tuple[Column, ...] | None = None
    place: int = 99
    images: Callable[[Path | None, int], int] | None = None

    @property
    def shown(self) -> tuple[Column, ...]:
        """Its columns in a report's main table, each with the name of its number."""
        plain = Column(f"{self.title} ({self.unit})" if self.unit else self.title)
        found = (plain,) if self.columns is None else self.columns
        return tuple(replace(column, number=column.number or self.name) for column in found)


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
    asked = _known(asked)
    return list(dict.fromkeys([*(m.name for m in all_metrics().values() if not m.opt_in), *asked]))


def _known(asked: Iterable[str]) -> list[str]:
    names, known = list(asked), all_metrics()
    for name in names:
        if name not in known:
            raise unknown("metric", name, known)
    return names


def how_many(inception: Path | None, n_test: int) -> int:
    """Samples that the metrics which every trial takes look at: what the store keeps, or more."""
    taken = [m.images for m in all_metrics().values() if m.images and not m.opt_in]
    return max([STORED, *(images(inception, n_test) for images in taken)])


def columns(numbers: Iterable[str]) -> dict[str, Column]:
    """Those of the numbers that a report's main table shows, in its order, and how."""
    numbers = list(numbers)
    shown = [column for m in sorted(all_metrics().values(), key=lambda m: m.place) for column in m.shown]
    return {n: own for column in shown for n in numbers if (own := column.of(n))}


def evaluate(
    ev: Evidence, names: Iterable[str] | None = None
) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Measure; a metric that cannot be had never stops another.

    Args:
        ev: the evidence.
        names: which metrics; default all but those that are opt-in.

    Returns:
        Name -> finite number, name -> why there is none, and warnings about the images.

    Raises:
        DfkdError: for an unknown metric, before any is computed.
    """
    wanted = [all_metrics()[name] for name in (chosen() if names is None else _known(names))]
    numbers: dict[str, float] = {}
    unavailable: dict[str, str] = {}
    for metric in wanted:
        try:
            found = metric.fn(ev)
        except Unavailable as reason:
            unavailable[metric.blank(ev) if metric.blank else metric.name] = str(reason)
            continue
        for column, value in found.items():
            if isinstance(value, str):
                unavailable[column] = value
            elif math.isfinite(value):
                numbers[column] = float(value)
            else:
                unavailable[column] = f"the number is {value}"
    return numbers, unavailable, list(dict.fromkeys(ev.warnings))
