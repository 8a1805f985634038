"""Metrics: distances against pytorch-fid, scipy's square root, algebra and double loops; the rest by hand."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
from numpy.testing import assert_allclose
from pytorch_fid import fid_score

from harness.errors import DfkdError, Unavailable
from harness.metrics import base, coverage
from harness.metrics.base import Column, Metric, all_metrics, chosen, evaluate
from harness.metrics.distance import frechet_features, inception_score, kid
from harness.store.directory import Store
from harness.store.frame import frame, lacking
from reports.numbers import table
from reports.tables.layout import blocks
from tests import build
from tests.build import samples

NO_IMAGES = "trained on real data: no synthetic images"


def one_hot(classes):
    return np.eye(4, dtype=np.float32)[list(classes)]


def evidence(samples=None, **more):
    """Five test images: the student is right on three, with the teacher on four."""
    given = {
        "labels": np.array([0, 1, 2, 3, 0]),
        "t_logits": one_hot([0, 1, 2, 0, 2]),
        "s_logits": one_hot([0, 1, 2, 0, 1]),
        "t_h": np.random.default_rng(1).normal(size=(5, 3)).astype(np.float32),
        "val_labels": np.array([1, 2]),
        "val_logits": one_hot([1, 0]),
    }
    return build.evidence(samples, **(given | more))


def moments(x):
    return x.mean(0), np.cov(x, rowvar=False)


def correlated(n, d, seed):
    """Features with unequal scales, correlations and a mean."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


@pytest.fixture
def their_distance(monkeypatch):
    """pytorch-fid's distance; its ``sqrtm(A, disp=False)`` no longer exists in SciPy 1.18."""
    sqrtm = scipy.linalg.sqrtm
    monkeypatch.setattr(fid_score.linalg, "sqrtm", lambda a, disp=True: (sqrtm(a), 0.0))
    return fid_score.calculate_frechet_distance


def without(pair, reason):
    """Neither distance is to be had."""
    for distance in (frechet_features, kid):
        with pytest.raises(Unavailable, match=reason):
            distance(*pair)


class TestFrechet:
    @pytest.mark.filterwarnings("ignore::scipy.linalg.LinAlgWarning")
    @pytest.mark.parametrize(("n", "m"), [(300, 300), (100, 700), (64, 65), (20, 20)])  # of 48 features
    def test_equals_pytorch_fid(self, their_distance, n, m):
        a, b = correlated(n, 48, 0), correlated(m, 48, 1)
        theirs = their_distance(*moments(a), *moments(b))
        assert theirs > 1
        assert_allclose(frechet_features(a, b), theirs, rtol=1e-6)

    @pytest.mark.parametrize("n", [5, 40])
    def test_equal_covariances_leave_the_squared_distance_of_means(self, n):
        a = correlated(n, 12, 0)
        shift = np.arange(12.0)  # 0 + 1 + 4 + ... + 121 = 506
        assert_allclose(frechet_features(a, a + shift), 506, rtol=1e-9)

    def test_one_dimension_by_hand(self):
        # means 1 and 5; deviations sqrt 2 and sqrt 8 with n - 1: 16 + (sqrt 8 - sqrt 2)^2 = 18
        assert_allclose(frechet_features(np.array([[0.0], [2.0]]), np.array([[3.0], [7.0]])), 18)

    @pytest.mark.parametrize("n", [6, 60])
    def test_identical_sets_are_zero_and_never_less(self, n):
        for seed in range(5):
            a = 1e3 * correlated(n, 24, seed)
            assert 0 <= frechet_features(a, a[::-1]) <= 1e-9 * np.trace(np.cov(a, rowvar=False))

    def test_symmetric_and_blind_to_rotations(self):
        a, b = correlated(30, 24, 0), correlated(10, 24, 1)
        assert_allclose(frechet_features(a, b), frechet_features(b, a), rtol=1e-12)
        q = np.linalg.qr(np.random.default_rng(2).normal(size=(24, 24)))[0]
        assert_allclose(frechet_features(a @ q, b @ q), frechet_features(a, b), rtol=1e-10)

    def test_singular_covariances(self):
        flat = np.ones((4, 3))
        assert frechet_features(flat, flat) == 0
        assert frechet_features(flat, flat + 2) == 12  # no spread at all: 3 x 2^2
        line, other = np.outer([-1.0, 1.0], [3.0, 0.0]), np.outer([-1.0, 1.0], [0.0, 4.0])
        # orthogonal rank-1 covariances 18 and 32: nothing is shared
        assert_allclose(frechet_features(line, other), 50)

    def test_statistics_are_taken_in_float64(self):
        a, b = (correlated(200, 32, s).astype(np.float32) + np.float32(1000) for s in (0, 1))
        exact = frechet_features(a.astype(np.float64) - 1000, b.astype(np.float64) - 1000)
        assert_allclose(frechet_features(a, b), exact, rtol=1e-8)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_not_finite_has_no_distance(self, bad):
        a = correlated(5, 3, 0)
        b = a.copy()
        b[2, 1] = bad
        for pair in ((a, b), (b, a)):
            without(pair, "not finite")

    def test_what_overflows_has_no_distance_and_not_zero(self):
        a = 1e200 * correlated(5, 3, 0)
        for pair in ((a, a / 2), (a, np.zeros((5, 3))), (np.zeros((5, 3)), a)):
            without(pair, "too large")

    def test_one_image_has_no_spread(self):
        without((np.ones((1, 3)), np.ones((4, 3))), "two images on each side, not 1")


