"""Diversity within a class and high frequencies, beside the test images: worked by hand, and by scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist

from harness.errors import Unavailable
from harness.metrics import variety
from harness.metrics.base import evaluate
from harness.metrics.variety import high_share
from tests import build

TASK = build.a_task(8, 1, 3)


def evidence(made=None, t=(0,), h=None, real=None, real_t=(0,), real_h=None):
    """Samples and test images by their pixels or by the teacher's features, and what it takes them for."""
    images = np.zeros((len(t), 1, 8, 8), np.uint8) if made is None else made
    test = np.zeros((len(real_t), 1, 8, 8), np.uint8) if real is None else real
    h = np.zeros((len(images), 2)) if h is None else h
    given = {} if real_h is None else {"t_h": np.array(real_h, np.float32)}
    return build.evidence(
        build.samples(t, TASK, images=images, h=np.array(h, np.float16)),
        TASK,
        t_logits=np.eye(3, dtype=np.float32)[np.resize(real_t, len(test))],
        test=test,
        **given,
    )


def diversity(**more):
    return evaluate(evidence(**more), ["diversity"])


class TestDiversity:
    def test_by_hand(self):
        # right angle: distance 1; opposite: 2; class 1: 60 degrees apart: 1/2
        h = [[3, 0], [0, 0.5], [1, 0], [0.5, 0.8660254]]
        real_h = [[1, 0], [-7, 0], [2, 0], [0, 9]]
        numbers, _, _ = diversity(t=[0, 0, 1, 1], h=h, real_t=[0, 0, 1, 1], real_h=real_h)
        assert numbers["diversity"] == pytest.approx((1 + 1 / 2) / (2 + 1), rel=1e-3)  # fp16 features

    def test_is_the_mean_over_pairs_of_the_cosine_distance(self):
        rng = np.random.default_rng(0)
        h = np.abs(rng.normal(size=(30, 6))).astype(np.float16)
        real_h = np.abs(rng.normal(size=(50, 6))).astype(np.float32)
        t, real_t = np.arange(30) % 3, rng.integers(0, 3, 50)
        ours = sum(pdist(h[t == k].astype(float), "cosine").mean() for k in range(3))
        theirs = sum(pdist(real_h[real_t == k].astype(float), "cosine").mean() for k in range(3))
        numbers, _, _ = diversity(t=t, h=h, real_t=real_t, real_h=real_h)
        assert numbers["diversity"] == pytest.approx(ours / theirs, rel=1e-10)

    def test_one_image_a_class_is_nothing(self):
        h = np.eye(2)[[0, 1] * 10]
        numbers, _, _ = diversity(t=[0, 1] * 10, h=h, real_t=[0, 0, 1, 1], real_h=[[1, 0], [0, 1]] * 2)
        assert numbers == {"diversity": 0.0}

    def test_classes_without_a_pair_on_both_sides_are_left_out(self):
        h, real_h = [[1, 0], [0, 1], [1, 0], [-1, 0]], [[1, 0], [-1, 0], [1, 0], [0, 1]]
        # of class 0: 1 against 2; class 1 is among the samples only, class 2 among the test images
        numbers, _, _ = diversity(t=[0, 0, 1, 1], h=h, real_t=[0, 0, 2, 2], real_h=real_h)
        assert numbers == {"diversity": pytest.approx(0.5)}

    def test_a_feature_of_length_zero_is_at_distance_one(self):
        numbers, _, _ = diversity(t=[0, 0], h=[[0, 0], [1, 0]], real_t=[0, 0], real_h=[[1, 0], [0, 1]])
        assert numbers == {"diversity": pytest.approx(1)}

    def test_squares_do_not_overflow(self):
        big = [[1e30, 0], [0, 1e30]]
        numbers, _, _ = diversity(t=[0, 0], h=[[1, 0], [0, 1]], real_t=[0, 0], real_h=big)
        assert numbers == {"diversity": pytest.approx(1)}

    @pytest.mark.parametrize(
        ("more", "reason"),
        [
            ({"t": [0, 1], "h": [[1, 0]] * 2, "real_t": [0, 0]}, "two samples and two test images"),
            ({"t": [0, 0], "h": [[1, 0]] * 2, "real_t": [0, 0], "real_h": [[1, 0]] * 2}, "all alike"),
            ({"t": [0, 0], "h": [[np.inf, 0]] * 2, "real_t": [0, 0]}, "not finite"),
        ],
    )
    def test_says_why_there_is_none(self, more, reason):
        numbers, unavailable, _ = diversity(**more)
        assert numbers == {} and reason in unavailable["diversity"]


def board(n):
    """A checkerboard, (1, 1, n, n)."""
    return (np.indices((n, n)).sum(0) % 2 * 255).astype(np.uint8)[None, None]


def wave(k, n=8):
    """k whole cycles of a sine along x that is odd about the image's middle, (1, 1, n, n)."""
    return np.tile(np.sin(2 * np.pi * k * (np.arange(n) + 0.5) / n), (n, 1))[None, None]


