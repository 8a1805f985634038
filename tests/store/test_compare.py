"""`dfkd compare`: two stores or published folders held against each other; numbers by hand."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from harness.config import Budget, Trial
from harness.grids import expand, load
from harness.store import records
from harness.store.compare import Comparison, Pair, compare
from harness.store.directory import TrialDir
from reports.page import changes
from tests.build import failed, finished, trial

COMMIT = "0123456789ab"  # of `tests.build.result`
BIT = {"fd_teacher": math.nextafter(4.0, 5)}
CURVE = {"curve": (50.5, 90.0)}
GRID = """
from harness.config import Budget, Grid
GRID = Grid(tasks=("digits",), pairs=(("wrn16_2", "wrn16_1"),), seeds=(0, 1), budget=Budget(amount=10),
            variants={"kd": ("kd", {}), "scratch": ("scratch", {})})
"""


def finish(
    out: Path, of: Trial, top1: float = 90.0, metrics: Mapping[str, float] = {}, **more: Any
) -> TrialDir:
    """A finished trial of 400 test images; ``curve``, ``seconds``, and provenance by name."""
    curve, seconds = more.pop("curve", (50.0, 90.0)), more.pop("seconds", 3.0)
    return finished(
        out, of, curve, metrics={"top1": top1, "fd_teacher": 4.0, **metrics}, cost={"seconds": seconds},
        unavailable={"fid_400_test": "no weights"}, provenance=more,
    )  # fmt: skip


def held(a: Path, b: Path, ids: Collection[str] | None = None) -> Comparison:
    sides = records.read(a), records.read(b)
    return compare(sides[0].records, sides[1].records, ids)


def one(a: Path, b: Path) -> Pair:
    found = held(a, b)
    assert not found.only_a and not found.only_b
    (pair,) = found.pairs
    return pair


class TestSameDeclaration:
    @pytest.mark.parametrize(
        ("theirs", "verdict", "said"),
        [
            # three metrics, three of what was spent, whatever the time it took
            ({"seconds": 99.0}, "equal", {"promised": True, "difference": 0.0, "compared": 6, "by": "id"}),
            ({"top1": math.nextafter(90.0, 91)}, "broken promise", {"promised": True, "curve": ""}),
            ({"metrics": {"fd_teacher": 4.5}}, "broken promise", {"metrics": {"fd_teacher": (4.0, 4.5)}}),
            ({"curve": (50.0, 90.5)}, "broken promise", {"curve": "curves part at point 2 in top1"}),
            ({"curve": (50.0,)}, "broken promise", {"curve": "curves have 2 and 1 points", "metrics": {}}),
            ({"top1": 90.5, "commit": "33"}, "broken promise", {"provenance": {"commit": (COMMIT, "33")}}),
            ({"metrics": {"corruption": 50.0}}, "equal", {"extra": ("corruption",), "equal": True}),
            ({"metrics": BIT}, "broken promise", {"rounded": True}),
            ({"metrics": BIT, "kernels": "other"}, "within rounding", {"promised": False}),
        ],
    )
    def test_every_number_has_the_same_bits_or_the_promise_is_broken(self, a, b, theirs, verdict, said):
        finish(a, trial())
        finish(b, trial(), **theirs)
        pair = one(a, b)
        assert pair.verdict == verdict and pair.broken == (verdict == "broken promise")
        assert {name: getattr(pair, name) for name in said} == said

    @pytest.mark.parametrize(
        "name",
        ["machine", "kernels", "device", "threads", "torch", "python", "teacher_digest", "data_digest"],
    )
    def test_nothing_is_promised_elsewhere(self, a, b, name):
        finish(a, trial(), top1=90.0)
        finish(b, trial(), top1=88.0, **{name: 2 if name == "threads" else "other"})
        pair = one(a, b)
        assert not pair.promised and pair.verdict == "within resolution"
        assert list(pair.provenance) == [name]

    def test_nor_where_the_provenance_is_not_known(self, a, b):
        finish(a, trial(), top1=90.0, machine="")
        finish(b, trial(), top1=88.0, machine="")
        assert not one(a, b).promised

    @pytest.mark.parametrize("unknown", ["a", "b", "both"])
    def test_before_kernels_were_recorded_all_but_rounding_is_promised(self, a, b, unknown):
        where = {s: {"kernels": ""} if unknown in (s, "both") else {} for s in "ab"}
        far = {"fd_teacher": math.nextafter(math.nextafter(4.0, 5), 5)}
        near = {"fd_teacher": 4.0 + 1e-8}
        for seed, theirs in enumerate(({"metrics": far}, {"metrics": near}, {"metrics": far} | CURVE, {})):
            finish(a, trial(seed), **where["a"])
            finish(b, trial(seed), **theirs, **where["b"])
        pairs = held(a, b).pairs
        assert [p.verdict for p in pairs] == ["within rounding", "broken promise", "broken promise", "equal"]
        assert [(p.promised, p.exact) for p in pairs] == [(True, False)] * 4
        said = "\n".join(changes.lines(held(a, b)))
        assert "fd_teacher: 4.0 -> 4.000000000000002" in said
        assert (
            "same machine type, files, versions and threads, kernels not known on both sides, other" in said
        )
        loose = "4 but for rounding: kernels not known on both sides"
        assert f"promised to be equal: 4 ({loose}), of which 2 are not" in said

    @pytest.mark.parametrize(
        ("top1", "images", "half", "verdict"),
        [  # 196 sqrt((0.9 * 0.1 + q (1 - q)) / images)
            (88.0, 400, 4.334, "within resolution"),
            (85.7, 400, 4.518, "within resolution"),
            (85.1, 400, 4.563, "beyond resolution"),
            (89.0, 16_000, 0.672, "beyond resolution"),
        ],
    )
    def test_resolution_by_hand(self, a, b, top1, images, half, verdict):
        runs = [finish(a, trial(), torch="x"), finish(b, trial(), top1=top1)]
        for run in runs * (images != 400):  # what was decided of each image counts before a metric's name
            run.write_arrays("predictions.npz", {"y": np.zeros(images, np.uint8)})
        pair = one(a, b)
        variance = 0.09 + top1 / 100 * (1 - top1 / 100)
        assert pair.resolution == pytest.approx(100 * norm.ppf(0.975) * math.sqrt(variance / images))
        assert pair.resolution == pytest.approx(half, abs=1e-3) and pair.verdict == verdict

    def test_curves_of_other_points_are_not_compared(self, a, b):
        finish(a, trial(points=2), curve=(50.0, 90.0))
        finish(b, trial(points=4), curve=(40.0, 50.0, 60.0, 90.0))
        assert trial(points=2).id == trial(points=4).id and one(a, b).equal


class TestOtherDeclarations:
    def test_what_differs_is_named(self, a, b):
        finish(a, trial(settings={"beta": 1.0, "gone": "x"}))
        settings = {"beta": 0.5, "new": 3}
        changed = trial(settings=settings, budget=Budget(amount=20), protocol=2)
        finish(b, changed, top1=89.0)
        pair = one(a, b)
        assert pair.by == "name" and not pair.promised and pair.verdict == "within resolution"
        assert pair.declared == {
            "settings.beta": (1.0, 0.5), "settings.gone": ("x", None), "settings.new": (None, 3),
            "budget": ("10:rounds", "20:rounds"), "protocol": (1, 2),
        }  # fmt: skip

    def test_of_several_the_closest_is_taken(self, a, b):
        finish(a, trial(settings={"beta": 1.0, "gamma": 1.0}))
        near, far = trial(settings={"beta": 1.0, "gamma": 2.0}), trial(settings={"beta": 3.0, "gamma": 4.0})
        finish(b, far)
        finish(b, near)
        found = held(a, b)
        assert [p.b.id for p in found.pairs] == [near.id]
        assert [(r.id, why) for r, why in found.only_b] == [(far.id, "that of A was closer to another")]

    def test_a_row_that_was_renamed_is_found_by_its_method(self, a, b):
        finish(a, trial(settings={"beta": 0.0}, label="noop - bn"))
        finish(b, trial(settings={"beta": 0.1}, label="without bn"))
        assert one(a, b).declared == {"settings.beta": (0.0, 0.1)}

    def test_trials_of_one_side_with_the_reason(self, a, b):
        finish(b, trial(0))
        finish(b, trial(1))
        finish(a, trial(2))
        finish(a, trial(0, task="mnist"))
        finish(a, trial(0, teacher="lenet5"))
        finish(a, trial(0, label="cpsc", method="cpsc"))
        found = held(a, b)
        assert not found.pairs
        assert [why for _, why in found.only_a] == [
            "B has nothing of lenet5 -> wrn16_1 on digits",
            "B has no row cpsc there",
            "B has that row with seeds 0, 1",
            "B has nothing on mnist",
        ]
        assert [why for _, why in found.only_b] == ["A has that row with seed 2"] * 2

    def test_without_a_number(self, a, b):
        finish(a, trial(0))
        failed(b, trial(0))
        finish(a, trial(1))
        TrialDir(b, trial(1)).prepare()
        for side in (a, b):
            TrialDir(side, trial(2)).prepare()  # declared by both, run by none: nothing to tell
        found = held(a, b)
        assert [p.verdict for p in found.pairs] == ["no number"] * 2
        said = "\n".join(changes.lines(found))
        assert "seed 0: A done; B failed: loss of 'G' is not finite" in said
        assert "seed 1: A done; B missing" in said and "seed 2" not in said

    def test_two_trials_by_their_directories(self, a, dfkd):
        one_ = finish(a, trial(settings={"beta": 1}))
        two = finish(a, trial(7, label="cpsc", method="cpsc"), top1=80.0)
        code, out, _ = dfkd("compare", one_.path, two.path)
        assert code == 0
        assert all(t in out for t in ("noop / cpsc", "-10.00", "method: noop -> cpsc", "seed: 0 -> 7"))


class TestTheCommand:
    def test_status_1_and_a_line_for_a_broken_promise(self, a, b, dfkd):
        finish(a, trial(0), top1=90.0)
        finish(b, trial(0), top1=91.0)
        finish(a, trial(1))
        finish(b, trial(1))
        code, out, _ = dfkd("compare", a, b)
        assert code == 1 and "broken promise" in out
        assert f"noop on digits wrn16_2->wrn16_1 seed 0 ({trial(0).id}): same machine type" in out
        assert "top1: 90 -> 91" in out
        said = "2 trials in both (2 of the same declaration): "
        assert said + "1 broken promise, 1 equal" in out  # in the order met, where there are as many
        assert "worst difference of top-1: +1.00 points, noop on digits wrn16_2->wrn16_1 seed 0" in out
        assert "promised to be equal: 2, of which 1 are not" in out
        assert dfkd("compare", a, b, "--json")[0] == 1
        assert dfkd("compare", a, a)[0] == 0

    def test_json_has_every_number_of_both_in_full(self, a, b, dfkd):
        finish(a, trial(0), top1=200 / 3)
        finish(b, trial(0), top1=65.5, torch="x", metrics={"corruption": 50.0})
        failed(b, trial(1), "skip", "no BatchNorm")
        told = dfkd("compare", a, b, "--json").json
        (pair,) = told["pairs"]
        assert pair["a"]["metrics"]["top1"] == 200 / 3 and pair["b"]["metrics"]["corruption"] == 50.0
        assert pair["difference"] == 65.5 - 200 / 3 and pair["extra"] == ["corruption"]
        assert pair["provenance"] == {"torch": ["2.9.0+cpu", "x"]} and not pair["equal"]
        assert told["only_b"][0]["why"] == "A has that row with seed 0; skipped: no BatchNorm"
        assert told["counts"] == {"within resolution": 1} and told["broken"] == 0

    def test_only_a_grids_trials(self, a, b, dfkd, tmp_path):
        (tmp_path / "tiny.py").write_text(GRID)
        chosen = expand.remembered(load.load(tmp_path / "tiny.py"))
        for each in (*chosen, trial()):
            finish(a, each)
            finish(b, each)
        other = chosen[0].model_copy(update={"protocol": 0})  # an older version's, of the same name
        shutil.rmtree(TrialDir(b, chosen[0]).path)
        finish(b, other)
        told = dfkd("compare", a, b, tmp_path / "tiny.py", "--json").json
        assert [(p["a"]["row"], p["a"]["seed"], p["by"]) for p in told["pairs"]] == [
            ("kd", 0, "name"), ("kd", 1, "id"), ("scratch", 0, "id"), ("scratch", 1, "id"),
        ]  # fmt: skip
        assert told["pairs"][0]["declared"] == {"protocol": [1, 0]}
        assert len(dfkd("compare", a, b, "--json").json["pairs"]) == 5

    def test_columns_that_say_nothing_are_left_out(self, a, b):
        for side in (a, b):
            finish(side, trial(0))
        assert list(changes.table(held(a, b))[0]) == [
            "row", "seed", "top1 A", "top1 B", "difference", "resolution", "equal numbers", "verdict"
        ]  # fmt: skip
        for side in (a, b):
            finish(side, trial(0, task="mnist", teacher_seed=1))
        assert {"task", "teacher seed"} <= changes.table(held(a, b))[0].keys()

    def test_a_damaged_trial_is_left_out_by_name(self, a, b, dfkd):
        for side in (a, b):
            finish(side, trial(0))
        bad = finish(b, trial(1))
        (bad.path / "trial.json").write_text("{")
        code, _, err = dfkd("compare", a, b)
        assert code == 0 and f"left out: {bad.path / 'trial.json'} cannot be read" in err

    def test_what_cannot_be_compared_is_told_in_a_line(self, a, tmp_path, dfkd):
        finish(a, trial())
        (tmp_path / "empty" / "trials").mkdir(parents=True)
        for other, told in [
            ("nowhere", "nowhere does not exist: give a folder of `dfkd run --out`"),
            (tmp_path, "has no trials/"),
            (tmp_path / "empty", "holds no trial"),
        ]:
            dfkd("compare", a, other).refuses(told)