class TestKid:
    def test_by_hand(self):
        # k(0, 1) = 1, k(2, 3) = 7^3; across: 1, 1, 3^3, 4^3
        got = kid(np.array([[0.0], [1.0]]), np.array([[2.0], [3.0]]))
        assert_allclose(got, 1 + 343 - 2 * (1 + 1 + 27 + 64) / 4)
        same = np.array([[0.0], [1.0]])  # unbiased, so that it may be negative: 1 + 1 against 1, 1, 1, 8
        assert_allclose(kid(same, same), 1 + 1 - 2 * (1 + 1 + 1 + 8) / 4)

    def test_equals_a_double_loop_across_blocks(self, monkeypatch):
        monkeypatch.setattr("harness.metrics.distance._BLOCK", 4)
        a, b = correlated(7, 5, 0), correlated(9, 5, 1)

        def k(u, v):
            return (sum(p * q for p, q in zip(u, v, strict=True)) / 5 + 1) ** 3

        aa = [k(a[i], a[j]) for i in range(7) for j in range(7) if i != j]
        bb = [k(b[i], b[j]) for i in range(9) for j in range(9) if i != j]
        ab = [k(u, v) for u in a for v in b]
        want = sum(aa) / 42 + sum(bb) / 72 - 2 * sum(ab) / 63
        assert_allclose(kid(a, b), want, rtol=1e-10)


class TestInceptionScore:
    def test_by_hand(self):
        # p(y|x) = (3/4, 1/4) and (1/4, 3/4), p(y) = (1/2, 1/2): KL = 3/4 log 3/2 + 1/4 log 1/2 for both
        logits = np.log([[3.0, 1.0], [1.0, 3.0]])
        assert_allclose(inception_score(logits), 1.5**0.75 * 0.5**0.25, rtol=1e-12)

    def test_lies_between_one_and_the_number_of_classes_or_images(self):
        assert_allclose(inception_score(np.zeros((7, 4))), 1)  # each image undecided
        assert_allclose(inception_score(np.tile([3.0, 1.0, 0.0], (7, 1))), 1)  # all alike
        assert_allclose(inception_score(1e4 * np.eye(5)), 5)  # each sure of a class of its own: p underflows
        assert_allclose(inception_score(1e4 * np.eye(5)[[0, 1, 2]]), 3)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_is_not_finite_has_no_score(self, bad):
        with pytest.raises(Unavailable, match="not finite"):
            inception_score(np.array([[0.0, bad], [0.0, 1.0]]))


class TestAccuracy:
    def test_by_hand(self):
        numbers, unavailable, _ = evaluate(evidence(), ["top1", "agreement"])
        assert numbers == {"top1": 60.0, "agreement": 80.0}
        assert not unavailable

    def test_a_logit_that_is_no_number_is_no_decision(self):
        ev = evidence()
        ev.s_logits[3, 2] = np.nan
        numbers, unavailable, _ = evaluate(ev, ["top1", "agreement"])
        assert numbers == {}
        assert set(unavailable.values()) == {"the student's logits are not finite"}


