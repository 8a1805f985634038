"""Which metrics are columns of the main table, and under which title; the rest are in the CSV alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple


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


def shown(metrics: Sequence[str]) -> list[str]:
    """Those of the metrics that are columns of the main table, in its order."""
    kinds = [kind(m) for m in metrics]
    return [m for kind in _TITLES for m, k in zip(metrics, kinds, strict=True) if k == kind]


def of(metric: str) -> Title:
    """How one of `shown` is shown, what varies in its name filled in."""
    title = _TITLES[kind(metric)]
    got = re.search(r"^shift_(.+)$|_(\d+)_(\w+)$", metric)
    parts = [g for g in got.groups() if g is not None] if got else []
    return title._replace(text=title.text.format(*parts))


def kind(metric: str) -> str:
    """A metric's name with what varies put aside: its n, the data set it was taken on."""
    return re.sub(r"_\d+_", "_n_", re.sub(r"^shift_.+", "shift_*", metric))
