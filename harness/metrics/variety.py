"""Beside the test images: how different the images of one class are, and how much fine detail they have."""

from __future__ import annotations

import numpy as np

from harness.errors import Unavailable
from harness.metrics.base import STORED, Column, Evidence, Metric
from harness.metrics.distance import finite

#: images transformed at a time
_BLOCK = 500


def diversity(ev: Evidence) -> dict[str, float]:
    """Mean cosine distance of two samples of one class over that of two test images; 1 is as varied as they.

    In the teacher's penultimate features, so that it sees what the teacher sees (`spread` sees pixels), and
    free of their scale. The class is the teacher's arg-max on both sides. Each class counts the same; those
    with fewer than two images on either side are left out (`class_coverage` tells of them). More is not
    better: a teacher draws the real images of a class together, and noise that it takes for that class lies
    wider. Pairs within a class are the idea of Odena et al., 1610.09585, who compare them by MS-SSIM.
    """
    made = ev.images_made()
    ours, real = _distances(made["h"], made["t"]), _distances(ev.t_h, ev.t_logits.argmax(1))
    if not (both := ours.keys() & real.keys()):
        raise Unavailable("no class has two samples and two test images to compare")
    between = sum(real[k] for k in both)
    if not between > 0:
        raise Unavailable("the teacher's features of test images of one class are all alike")
    return {"diversity": sum(ours[k] for k in both) / between}


def _distances(h: np.ndarray, classes: np.ndarray) -> dict[int, float]:
    """Class -> mean over its pairs of 1 - cos; a feature of length zero is at distance 1 from any other."""
    wide = finite(h)
    wide = wide / np.maximum(np.abs(wide).max(1, keepdims=True), 1e-300)  # no square may over- or underflow
    length = np.sqrt((wide**2).sum(1, keepdims=True))
    unit = np.divide(wide, length, out=np.zeros_like(wide), where=length > 0)
    found = {}
    for k in map(int, np.unique(classes)):
        u = unit[classes == k]
        if (n := len(u)) > 1:
            # twice the sum over pairs of u.v is |sum u|^2 - sum |u|^2
            alike = (np.square(u.sum(0)).sum() - np.square(u).sum()) / (n * (n - 1))
            found[k] = max(0.0, float(1.0 - alike))
    return found


def hf_ratio(ev: Evidence) -> dict[str, float]:
    """Share of high frequencies in the samples over that in the test images: 1 as real, less is blur.

    The first 2,000 samples and as many test images as there are, up to 2,000. See `high_share`.
    """
    ours = high_share(ev.images_made()["images"])
    real = high_share(ev.test[ev.test_rows(STORED)])
    if not real > 0:
        raise Unavailable("the test images have nothing above half of Nyquist")
    return {"hf_ratio": ours / real}


def high_share(images: np.ndarray) -> float:
    """Share of spectral energy above half of the Nyquist frequency, over all images and channels together.

    Each channel of an image is weighed with a Hann window, less its weighted mean: brightness is no detail,
    and without a window the jump from one edge to the opposite one, which the transform takes for
    neighbours, would pass for detail and hide blur. A frequency (fy, fx) is high where its length
    sqrt(fy^2 + fx^2) is above 1/4 cycle a pixel. Energies are summed before they are divided: a flat image,
    whose own share would be that of rounding noise, does not count.

    Args:
        images: (n, C, H, W) of any scale.

    Returns:
        In [0, 1].

    Raises:
        Unavailable: where no image has any contrast.
    """
    height, width = images.shape[-2:]
    window = _hann(height)[:, None] * _hann(width)
    fy, fx = _bins(height)[:, None], _bins(width)[: width // 2 + 1]
    # integers, so that half of Nyquist itself is never above it: |f| > 1/4 as 16 |f|^2 > 1
    high = 16 * ((fy * width) ** 2 + (fx * height) ** 2) > (height * width) ** 2
    twice = np.full(width // 2 + 1, 2.0)  # the half of a real image's spectrum that is not computed
    twice[0] = 1.0
    if width % 2 == 0:
        twice[-1] = 1.0
    energy = np.zeros(high.shape)
    for start in range(0, len(images), _BLOCK):
        x = images[start : start + _BLOCK].astype(np.float64)
        mean = (x * window).sum((-2, -1), keepdims=True) / window.sum()
        flat = np.ptp(x, axis=(-2, -1)) == 0  # of which rounding would leave something
        spectrum = np.fft.rfft2((x - mean) * window * ~flat[..., None, None])
        energy += np.square(np.abs(spectrum)).sum((0, 1))
    energy *= twice
    if not energy.any():
        raise Unavailable("no image has any contrast")
    return float(energy[high].sum() / energy.sum())


def _hann(n: int) -> np.ndarray:
    """Hann's window with its zeros half a pixel outside the image, (n,)."""
    return np.sin(np.pi * (np.arange(n) + 0.5) / n) ** 2


def _bins(n: int) -> np.ndarray:
    """Whole cycles an image of `numpy.fft.fft`'s frequencies, without sign for the last of the half, (n,)."""
    found: np.ndarray = np.abs(np.fft.fftfreq(n, 1 / n)).round().astype(np.int64)
    return found


METRICS = (
    Metric(
        *("diversity", "diversity within a class", "test images = 1", "", ("samples", "teacher")),
        diversity,
        columns=(Column("diversity", "of images of a class, in the teacher's features; test images have 1"),),
        place=8,
    ),
    Metric(
        *("hf_ratio", "high frequencies", "test images = 1", "", ("samples",), hf_ratio),
        columns=(Column("fine detail", "share of high frequencies; test images have 1, less is blur"),),
        place=9,
    ),
)