class TestCoverage:
    def test_all_classes_evenly(self):
        ev = evidence(samples([0, 1, 2, 3] * 5, y=[0, 1, 2, 0] * 5))
        numbers, unavailable, warnings = evaluate(ev, ["class_coverage", "class_entropy", "label_match"])
        assert numbers == {"class_coverage": 100.0, "class_entropy": pytest.approx(1.0), "label_match": 75.0}
        assert not unavailable and not warnings

    def test_a_missing_class_is_named(self):
        numbers, _, warnings = evaluate(evidence(samples([0, 1, 3] * 4)), ["class_coverage"])
        assert numbers == {"class_coverage": 75.0}
        assert warnings == ["mode collapse: the teacher sees no image of class cat"]

    def test_many_missing_classes_are_counted(self):
        ev = evidence(samples([0]))
        ev.task = replace(ev.task, classes=tuple("abcdefgh"))
        assert evaluate(ev, ["class_coverage"])[2][0].endswith("of class b, c, d, e, f and 2 more")

    @pytest.mark.parametrize(
        ("t", "entropy", "warned"),
        [
            ([0] * 8, 0.0, True),
            ([0] * 4 + [1] * 4, 0.5, False),  # log 2 / log 4, the threshold itself
            # 6/8 and 2/8: (0.75 log2 4/3 + 0.25 log2 4) / 2
            ([0] * 6 + [1] * 2, 0.405639, True),
            ([0] * 4 + [1] * 2 + [2] + [3], 0.875, False),  # (1/2 + 2/4 + 3/8 + 3/8) / 2
        ],
    )
    def test_entropy_by_hand(self, t, entropy, warned):
        numbers, _, warnings = evaluate(evidence(samples(t)), ["class_entropy"])
        assert numbers["class_entropy"] == pytest.approx(entropy, abs=1e-6)
        assert ["class entropy" in w for w in warnings] == [True] * warned

    def test_labels_nobody_asked_for_do_not_match_or_miss(self):
        ev = evidence(samples([0, 1, 2, 3], y=[0, -1, 3, -1]))
        assert evaluate(ev, ["label_match"])[0] == {"label_match": 50.0}
        _, unavailable, _ = evaluate(evidence(samples([0, 1])), ["label_match"])
        assert unavailable == {"label_match": "images are made without asking for a class"}


class TestSpread:
    def test_is_the_pooled_deviation_within_classes(self):
        rng = np.random.default_rng(3)
        images = rng.integers(0, 256, (9, 1, 2, 2)).astype(np.uint8)
        t = [0, 0, 0, 0, 1, 1, 2, 2, 3]  # the last has nothing to be compared with
        x = images.astype(float) / 255
        pooled = sum(x[i:j].var(0, ddof=1) * (j - i - 1) for i, j in [(0, 4), (4, 6), (6, 8)]) / 5
        numbers, _, warnings = evaluate(evidence(samples(t, images=images)), ["spread"])
        assert numbers["spread"] == pytest.approx(np.sqrt(pooled.mean()), rel=1e-12)
        assert not warnings

    @pytest.mark.parametrize(("noise", "warned"), [(0, True), (1, True), (40, False)])
    def test_one_image_per_class_is_a_collapse_though_every_class_is_there(self, noise, warned):
        rng = np.random.default_rng(0)
        t = np.arange(40) % 4
        base_images = rng.integers(50, 200, (4, 1, 2, 2))
        images = (base_images[t] + rng.integers(-noise, noise + 1, (40, 1, 2, 2))).astype(np.uint8)
        ev = evidence(samples(t, images=images))
        numbers, _, warnings = evaluate(ev, ["class_coverage", "class_entropy", "spread"])
        assert numbers["class_coverage"] == 100
        assert (numbers["spread"] < coverage.LOW_SPREAD) is warned
        collapse = "mode collapse: the images of class ant, bee, cat, dog are nearly one image"
        assert warnings == [collapse] * warned

    def test_one_collapsed_class_among_good_ones_is_named(self):
        images = np.random.default_rng(0).integers(0, 256, (40, 1, 2, 2)).astype(np.uint8)
        t = np.arange(40) % 4
        images[t == 2] = 7
        numbers, _, warnings = evaluate(evidence(samples(t, images=images)), ["spread"])
        assert numbers["spread"] > 10 * coverage.LOW_SPREAD
        assert warnings == ["mode collapse: the images of class cat are nearly one image"]

    def test_needs_two_of_a_class(self):
        assert evaluate(evidence(samples([0, 1])), ["spread"])[1] == {
            "spread": "no class has two images to compare"
        }


