"""Fréchet and kernel distance of two sets of features, Inception Score of one; all in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.errors import Unavailable
from harness.metrics.base import Column, Evidence, Metric

Floats = NDArray[np.float64]
#: rows of the kernel matrix held at a time
_BLOCK = 1000


def frechet_features(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features (Heusel et al., 1706.08500).

    |mu1 - mu2|^2 + tr(S1) + tr(S2) - 2 tr((S1 S2)^1/2), covariances with n - 1. The last trace is the nuclear
    norm of A^T B for any S1 = A A^T and S2 = B B^T: no matrix square root, no eps, exact for singular
    covariances, and no D x D matrix where there are fewer rows than columns.

    Args:
        a: (n, D), n >= 2.
        b: (m, D), m >= 2.

    Returns:
        At least 0: what rounding leaves below is clipped.

    Raises:
        Unavailable: for fewer than two rows or values that are not finite.
    """
    x, y = _rows(a), _rows(b)
    return _distance(x.mean(0) - y.mean(0), _scatter(x), _scatter(y))


def _distance(mean: Floats, a: Floats, b: Floats) -> float:
    """From a difference of means and factors a, b with covariances a^T a and b^T b."""
    with np.errstate(over="ignore", invalid="ignore"):
        cross = a @ b.T
        around = float(mean @ mean + (a**2).sum() + (b**2).sum())
    # looked at first: LAPACK need not complain, and max(0.0, nan) is 0.0
    if not (np.isfinite(cross).all() and np.isfinite(around)):
        raise Unavailable("features are too large for a distance")
    return max(0.0, around - 2 * float(np.linalg.svd(cross, compute_uv=False).sum()))


def _scatter(x: Floats) -> Floats:
    """A factor of the covariance with as many rows as columns at most: of Q R, Q drops out."""
    x = (x - x.mean(0)) / np.sqrt(len(x) - 1)
    if len(x) <= x.shape[1]:
        return x
    r: Floats = np.linalg.qr(x, mode="r")  # type: ignore[assignment]
    return r


def kid(a: np.ndarray, b: np.ndarray) -> float:
    """Kernel distance: unbiased squared MMD with k(x, y) = (x.y / D + 1)^3 (Binkowski et al., 1801.01401).

    Over the whole sets, not over subsets: no draw, no spread. May be slightly negative.

    Args:
        a: (n, D), n >= 2.
        b: (m, D), m >= 2.

    Raises:
        Unavailable: for fewer than two rows or values that are not finite.
    """
    x, y = _rows(a), _rows(b)
    with np.errstate(over="ignore", invalid="ignore"):
        value = _within(x) + _within(y) - 2 * _kernel_sum(x, y) / (len(x) * len(y))
    if not np.isfinite(value):
        raise Unavailable("features are too large for a distance")
    return value


def _within(x: Floats) -> float:
    """Mean of the kernel over pairs of different rows."""
    diagonal = float((((x**2).sum(1) / x.shape[1] + 1.0) ** 3).sum())
    return (_kernel_sum(x, x) - diagonal) / (len(x) * (len(x) - 1))


def _kernel_sum(x: Floats, y: Floats) -> float:
    total = 0.0
    for start in range(0, len(x), _BLOCK):
        k = x[start : start + _BLOCK] @ y.T / x.shape[1] + 1.0
        total += float((k * k * k).sum())
    return total


def inception_score(logits: np.ndarray) -> float:
    """exp of the mean KL(p(y|x) || p(y)) over images x (Salimans et al., 1606.03498), over one set.

    p(y|x) is the softmax of an image's logits, p(y) their mean; computed as exp(H(p(y)) - mean H(p(y|x))).

    Args:
        logits: (n, K), n >= 1.

    Returns:
        From 1 (all images alike to the network, or each undecided) to min(n, K).

    Raises:
        Unavailable: for values that are not finite.
    """
    from scipy.special import entr, softmax  # a listing of metrics does not need it

    p = softmax(finite(logits), axis=1)
    return float(np.exp(entr(p.mean(0)).sum() - entr(p).sum(1).mean()))


def _rows(x: np.ndarray) -> Floats:
    if len(x) < 2:
        raise Unavailable(f"a distance needs two images on each side, not {len(x)}")
    return finite(x)


def finite(x: np.ndarray) -> Floats:
    """Features in float64; raises `Unavailable` where one is not finite."""
    wide = np.asarray(x, dtype=np.float64)
    if not np.isfinite(wide).all():
        raise Unavailable("features are not finite")
    return wide


def fd_teacher(ev: Evidence) -> dict[str, float]:
    """`frechet_features` of samples and test images in the teacher's features, equally many of both.

    The first n samples, n = min(number of samples, number of test images, 2000), and the test images of
    `Evidence.test_rows`. Comparable between methods that share teacher, test images and n; not an
    Inception FID.
    """
    h = ev.images_made()["h"]
    n = min(len(h), len(ev.t_h))
    return {"fd_teacher": frechet_features(h[:n], ev.t_h[ev.test_rows(n)])}


METRICS = (
    Metric(
        *("fd_teacher", "Fréchet distance, teacher features", "", "lower", ("samples", "teacher")),
        fd_teacher,
        columns=(Column("fd_teacher", "Fréchet distance in the teacher's features, lower is better", 1),),
        place=2,
    ),
)
