"""Fréchet and kernel distance of two sets of features, in float64; one in the teacher's own features."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.errors import Unavailable
from harness.metrics.base import Evidence, Metric

Floats = NDArray[np.float64]


def frechet(a: np.ndarray, b: np.ndarray) -> float:
    """Squared Fréchet distance of the Gaussians fitted to two sets of features (Heusel et al., 1706.08500).

    |mu_a - mu_b|^2 + tr(S_a) + tr(S_b) - 2 tr((S_a S_b)^1/2), covariances with n - 1. The last trace is the
    nuclear norm of A B^T for centred, scaled A (n, D) and B (m, D): no D x D matrix where n or m is smaller,
    no matrix square root, no eps. Rounding below zero is clipped.

    Args:
        a: (n, D), n >= 2.
        b: (m, D), m >= 2.

    Raises:
        Unavailable: for fewer than two rows or values that are not finite.
    """
    x, y = _checked(a), _checked(b)
    mean = x.mean(0) - y.mean(0)
    x, y = (x - x.mean(0)) / np.sqrt(len(x) - 1), (y - y.mean(0)) / np.sqrt(len(y) - 1)
    traces = (x**2).sum() + (y**2).sum()
    cross = _reduced(x) @ _reduced(y).T
    nuclear = np.linalg.svd(cross, compute_uv=False).sum()
    return max(0.0, float(mean @ mean + traces - 2 * nuclear))


def _reduced(x: Floats) -> Floats:
    """R of x = Q R: as many rows as columns at most; Q drops out of the nuclear norm."""
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
    x, y = _checked(a), _checked(b)
    return _mean_off_diagonal(x) + _mean_off_diagonal(y) - 2 * float(_kernel(x, y).mean())


def _kernel(x: Floats, y: Floats) -> Floats:
    out: Floats = (x @ y.T / x.shape[1] + 1.0) ** 3
    return out


def _mean_off_diagonal(x: Floats) -> float:
    k, n = _kernel(x, x), len(x)
    return float((k.sum() - np.trace(k)) / (n * (n - 1)))


def _checked(x: np.ndarray) -> Floats:
    wide = np.asarray(x, dtype=np.float64)
    if len(wide) < 2:
        raise Unavailable(f"a distance needs two images on each side, not {len(wide)}")
    if not np.isfinite(wide).all():
        raise Unavailable("features are not finite")
    return wide


def fd_teacher(ev: Evidence) -> dict[str, float]:
    """`frechet` of samples and test images in the teacher's penultimate features, equally many of both.

    Of each the first min(number of samples, number of test images). Comparable between methods that share
    teacher, test images and n; not an Inception FID.
    """
    h = ev.images_made()["h"]
    n = min(len(h), len(ev.t_h))
    return {"fd_teacher": frechet(h[:n], ev.t_h[:n])}


METRICS = (
    Metric(
        "fd_teacher", "Fréchet distance, teacher features", "", "lower", ("samples", "teacher"), fd_teacher
    ),
)