class TestFdTeacher:
    @pytest.mark.parametrize(("made", "real"), [(80, 60), (60, 80)])
    def test_equals_pytorch_fid_on_equally_many(self, their_distance, made, real):
        h = correlated(made, 6, 0).astype(np.float16)
        ev = evidence(samples([0] * made, h=h))
        ev.t_h = correlated(real, 6, 1).astype(np.float32)
        ev.test = np.zeros((real, 1, 2, 2), np.uint8)
        used = ev.t_h[ev.test_rows(60)]
        assert len(used) == 60
        theirs = their_distance(*moments(h[:60].astype(float)), *moments(used.astype(float)))
        assert evaluate(ev, ["fd_teacher"])[0] == {"fd_teacher": pytest.approx(theirs, rel=1e-6)}

    def test_no_metric_but_fid_looks_beyond_what_the_store_keeps(self):
        rng = np.random.default_rng(0)
        images = rng.integers(0, 256, (2500, 1, 2, 2)).astype(np.uint8)
        many = samples(rng.integers(0, 4, 2500), y=rng.integers(0, 4, 2500), images=images)
        names = ["fd_teacher", "class_coverage", "class_entropy", "label_match", "spread"]
        names += ["diversity", "hf_ratio"]
        ev = evidence(many)
        ev.t_h = rng.normal(size=(3000, 3)).astype(np.float32)
        ev.t_logits = rng.normal(size=(3000, 4)).astype(np.float32)
        ev.test = rng.integers(0, 256, (3000, 1, 2, 2)).astype(np.uint8)
        numbers = []
        for n in (1999, 2000, 2001, 2500):
            ev.samples = {k: v[:n] for k, v in many.items()}
            numbers.append(evaluate(ev, names)[0])
        assert numbers[1].keys() == set(names)
        assert numbers[1] == numbers[2] == numbers[3] != numbers[0]

    def test_the_test_images_are_drawn_from_all_classes(self):
        ev = evidence()
        labels = np.repeat(np.arange(20), 50)  # ordered by class, as folders are read
        ev.test = np.zeros((1000, 1, 2, 2), np.uint8)
        rows = ev.test_rows(200)
        assert len(np.unique(rows)) == 200 and (np.diff(rows) > 0).all()
        assert set(labels[rows]) == set(range(20))
        assert (ev.test_rows(200) == rows).all()
        assert (ev.test_rows(1000) == np.arange(1000)).all()
        assert (ev.test_rows(2000) == np.arange(1000)).all()


