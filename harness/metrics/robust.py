"""Accuracy of the student on corrupted test images, and on another data set of the same classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from harness.errors import DfkdError, Unavailable
from harness.metrics import corrupt
from harness.metrics.accuracy import right
from harness.metrics.base import Column, Evidence, Metric
from harness.tasks import catalog, decode, folders
from harness.tasks.images import data_root, load

if TYPE_CHECKING:
    from pathlib import Path

    from harness.config import Task
    from harness.tasks.folders import Listing

#: folder below the data root whose folders ``<name>/test/<class>/`` are other test images of known classes
SHIFTED = "shifted"
#: the same images at another size: no other data set
_ENLARGED = {"digits16": "digits"}
#: what red, green and blue weigh in grey, of 65,536: ITU-R 601's 0.299, 0.587 and 0.114 as Pillow has them
_GREY = (19595, 38470, 7471)

Labelled = tuple[np.ndarray, np.ndarray]


def corruption(ev: Evidence) -> dict[str, float]:
    """Percent of corrupted test images that the student gets right: noise, blur, contrast, pixelate.

    Every test image in every corruption of `harness.metrics.corrupt` at five strengths, the same for every
    student.

    Returns:
        ``corruption_<name>_<strength>``; ``corruption_<name>``, the mean over strengths; ``corruption``, the
        mean over all; ``corruption_drop``, the percent of the accuracy on clean images that is lost:
        100 (top1 - corruption) / top1. Hendrycks and Dietterich (1903.12261) weigh errors by AlexNet's
        instead; here kinds count the same.
    """
    if ev.predict is None:
        raise Unavailable("there is no student to show corrupted images to")
    found: dict[str, float] = {}
    strengths = corrupt.STRENGTHS
    for name in corrupt.CORRUPTIONS:
        for strength in strengths:
            images = corrupt.corrupt(ev.test, name, strength)
            found[f"corruption_{name}_{strength}"] = right(ev.predict(images), ev.labels)
    means = {
        f"corruption_{name}": sum(found[f"corruption_{name}_{s}"] for s in strengths) / len(strengths)
        for name in corrupt.CORRUPTIONS
    }
    overall, clean = sum(means.values()) / len(means), right(ev.s_logits, ev.labels)
    drop = 100.0 * (1.0 - overall / clean) if clean else float("nan")
    return {"corruption": overall, "corruption_drop": drop, **means, **found}


def shift(ev: Evidence) -> dict[str, float | str]:
    """Percent right on the test images of other data sets with the task's class names, ``shift_<name>``.

    Those are built-in tasks (digits and mnist) and folders ``<data root>/shifted/<name>/test/<class>/*``, for
    anybody's CIFAR-10.1 or the like. Images become the student's: resized (bilinear, antialiased), grey to
    colour by repeating, colour to grey by ITU-R 601. No ``train`` is looked at. Where a data set is not on
    disk its column says so.
    """
    if ev.predict is None:
        raise Unavailable("there is no student to show other images to")
    sets = _others(ev)
    if not sets:
        raise Unavailable(
            f"no other data set has the classes of {ev.task.name}; a folder "
            f"{data_root(ev.data_root) / SHIFTED}/NAME/test/CLASS/* would be one"
        )
    found: dict[str, float | str] = {}
    for name, opened in sets.items():
        try:
            images, labels = opened()
            found[f"shift_{name}"] = right(ev.predict(images), labels)
        except DfkdError as error:
            found[f"shift_{name}"] = str(error)
    return found


def _others(ev: Evidence) -> dict[str, Callable[[], Labelled]]:
    """Name -> how to open it, as images (n, C, H, W) of the task's shape and labels in its order."""
    task, found = ev.task, dict[str, Callable[[], Labelled]]()
    for name in catalog.names():
        other = catalog.describe(name)
        same = _ENLARGED.get(task.name, task.name) == name or name in _ENLARGED
        if not same and set(other.classes) == set(task.classes):
            found[name] = lambda name=name: _built_in(name, task, ev.data_root)  # type: ignore[misc]
    for place in sorted(p for p in (data_root(ev.data_root) / SHIFTED).glob("*/") if p.is_dir()):
        if {p.name for p in (place / "test").glob("*/")} & set(task.classes):
            found[place.name] = lambda place=place: _in_folders(place, task)  # type: ignore[misc]
    return found


def _built_in(name: str, task: Task, root: Path | None) -> Labelled:
    other = load(name, root)
    order = np.array([task.classes.index(c) for c in other.task.classes])
    return fitted(other.test.images, task), order[other.test.labels]


def _in_folders(place: Path, task: Task) -> Labelled:
    found: Listing = folders.listing(place, "test")
    if found.keys() != set(task.classes):
        wrong = sorted(found.keys() ^ set(task.classes))
        raise DfkdError(f"{place}/test: class folders are not those of {task.name}: {', '.join(wrong[:5])}")
    images, labels = decode.read(found, task.side)
    return fitted(images, task), np.array([task.classes.index(c) for c in found])[labels]


def fitted(images: np.ndarray, task: Task) -> np.ndarray:
    """Images in the task's shape: channels first, then bilinear with antialiasing, as Pillow resizes.

    Args:
        images: (n, 1 or 3, H, W) uint8.
        task: of 1 or 3 channels.

    Returns:
        (n, C, side, side) uint8.

    Raises:
        Unavailable: for other numbers of channels.
    """
    import torch
    from torch.nn.functional import interpolate

    had = images.shape[1]
    if {had, task.channels} - {1, 3}:
        raise Unavailable(f"images of {had} channels cannot be shown to a student of {task.channels}")
    side, out = task.side, np.empty((len(images), task.channels, task.side, task.side), np.uint8)
    for start in range(0, len(images), 500):
        x = images[start : start + 500]
        if had == 3 and task.channels == 1:
            x = (np.tensordot(_GREY, x.astype(np.int64), (0, 1))[:, None] + (1 << 15)) >> 16
        if x.shape[2:] != (side, side):
            wide = torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32))
            x = interpolate(wide, (side, side), mode="bilinear", antialias=True).round_().numpy()
        out[start : start + 500] = x  # one channel spreads over three
    return out


_MEAN = "mean of five strengths"
METRICS = (
    Metric(
        *("corruption", "accuracy on corrupted test images", "%", "higher", ("student", "test images")),
        corruption,
        opt_in=True,
        columns=(
            Column("corrupted (%)", "top-1 on corrupted test images: mean of the four kinds"),
            Column(
                *("lost (%)", "share of the top-1 that corruption costs; lower is better"),
                digits=1,
                number="corruption_drop",
            ),
            Column("noise (%)", f"top-1 under Gaussian noise, {_MEAN}", number="corruption_noise"),
            Column("blur (%)", f"top-1 under Gaussian blur, {_MEAN}", number="corruption_blur"),
            Column("contrast (%)", f"top-1 at low contrast, {_MEAN}", number="corruption_contrast"),
            Column("pixelate (%)", f"top-1 on pixelated images, {_MEAN}", number="corruption_pixelate"),
        ),
        place=10,
    ),
    Metric(
        *("shift", "accuracy on another data set", "%", "higher"),
        ("student", f"data of the same classes: a task, or DATA_ROOT/{SHIFTED}/NAME/test/CLASS/*"),
        shift,
        opt_in=True,
        columns=(
            Column("other data set (%)", "top-1 on another data set of the same classes"),
            Column(
                *("on {} (%)", "top-1 on the test images of another data set of the same classes"),
                number="shift_*",
            ),
        ),
        place=11,
    ),
)
