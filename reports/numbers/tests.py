"""Tests between rows of a table, as pure functions: signed ranks, Holm, effect sizes, Friedman, Nemenyi.

Sources: Wilcoxon 1945; Holm 1979; Tarone 1990; Hedges 1981; Friedman 1937; Nemenyi 1963; Demšar 2006 (Journal
of Machine Learning Research 7) for the critical difference and what it is used for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, norm, rankdata, studentized_range

#: chance of calling a difference that is not there, over a whole family of comparisons
ALPHA = 0.05
#: up to so many pairs the distribution of the signed ranks is counted out, above it is taken as normal
EXACT = 50
#: accuracies are compared after rounding to so many digits: 0.1 + 0.2 and 0.3 are a tie
_DIGITS = 9


class SignedRank(NamedTuple):
    """Two-sided p, the smallest p that so many pairs can give, how many differ, and which way (-1, 0, 1)."""

    p: float
    smallest: float
    n: int
    way: int


class Friedman(NamedTuple):
    """Mean rank of each row (1 is best), the statistic corrected for ties, and its p (chi squared)."""

    ranks: list[float]
    statistic: float
    p: float


def signed_rank(differences: Sequence[float]) -> SignedRank:
    """Wilcoxon's signed-rank test that paired differences are symmetric around 0.

    Pairs without a difference are dropped and ties share a rank. Up to `EXACT` pairs every one of the 2^n
    signs is counted, ties included, so p holds for any n; above it the normal approximation with the
    correction for ties and without one for continuity.

    Args:
        differences: one a pair.

    Returns:
        p = 1 where no pair differs. ``smallest`` is 2 / 2^n: n = 3 can give no less than 0.25.
    """
    d = np.round(np.asarray(differences, dtype=np.float64), _DIGITS)
    d = d[d != 0]
    n = len(d)
    smallest = min(1.0, 2.0 ** (1 - n))
    if not n:
        return SignedRank(1.0, 1.0, 0, 0)
    doubled = np.rint(2 * rankdata(np.abs(d))).astype(np.int64)  # whole numbers, with ties too
    up, total = int(doubled[d > 0].sum()), int(doubled.sum())
    way = (2 * up > total) - (2 * up < total)
    if n > EXACT:
        spread = math.sqrt(float(np.sum((doubled / 2) ** 2)) / 4)
        return SignedRank(float(2 * norm.sf(abs(up - total / 2) / 2 / spread)), smallest, n, way)
    share = np.zeros(total + 1)
    share[0] = 1.0
    for rank in doubled:
        share[rank:] += share[: total + 1 - rank].copy()
    tail = min(share[: up + 1].sum(), share[up:].sum()) / 2.0**n
    return SignedRank(min(1.0, 2 * float(tail)), smallest, n, way)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment: rejecting what is <= alpha errs once in a family at most alpha often."""
    order = np.argsort(np.asarray(p), kind="stable")
    adjusted, worst = [math.nan] * len(p), 0.0
    for place, i in enumerate(order):
        worst = max(worst, (len(p) - place) * float(p[i]))
        adjusted[i] = min(1.0, worst)
    return adjusted


def effect(differences: Sequence[float]) -> float:
    """Hedges' g of paired differences: Cohen's d_z, mean over deviation, with the correction for small n.

    ``g = J(n - 1) mean / s`` with ``J(m) = Gamma(m / 2) / (sqrt(m / 2) Gamma((m - 1) / 2))``.

    Returns:
        NaN below three pairs (J is not there) and without any spread.
    """
    d = np.round(np.asarray(differences, dtype=np.float64), _DIGITS)
    m = len(d) - 1
    if m < 2 or not (s := float(d.std(ddof=1))):
        return math.nan
    J = math.exp(math.lgamma(m / 2) - math.lgamma((m - 1) / 2)) / math.sqrt(m / 2)
    return J * float(d.mean()) / s


def friedman(values: NDArray[np.float64]) -> Friedman:
    """Friedman's test that rows are ranked at random in every cell.

    Args:
        values: (cells, rows) accuracies, higher is better; ties share a rank.

    Returns:
        p = 1 where nothing differs in any cell.
    """
    N, k = values.shape
    ranks = np.stack([rankdata(-np.round(cell, _DIGITS)) for cell in values])
    mean = ranks.mean(axis=0)
    square = float(np.sum((ranks - (k + 1) / 2) ** 2))  # N (k - 1) k (k + 1) / 12 without ties
    if not square:
        return Friedman(mean.tolist(), 0.0, 1.0)
    statistic = N**2 * (k - 1) * float(np.sum((mean - (k + 1) / 2) ** 2)) / square
    return Friedman(mean.tolist(), statistic, float(chi2.sf(statistic, k - 1)))


def critical_difference(rows: int, cells: int, alpha: float = ALPHA) -> float:
    """Nemenyi: mean ranks that are further apart differ; ``q sqrt(k (k + 1) / (6 N))``.

    q is the quantile of the studentized range with infinite degrees of freedom over sqrt 2. It is asymptotic
    in the cells; simulated under pure chance (20,000 draws, 3 to 19 rows, 3 to 10 cells) it calls a
    difference in 0.4 to 5.5 % of the tables, so few cells make it cautious, not bold.
    """
    q = float(studentized_range.ppf(1 - alpha, rows, np.inf)) / math.sqrt(2)
    return q * math.sqrt(rows * (rows + 1) / (6 * cells))


def cells_needed(rows: int) -> int:
    """The fewest cells in which first and last can differ at all: mean ranks are at most rows - 1 apart."""
    one = critical_difference(rows, 1)
    return math.floor((one / (rows - 1)) ** 2) + 1