class TestEvaluate:
    def test_every_metric_says_what_it_is(self):
        known = all_metrics()
        assert {"top1", "agreement", "class_coverage", "class_entropy", "label_match", "spread"} < set(known)
        assert {"fd_teacher", "fid", "kid", "inception_score", "diversity", "hf_ratio"} < set(known)
        assert {m.name for m in known.values() if m.opt_in} == {"corruption", "shift"}
        for name, metric in known.items():
            assert metric.name == name and metric.title and metric.needs and metric.fn.__doc__
            assert metric.better in ("higher", "lower", "")

    def test_a_reference_makes_no_images_and_has_its_accuracy(self):
        numbers, unavailable, warnings = evaluate(evidence())
        # on val one of two is right; of a unit logit against three zeros log p is 1 - log(e + 3), of a
        # zero -log(e + 3)
        val = {"val_top1": 50.0, "val_nll": pytest.approx(math.log(math.e + 3) - 0.5, rel=1e-6)}
        assert numbers == {"top1": 60.0, "agreement": 80.0} | val
        blank = {"class_coverage", "class_entropy", "label_match", "spread", "fd_teacher"}
        blank |= {"diversity", "hf_ratio", "fid_5_test", "kid_5_test", "is_5_samples"}
        assert unavailable == dict.fromkeys(blank, NO_IMAGES)
        assert not warnings

    def test_no_image_at_all(self):
        unavailable = evaluate(evidence(samples([])))[1]
        assert set(unavailable.values()) == {"the method made no image"}
        assert len(unavailable) == 10

    def test_an_unknown_metric_is_refused_before_any_is_computed(self, monkeypatch):
        asked = []
        top1 = replace(all_metrics()["top1"], fn=lambda ev: asked.append(ev) or {"top1": 1.0})
        monkeypatch.setattr(base, "all_metrics", lambda: {"top1": top1})
        with pytest.raises(DfkdError, match=r"unknown metric 'topl'; did you mean 'top1'\?"):
            evaluate(evidence(), ["top1", "topl"])
        assert not asked

    def test_what_is_asked_for_comes_after_what_is_always_taken(self):
        ordinary = chosen()
        assert "top1" in ordinary and not {"corruption", "shift"} & set(ordinary)
        assert chosen(["shift", "top1"]) == [*ordinary, "shift"]
        with pytest.raises(DfkdError, match=r"unknown metric 'coruption'; did you mean 'corruption'\?"):
            chosen(["coruption"])

    def test_a_metric_is_lacking_without_a_number_and_without_a_reason(self):
        numbers = {"top1": 9.0, "corruption_drop": 1.0}
        result = {"metrics": numbers, "unavailable": {"shift_mnist": "no files"}}
        assert lacking(result, ["corruption", "shift"]) == []
        assert lacking({"metrics": {"shifted": 1.0}}, ["corruption", "shift"]) == ["corruption", "shift"]

    def test_a_number_that_is_none_is_no_number_and_a_column_may_have_a_reason(self, monkeypatch):
        rows = [
            Metric("a", "A", "", "", ("x",), lambda ev: {"a": float("nan"), "also": 2}),
            Metric("b", "B", "", "", ("x",), lambda ev: {"b_1": 3, "b_2": "no files"}),
        ]
        monkeypatch.setattr(base, "all_metrics", lambda: {m.name: m for m in rows})
        blank = {"a": "the number is nan", "b_2": "no files"}
        assert evaluate(evidence()) == ({"also": 2.0, "b_1": 3.0}, blank, [])

    def test_one_row_is_a_number_and_a_column_of_the_report(self, monkeypatch, tmp_path):
        sharp = Metric("sharp", "sharpness", "px", "lower", ("samples",), lambda ev: {"sharp": 1.25})
        named = replace(sharp, name="soft", columns=(Column("soft ({})", "of it", 1, 10, "soft_*"),), place=0)
        rows = {**all_metrics(), "sharp": sharp, "soft": named}
        monkeypatch.setattr(base, "all_metrics", lambda: rows)
        assert evaluate(evidence())[0]["sharp"] == 1.25
        numbers = {"agreement": 91.0, "sharp": 1.25, "soft_4": 0.5, "other": 7.0}
        build.finished(tmp_path, build.trial(), metrics=numbers)
        (block,) = blocks(table.main(frame([build.trial()], Store(tmp_path))))
        cells = block.lines[0].cells
        shown = dict(zip([head.text for head in block.heads[-len(cells) :]], cells, strict=True))
        assert shown["sharpness (px)"] == "1.25" and shown["soft (4)"] == "5.0"
        titles = [t for t in shown if t in ("soft (4)", "agreement (%)", "sharpness (px)")]
        assert titles == ["soft (4)", "agreement (%)", "sharpness (px)"] and "other" not in shown

    def test_fid_alone_asks_for_more_samples_than_the_store_keeps_and_where_it_can_be_had(
        self, tmp_path, monkeypatch
    ):
        monkeypatch.setenv("TORCH_HOME", str(tmp_path))  # no weights there
        assert base.how_many(None, 10_000) == base.STORED == 2000
        given = tmp_path / "weights"
        assert [base.how_many(given, n) for n in (899, 5000, 10_000, 26_032)] == [2000, 5000, 10_000, 10_000]

    def test_listing_imports_nothing_heavy(self):
        code = (
            "import sys; from harness.metrics.base import all_metrics; assert 'fid' in all_metrics();"
            "print([m for m in ('torch', 'torchvision', 'pytorch_fid', 'scipy') if m in sys.modules])"
        )
        root = Path(__file__).parents[2]
        out = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
        assert out.stdout.strip() == "[]", out.stderr
