"""Corruptions against Pillow, explicit sums and moments; the same for everybody."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from numpy.testing import assert_allclose
from PIL import Image

from harness.errors import DfkdError
from harness.metrics import corrupt as module
from harness.metrics.corrupt import CORRUPTIONS, STRENGTHS, corrupt

SHAPES = [(1, 8, 8), (3, 32, 32), (2, 9, 12), (3, 64, 64)]


def noise(shape, n=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape)).astype(np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_any_shape_goes_in_and_comes_out(name, shape):
    x = noise(shape)
    kept = x.copy()
    for strength in STRENGTHS:
        got = corrupt(x, name, strength)
        assert got.shape == x.shape and got.dtype == np.uint8
        assert not np.shares_memory(got, x) and (x == kept).all()
        assert (got != x).any()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_the_same_for_everybody_whatever_comes_after_and_in_any_block(name, monkeypatch):
    x = noise((3, 16, 16), 7)
    x.setflags(write=False)  # as of a map that may only be read
    whole = corrupt(x, name, 3)
    assert (corrupt(x, name, 3) == whole).all() and (corrupt(x[:5], name, 3) == whole[:5]).all()
    monkeypatch.setattr(module, "_BLOCK", 2)
    assert (corrupt(x, name, 3) == whole).all()


@pytest.mark.parametrize(("strength", "sigma"), [(1, 0.04), (2, 0.06), (3, 0.08), (4, 0.09), (5, 0.10)])
def test_noise_has_the_published_deviation_on_every_value(strength, sigma):
    x = np.full((40, 3, 32, 32), 128, np.uint8)
    off = (corrupt(x, "noise", strength).astype(float) - 128) / 255
    rounding = 1 / 255 / np.sqrt(12)
    n = off.size
    assert abs(off.mean()) < 4 * sigma / np.sqrt(n)
    assert off.std() == pytest.approx(np.hypot(sigma, rounding), rel=4 / np.sqrt(2 * n))
    across = np.corrcoef(off[:, 0].ravel(), off[:, 1].ravel())[0, 1]
    assert abs(across) < 4 / np.sqrt(n / 3)  # channels are independent


def test_noise_is_clipped_and_another_for_each_strength_and_seed():
    dark = np.zeros((10, 1, 8, 8), np.uint8)
    assert (corrupt(dark, "noise", 5) == 0).mean() == pytest.approx(0.5, abs=0.1)
    x = np.full((10, 1, 8, 8), 128, np.uint8)
    one, two = (corrupt(x, "noise", s).astype(float).ravel() for s in (4, 5))
    assert abs(np.corrcoef(one, two)[0, 1]) < 0.2
    assert (corrupt(x, "noise", 4, seed=1) != corrupt(x, "noise", 4)).mean() > 0.8


@pytest.mark.parametrize(
    ("side", "strength", "sigma"),
    [(32, 1, 0.4), (32, 2, 0.6), (32, 3, 0.7), (32, 4, 0.8), (32, 5, 1.0), (64, 5, 2.0), (8, 5, 1.0)],
)
def test_blur_is_a_sampled_gaussian_with_repeated_borders(side, strength, sigma):
    x = noise((1, side, side), 1)
    radius = int(4 * sigma + 0.5)
    steps = np.arange(-radius, radius + 1)
    kernel = np.exp(-(steps**2) / (2 * sigma**2))
    kernel = np.outer(kernel, kernel) / kernel.sum() ** 2
    wide = np.pad(x[0, 0].astype(float), radius, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(wide, kernel.shape)
    assert_allclose(corrupt(x, "blur", strength)[0, 0], np.rint((windows * kernel).sum((2, 3))), atol=1)


def test_contrast_by_hand():
    x = np.array([[[[0, 200]], [[10, 30]]]], np.uint8)  # means 100 and 20 of two channels
    want = {1: [25, 175, 12.5, 27.5], 2: [50, 150, 15, 25], 3: [60, 140, 16, 24], 4: [70, 130, 17, 23]}
    want[5] = [85, 115, 18.5, 21.5]
    for strength, levels in want.items():
        assert_allclose(corrupt(x, "contrast", strength).ravel(), levels, atol=0.5)


@pytest.mark.parametrize(
    ("shape", "kept"), [((3, 32, 32), (30, 28, 27, 24, 20)), ((1, 8, 8), (7, 7, 6, 6, 5))]
)
def test_pixelate_is_pillows_box_there_and_back(shape, kept):
    x = noise(shape, 3)
    for strength, small in zip(STRENGTHS, kept, strict=True):
        got = corrupt(x, "pixelate", strength)
        for image, ours in zip(x, got, strict=True):
            picture = Image.fromarray(image.transpose(1, 2, 0).squeeze())
            tiny = picture.resize((small, small), Image.Resampling.BOX)
            theirs = np.asarray(tiny.resize(picture.size, Image.Resampling.BOX))
            assert (ours.transpose(1, 2, 0).squeeze() == theirs).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_stronger_is_further_away(name):
    rng = np.random.default_rng(0)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(40, 1, 32, 32)), (0, 0, 2, 2))
    x = (128 + 400 * smooth).clip(0, 255).astype(np.uint8)
    off = [np.square(corrupt(x, name, s).astype(float) - x).mean() for s in STRENGTHS]
    assert off == sorted(off) and off[0] > 0


@pytest.mark.parametrize(
    ("images", "name", "strength", "says"),
    [
        (noise((1, 8, 8)), "nois", 1, "unknown corruption 'nois'; did you mean 'noise'"),
        (noise((1, 8, 8)), "blur", 6, "corruption blur: strength 6 is not one of 1, 2, 3, 4, 5"),
        (np.zeros((1, 1, 8, 8)), "blur", 1, r"uint8 images \(n, C, H, W\), not float64 \(1, 1, 8, 8\)"),
        (np.zeros((1, 8, 8), np.uint8), "noise", 1, r"not uint8 \(1, 8, 8\)"),
    ],
)
def test_mistakes_are_a_line(images, name, strength, says):
    with pytest.raises(DfkdError, match=says):
        corrupt(images, name, strength)