class TestHighShare:
    """Of a wave at bin k the window leaves energy 1/6, 2/3, 1/6 at k - 1, k, k + 1; of a constant the same at
    -1, 0, 1. Half of Nyquist is bin 2 of 8."""

    @pytest.mark.parametrize("n", [8, 9, 16, 28, 32])
    def test_a_checkerboard_is_nothing_but_high(self, n):
        assert_allclose(high_share(board(n)), 1, rtol=1e-12 if n % 2 == 0 else 1e-2)

    def test_a_slow_wave_by_hand(self):
        # bins -1 and 1 meet at 0 and cancel: 4/5 at 1, 1/5 at 2. High are (2, 1) and (2, -1): 1/5 x 1/3
        assert_allclose(high_share(wave(1)), 1 / 15, rtol=1e-12)

    def test_a_wave_at_half_of_nyquist_by_hand(self):
        # high are all of bin 3 (1/6) and of bin 2 what is not straight along x: 2/3 x 1/3
        assert_allclose(high_share(wave(2)), 1 / 6 + 2 / 9, rtol=1e-12)

    def test_half_of_nyquist_is_not_above_it(self):
        # 16 pixels, bin 3: (3, 0), (3, 1), (3, -1) and bin 2 are low, of bin 4 only (4, 0): 1 - 1/6 x 1/3
        assert_allclose(high_share(wave(3, 16)), 1 / 6 * 1 / 3, rtol=1e-12)

    @pytest.mark.parametrize("n", [8, 9])
    def test_equals_the_whole_transform_pixel_by_pixel(self, n):
        x = np.random.default_rng(0).normal(size=(3, 2, n, n + 2))
        high = total = 0.0
        for image in x.reshape(-1, n, n + 2):
            w = np.outer(*(0.5 - 0.5 * np.cos(2 * np.pi * (np.arange(m) + 0.5) / m) for m in image.shape))
            energy = np.abs(np.fft.fft2((image - np.average(image, weights=w)) * w)) ** 2
            fy, fx = np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n + 2), indexing="ij")
            high, total = high + energy[np.hypot(fy, fx) > 0.25].sum(), total + energy.sum()
        assert_allclose(high_share(x), high / total, rtol=1e-12)

    def test_energies_are_pooled_and_flat_images_do_not_count(self):
        # energies at unit amplitude: of the board the window's whole, of a wave half of it but for (-1, 0, 1)
        both = np.concatenate([board(8) / 255 - 0.5, 10 * wave(2)])
        parts = [0.25 * 1, 100 * 0.5]
        assert_allclose(high_share(both), (parts[0] + parts[1] * 7 / 18) / sum(parts), rtol=1e-9)
        flat = np.full((9, 1, 8, 8), 0.1)
        assert high_share(np.concatenate([flat, wave(2)])) == high_share(wave(2))

    def test_an_edge_between_opposite_sides_is_no_detail(self):
        ramp = np.tile(np.linspace(0, 255, 32), (32, 1))[None, None]
        assert high_share(ramp) < 1e-3  # without a window its jump has a share of 5 %

    def test_a_constant_has_no_share(self):
        with pytest.raises(Unavailable, match="no image has any contrast"):
            high_share(np.full((2, 3, 8, 8), 77, np.uint8))

    def test_blocks_change_nothing(self, monkeypatch):
        x = np.random.default_rng(0).integers(0, 256, (7, 1, 8, 8)).astype(np.uint8)
        whole = high_share(x)
        monkeypatch.setattr(variety, "_BLOCK", 3)
        assert_allclose(high_share(x), whole, rtol=1e-12)


class TestHfRatio:
    def test_real_images_are_one_and_blurred_ones_less(self):
        rng = np.random.default_rng(0)
        real = rng.integers(0, 256, (60, 1, 8, 8)).astype(np.uint8)
        got = []
        for sigma in (0, 0.6, 1.2):
            made = np.rint(scipy.ndimage.gaussian_filter(real.astype(float), (0, 0, sigma, sigma)))
            ev = evidence(made=made.astype(np.uint8), t=[0] * 60, real=real, real_t=[0] * 60)
            got.append(evaluate(ev, ["hf_ratio"])[0]["hf_ratio"])
        assert got[0] == 1 and got[0] > 1.3 * got[1] > 1.3 * 1.3 * got[2]

    def test_is_the_ratio_of_the_shares(self):
        quiet = (100 + 20 * wave(2)).round().astype(np.uint8)
        numbers, _, _ = evaluate(evidence(made=board(8), real=quiet), ["hf_ratio"])
        assert numbers["hf_ratio"] == pytest.approx(18 / 7, rel=2e-2)  # grey levels are whole numbers

    def test_says_why_there_is_none(self):
        for made, real in ((board(8), None), (None, board(8))):
            numbers, unavailable, _ = evaluate(evidence(made=made, real=real), ["hf_ratio"])
            assert numbers == {} and unavailable == {"hf_ratio": "no image has any contrast"}
