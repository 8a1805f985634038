"""Statistics of a table's cell, as pure functions on plain numbers. Accuracies are percent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

#: a curve climbs when its end rises by more than this many points and by more than its own noise
CLIMB_POINTS = 0.3
CLIMB_ERRORS = 2.0


class Interval(NamedTuple):
    """Mean, half-width of the t-interval (NaN below two values), and how many values there were."""

    mean: float
    half: float
    n: int


class Crossed(NamedTuple):
    """Mean over seeds and images, its half-width over both (NaN for one seed), and over images alone."""

    mean: float
    half: float
    images: float


class Climb(NamedTuple):
    """How much a curve rose at its end, and the standard error of that, in points of accuracy.

    Attributes:
        rise, error: mean over the last ``end`` of the curve's ``of`` points, less that over as many before.
    """

    rise: float
    error: float
    end: int
    of: int

    @property
    def climbing(self) -> bool:
        """Whether the rise is more than `CLIMB_POINTS` and `CLIMB_ERRORS` standard errors."""
        return self.rise > max(CLIMB_POINTS, CLIMB_ERRORS * self.error)


def interval(values: Sequence[float]) -> Interval:
    """Mean and two-sided 95 % t-interval over seeds; a NaN is no value.

    Args:
        values: one number a seed.

    Returns:
        mean ± ``t(n - 1) * s / sqrt(n)`` with the sample deviation ``s``; the mean of nothing is NaN.
    """
    x = np.asarray(values, dtype=np.float64)
    x = x[~np.isnan(x)]
    if not len(x):
        return Interval(math.nan, math.nan, 0)
    mean = math.fsum(x) / len(x)
    if len(x) == 1:
        return Interval(mean, math.nan, 1)
    quantile = float(student_t.ppf(0.975, len(x) - 1))
    return Interval(mean, quantile * float(x.std(ddof=1)) / math.sqrt(len(x)), len(x))


def crossed(d: NDArray[np.float64]) -> Crossed:
    """95 % interval of a mean whose seeds and test images are both a sample: two crossed random effects.

    ``d[s, i] = m + a_s + b_i + e_si``, so the variance of the mean is ``(A + B + E) / (S I)`` with
    ``A = max(0, MS_seed - MS_rest)``, ``B = max(0, MS_image - MS_rest)`` and ``E = MS_rest``: an effect whose
    estimate is negative is taken as none. The quantile has Satterthwaite's degrees of freedom. With few
    seeds those are too many (simulated, three seeds: 92 % covered instead of 95), so the half-width is
    never less than what the seeds' means alone, or the images' means alone, give with their own.

    Args:
        d: (S, I) numbers, one row a seed, one column an image, say correct_row - correct_base.

    Returns:
        In the units of ``d``. ``images``, the half-width with these very seeds, is the resolution of the test
        set: no effect below it can be told from another draw of images. NaN where there is one image.
    """
    S, I = d.shape  # noqa: E741 - as in the equation
    mean = float(d.mean())
    images, seeds = (interval(d.mean(axis=axis).tolist()).half for axis in (0, 1))
    if S < 2 or I < 2:
        return Crossed(mean, math.nan, images)
    of_seed, of_image = d.mean(axis=1, keepdims=True) - mean, d.mean(axis=0, keepdims=True) - mean
    rest = d - mean - of_seed - of_image
    free = np.array([S - 1, I - 1, (S - 1) * (I - 1)])
    squares = np.array([I * np.sum(of_seed**2), S * np.sum(of_image**2), np.sum(rest**2)]) / free
    there = squares[:2] > squares[2]
    weights = np.array([*there, 1 - np.sum(there)])  # MS_seed + MS_image - MS_rest where both are there
    total = float(weights @ squares)
    if total <= 0:  # no spread at all
        return Crossed(mean, 0.0, images)
    df = total**2 / float(np.sum((weights * squares) ** 2 / free))
    joint = float(student_t.ppf(0.975, df)) * math.sqrt(total / (S * I))
    return Crossed(mean, max(joint, seeds, images), images)


def at_chance(values: Sequence[float], failures: int, classes: float) -> float:
    """Mean accuracy with each failed seed counted as guessing, ``100 / classes``; NaN for unknown classes."""
    x = [v for v in values if not math.isnan(v)] + [100.0 / classes] * failures
    return math.fsum(x) / len(x) if x else math.nan


def climb(curve: Sequence[float]) -> Climb | None:
    """Compare the last tenth of a curve, two points at least, with as many points before it.

    Args:
        curve: accuracy at equally spaced points, in percent, one run or the mean over seeds.

    Returns:
        ``mean(last) - mean(before)`` and its standard error, the points of each taken as independent. None
        for a curve of less than four.
    """
    y = np.asarray(curve, dtype=np.float64)
    m = max(2, len(y) // 10)
    if len(y) < 2 * m:
        return None
    last, before = y[-m:], y[-2 * m : -m]
    error = math.sqrt((last.var(ddof=1) + before.var(ddof=1)) / m)
    return Climb(float(last.mean() - before.mean()), error, m, len(y))
