"""Test images corrupted: noise, blur, contrast, pixelate at five strengths, as in CIFAR-10-C.

After Hendrycks and Dietterich, *Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations*, ICLR 2019, 1903.12261, and the code that made CIFAR-10-C
(hendrycks/robustness, ImageNet-C/create_c/make_cifar_c.py), whose constants these are.

Departures, each for images that are no CIFAR image:
- any side and any number of channels; a length (blur) grows with the side above 32 pixels. Below it stays:
  a sampled Gaussian of a quarter of a pixel, as 8 pixels would ask for, changes nothing at all.
- values are rounded to the nearest of 256; the original cuts them off, half a grey level darker.
- noise is drawn from a stream that is the same for everybody, its own for each strength.

Pixelating keeps ``int(side * share)`` blocks a side: on 8 pixels strengths 1 and 2 are the same, and 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.errors import DfkdError, unknown

Pixels = NDArray[np.uint8]
STRENGTHS = (1, 2, 3, 4, 5)

#: standard deviation of the noise, in [0, 1] units
NOISE = (0.04, 0.06, 0.08, 0.09, 0.10)
#: standard deviation of the Gaussian, in pixels of an image of 32
BLUR = (0.4, 0.6, 0.7, 0.8, 1.0)
#: what is left of the distance to an image's mean colour
CONTRAST = (0.75, 0.5, 0.4, 0.3, 0.15)
#: share of its pixels that a side keeps
PIXELATE = (0.95, 0.9, 0.85, 0.75, 0.65)
#: pixels a side of the images that the constants were chosen for
_SIDE = 32
_BLOCK = 200


def corrupt(images: np.ndarray, name: str, strength: int, seed: int = 0) -> Pixels:
    """Corrupt images; the same images, name, strength and seed give the same result.

    Args:
        images: (n, C, H, W) uint8; left as they are.
        name: of `CORRUPTIONS`.
        strength: 1 (mild) to 5.
        seed: of the noise; image i has the same noise whatever comes after it.

    Returns:
        (n, C, H, W) uint8.

    Raises:
        DfkdError: for an unknown name or strength, or images of another type.
    """
    if name not in CORRUPTIONS:
        raise unknown("corruption", name, CORRUPTIONS)
    if strength not in STRENGTHS:
        raise DfkdError(f"corruption {name}: strength {strength} is not one of 1, 2, 3, 4, 5")
    if images.dtype != np.uint8 or images.ndim != 4:
        raise DfkdError(
            f"corruption {name} takes uint8 images (n, C, H, W), not {images.dtype} {images.shape}"
        )
    # numpy promises never to change this stream
    rng = np.random.RandomState([seed, strength])
    out = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), _BLOCK):
        block = slice(start, start + _BLOCK)
        out[block] = CORRUPTIONS[name](np.asarray(images[block]), strength, rng)
    return out


def _noise(x: Pixels, strength: int, rng: np.random.RandomState) -> Pixels:
    """Independent Gaussian noise on every value."""
    return _to_pixels(x + 255 * NOISE[strength - 1] * rng.standard_normal(x.shape))


def _blur(x: Pixels, strength: int, rng: np.random.RandomState) -> Pixels:
    """A Gaussian, cut off at four standard deviations; the border is repeated outwards."""
    from scipy.ndimage import gaussian_filter1d  # a listing of metrics does not need it

    def along(side: int) -> NDArray[np.float64]:
        """The filter as a matrix: ten times as fast on many small images."""
        sigma = BLUR[strength - 1] * max(1.0, side / _SIDE)
        return np.asarray(gaussian_filter1d(np.eye(side), sigma, axis=0, mode="nearest", truncate=4.0))

    return _to_pixels(along(x.shape[2]) @ x @ along(x.shape[3]).T)


def _contrast(x: Pixels, strength: int, rng: np.random.RandomState) -> Pixels:
    """Every value drawn towards the mean of its image and channel."""
    mean = x.mean((2, 3), keepdims=True)
    return _to_pixels(mean + CONTRAST[strength - 1] * (x - mean))


def _pixelate(x: Pixels, strength: int, rng: np.random.RandomState) -> Pixels:
    """Shrunk and enlarged again with Pillow's box filter, width first, as Pillow does in one call."""
    height, width = x.shape[2:]
    share = PIXELATE[strength - 1]
    small = _resized(_resized(x, max(1, int(width * share))).swapaxes(2, 3), max(1, int(height * share)))
    return _resized(_resized(small, height).swapaxes(2, 3), width)


def _resized(x: Pixels, width: int) -> Pixels:
    """The last axis of (n, C, H, W) resized; all rows of all images are one tall picture to Pillow."""
    from PIL import Image

    tall = Image.fromarray(np.ascontiguousarray(x).reshape(-1, x.shape[-1]))
    return np.asarray(tall.resize((width, tall.height), Image.Resampling.BOX)).reshape(*x.shape[:-1], width)


def _to_pixels(levels: NDArray[np.float64]) -> Pixels:
    """Clipped to 0 and 255 and rounded, in place."""
    return np.rint(levels.clip(0, 255, out=levels), out=levels).astype(np.uint8)


#: name -> (images uint8, strength, random stream) -> images
CORRUPTIONS: dict[str, Callable[[Pixels, int, np.random.RandomState], Pixels]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "pixelate": _pixelate,
}
