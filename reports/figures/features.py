"""Figures out of stored arrays, of a few rows: decisions beside the teacher's, classes in its features."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reports.figures import maps
from reports.figures.places import Picture, Place, kind
from reports.figures.style import CLASSES
from reports.numbers.rows import Arrays, Row, labels
from reports.numbers.sweeps import depths, top1

#: rows of a figure, seeds of a confusion table, places of a report that have one
ROWS, SEEDS, PLACES = 4, 5, 6
#: a table of more classes than a screen has room for tells nothing
MOST_CLASSES = 400


def confusion(place: Place, predictions: Arrays) -> Iterator[Picture]:
    """Student against teacher on the test images, of the best rows of the first places.

    Where a trial did not store what the teacher decides, lines are the true classes, and the words say so.
    """
    if place.number > PLACES or not place.classes <= MOST_CLASSES:
        return
    found: list[tuple[Row, list[Mapping[str, NDArray[Any]]]]] = []
    for row in ranked(place):
        ids = [str(i) for i in row.done.sort_values("seed")["id"]][:SEEDS]
        arrays = [a for id in ids if (a := predictions(id)) is not None]
        if arrays:
            found.append((row, arrays))
        if len(found) == ROWS:
            break
    if not found:
        return
    by = "t" if all("t" in a for _, arrays in found for a in arrays) else "y"
    panels = []
    for row, arrays in found:
        share = shares(arrays, by, int(place.classes))
        alike = float(np.mean([np.mean(a[by] == a["s"]) for a in arrays]))
        said = "agree" if by == "t" else "right"
        panels.append((maps.Panel(row.label, f"{100 * alike:.1f} % {said}"), share))
    truth = "the teacher's decision" if by == "t" else "true class"
    title = "Confusion against the teacher" if by == "t" else "Confusion against the truth"
    caption = (
        f"Share of each line's test images, in percent, mean over {_seeds(found)}. The colour grows with the "
        "root of the share; the diagonal has none."
    )
    if by == "y":
        caption += " These trials did not store the teacher's decisions: lines are the true classes."
    if (every := len(ranked(place))) > len(found) > 1:
        caption += f" The {len(found)} best data-free rows of {every}."
    figure = maps.confusion(panels, truth)
    yield place.picture("confusion", title, caption, figure)


def shares(arrays: Sequence[Mapping[str, NDArray[Any]]], by: str, K: int) -> NDArray[np.float64]:
    """(K, K) share of each class of ``by`` that S calls each class, mean over trials; NaN for none."""
    tables = []
    for a in arrays:
        counts = np.bincount(a[by].astype(np.int64) * K + a["s"], minlength=K * K).reshape(K, K)
        with np.errstate(invalid="ignore"):
            tables.append(counts / counts.sum(axis=1, keepdims=True))
    found: NDArray[np.float64] = np.mean(tables, axis=0)
    return found


def _seeds(found: Sequence[tuple[Row, Sequence[Any]]]) -> str:
    counts = sorted({len(arrays) for _, arrays in found})
    cut = any(len(row.ids) > SEEDS for row, _ in found)
    said = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    return f"{'the first ' if cut else ''}{said} seed{'s' if counts[-1] > 1 else ''}"


def clouds(places: Sequence[Place], samples: Arrays) -> Picture | None:
    """Generated images by class in the teacher's features, at one place of the report.

    Rows with and without Categorical Feature Embedding side by side where a place has both, else the best
    rows of the first place that stored features; None where nobody did.
    """
    ordered = sorted(places, key=lambda place: not embedding(place))  # stable
    for place in ordered:
        chosen = embedding(place) or ranked(place)
        held = []
        for row in chosen:
            ids = [str(i) for i in row.done.sort_values("seed")["id"]]
            arrays = next((a for id in ids[:1] if (a := samples(id)) is not None and "h" in a), None)
            if arrays is not None and len(arrays["h"]):
                held.append((row, arrays))
            if len(held) == ROWS:
                break
        seen = max((int(labels(arrays).max()) + 1 for _, arrays in held), default=0)
        k = seen if math.isnan(place.classes) else int(place.classes)
        wanted = np.unique(np.round(np.linspace(0, k - 1, min(k, len(CLASSES)))).astype(np.int64))
        found = []
        for row, arrays in held:
            drawn = plane(arrays, wanted)
            if drawn is None:
                continue
            score = silhouette(arrays)
            asked = "label asked" if (arrays["y"] >= 0).any() else "the teacher's label"
            number = f"silhouette {score:.2f}".replace("-", "\N{MINUS SIGN}") + f", by {asked}"
            found.append((maps.Panel(row.label, number), *drawn))
        if found:
            each = min(EACH, max(int(np.bincount(labels(arrays)).max()) for _, arrays in held))
            return _clouds(place, found, wanted, k, bool(embedding(place)) and len(found) == 2, each)
    return None


def _clouds(
    place: Place, found: Sequence[Any], wanted: NDArray[np.int64], k: int, depth: bool, each: int
) -> Picture:
    caption = (
        f"The first {each} images of each class, of the first seed, in the teacher's penultimate "
        "features, drawn by t-SNE (only who is near whom means something). Silhouette: their mean in the "
        "features themselves, 1 for classes far apart, 0 where they overlap. Classes by the teacher's own "
        "label part by construction."
    )
    if k > len(wanted):
        caption += f" {len(wanted)} of {k} classes are drawn."
    caption += " With and without CFE." if depth else " The best rows by top-1 that have images."
    figure = maps.clouds([tuple(each) for each in found], [int(c) for c in wanted])
    return place.picture("features", "Generated images by class in the teacher's features", caption, figure)


def embedding(place: Place) -> list[Row]:
    """A row with all norms categorical and one with none, equal in all else; empty without such a pair."""
    by_label = {row.label: row for row in place.rows}
    for choices in depths(place.rows, least=2):
        ends = {point.value: by_label[point.label] for _, point in choices}
        if 4.0 in ends and 0.0 in ends:
            return [ends[4.0], ends[0.0]]
    return []


def ranked(place: Place) -> list[Row]:
    """Data-free rows of a place, best mean top-1 first."""
    own = [row for row in place.rows if kind(row) == "method"]
    known = [row for row in own if top1(row).n]
    return sorted(known, key=lambda row: -top1(row).mean)


#: of each class the first so many images count; of what is published, as many as it keeps
#: (`harness.store.published.PER_CLASS`)
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
    found = (np.flatnonzero(label == k)[:EACH] for k in classes)
    return np.sort(np.concatenate([np.zeros(0, np.intp), *found]))


def _components(h: NDArray[np.float64]) -> NDArray[np.float32]:
    """First two principal components, each pointing to its furthest image, scaled as t-SNE wants them."""
    u, s, _ = np.linalg.svd(h - h.mean(axis=0), full_matrices=False)
    first = u[:, :2] * s[:2]
    first *= np.sign(first[np.abs(first).argmax(axis=0), [0, 1]])
    return (1e-4 * first / first[:, 0].std()).astype(np.float32)


def _finite(samples: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    h = samples["h"].astype(np.float64)
    kept = np.isfinite(h).all(axis=1)
    return h[kept], labels(samples)[kept]
