"""Generated images in the teacher's features: how well classes part, where each lies in the plane."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports import select

#: of each class the first so many images count: what is published keeps no more (`harness.publish`)
EACH = 30
#: neighbours that t-SNE tries to keep, of 300 images
_PERPLEXITY = 30.0


def silhouette(samples: Mapping[str, NDArray[Any]]) -> float:
    """Mean silhouette of the first images of each class in the teacher's features; NaN below two classes.

    (b - a) / max(a, b) of each image, with a its mean Euclidean distance to its own class and b that to the
    nearest other one (Rousseeuw 1987), in [-1, 1]; 1: classes far apart, 0: they overlap. The class is the
    label asked, or the teacher's where none was.

    Args:
        samples: ``h`` (n, D) teacher features, ``y`` and ``t`` (n,).
    """
    from sklearn.metrics import silhouette_score

    h, label = _finite(samples)
    at = _first(label, np.unique(label))
    h, label = h[at], label[at]
    if not 2 <= len(np.unique(label)) < len(label):
        return math.nan
    return float(silhouette_score(h, label))


def plane(
    samples: Mapping[str, NDArray[Any]], classes: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]] | None:
    """(n, 2) places of the first images of some classes by t-SNE, and (n,) their classes; None below twelve.

    Started from the first two principal components on one thread: the same input gives the same bits.

    Args:
        samples: as `silhouette` takes them.
        classes: which.
    """
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    h, label = _finite(samples)
    at = _first(label, classes)
    if len(at) < 12 or np.allclose(h[at], h[at[0]]):
        return None
    with threadpool_limits(1):
        start = _components(h[at])
        places = TSNE(
            perplexity=min(_PERPLEXITY, (len(at) - 1) / 3), init=start, random_state=0, n_jobs=1
        ).fit_transform(h[at])
    return places.astype(np.float64), label[at]


def _first(label: NDArray[np.int64], classes: NDArray[np.int64]) -> NDArray[np.intp]:
    """Where the first images of some classes stand."""
    return np.sort(
        np.concatenate([np.flatnonzero(label == k)[:EACH] for k in classes] or [np.zeros(0, np.intp)])
    )


def _components(h: NDArray[np.float64]) -> NDArray[np.float32]:
    """First two principal components, each pointing to its furthest image, scaled as t-SNE wants them."""
    u, s, _ = np.linalg.svd(h - h.mean(axis=0), full_matrices=False)
    first = u[:, :2] * s[:2]
    first *= np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])
    return (1e-4 * first / first[:, 0].std()).astype(np.float32)


def _finite(samples: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    h = samples["h"].astype(np.float64)
    kept = np.isfinite(h).all(axis=1)
    return h[kept], select.labels(samples)[kept]
