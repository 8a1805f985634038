"""The named failure signatures: for each a case that shows it and one that does not, worked by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import chi2_contingency

from harness import registry
from harness.config import Budget, Recipe
from harness.errors import Diverged
from harness.metrics import coverage, variety
from harness.metrics.base import Evidence, evaluate
from harness.nets.catalog import spec
from harness.store.directory import TrialDir
from harness.store.mlflow_record import record_of
from harness.store.warnings import SIGNATURES, listed, name_of, names_of, renewed
from harness.tasks import catalog
from harness.tasks.images import load
from harness.trials import diagnose
from harness.trials.toy import TOY, toy_method
from methods.shared.student import width_mismatch
from tests import build
from tests.schedule import noop_trial

MISMATCH = "feature-width mismatch"


def hp(method: str, **settings: Any) -> Any:
    return registry.methods.get(method).HP(**build.trial_of(method, settings).settings)


def curve(top1: list[float], **terms: list[float]) -> list[dict[str, float]]:
    named = {k.replace("_", "/", 1): v for k, v in terms.items()}
    rows = [{"point": i, "top1": t} for i, t in enumerate(top1, 1)]
    return [row | {k: v[i] for k, v in named.items()} for i, row in enumerate(rows)]


class TestDivergence:
    def test_a_student_that_ends_at_chance_after_it_knew_more(self):
        top1 = [12.0, 55.0, 88.2, 70.0, 30.0, 10.4, 9.9, 10.1, 10.0, 10.1, 10.0, 10.2]
        assert diagnose.divergence(curve(top1), 10) == [
            "divergence: top-1 ends at 10.20 %, where chance is 10.00 %, after 88.20 % at point 3"
        ]

    @pytest.mark.parametrize(
        ("top1", "classes"),
        [
            ([12.0, 55.0, 88.2, 70.0, 60.0, 50.0, 40.0, 31.0, 25.0, 20.0], 10),  # fell, not to chance
            ([9.0, 11.0, 12.0, 10.0, 11.4, 9.8, 10.0, 10.3], 10),  # never knew anything
            ([10.0, 20.0, 50.0], 10),  # too short to say
            ([55.0, 52.0, 50.0, 51.0, 49.0], 2),  # of two classes 55 % is hardly knowledge
            ([1.0, 1.7, 1.1, 0.9, 1.0], 100),
        ],
    )
    def test_others_are_not_called_so(self, top1, classes):
        assert diagnose.divergence(curve(top1), classes) == []

    @pytest.mark.parametrize(
        ("classes", "top1"), [(2, [80.0, 70.0, 60.0, 50.5]), (100, [2.5, 2.0, 1.5, 1.2])]
    )
    def test_chance_is_that_of_the_classes(self, classes, top1):
        assert len(diagnose.divergence(curve(top1), classes)) == 1

    def test_a_constant_answer_to_unequal_classes_is_chance(self):
        top1 = [60.0, 90.0, 40.5, 40.0]
        assert diagnose.divergence(curve(top1), 10) == []
        assert "chance is 40.00 %" in diagnose.divergence(curve(top1), 10, most=0.4)[0]

    def test_a_term_that_grows_without_bound(self):
        # first half without the first point: |G/adv| + |G/bn| is 32 + 2 at most, and it ends at 1024
        rows = curve([50.0] * 10, G_adv=[-(2.0**i) for i in range(1, 11)], G_bn=[2.0] * 10, S_kl=[1.0] * 10)
        found = diagnose.divergence(rows, 10)
        assert found == [
            "divergence: loss term G/adv ends at 1.02e+03 in size, the whole loss of G was 34 at most in the "
            "first half"
        ]

    @pytest.mark.parametrize(
        "term",
        [
            [1.0, 900.0] * 5,  # wild, but no more at the end than before
            [1.0] * 8 + [500.0, 400.0],  # coming down again
            [1e-9 * 10**i for i in range(10)],  # from next to nothing to one
            [3.0 + i for i in range(10)],  # grows, in proportion
        ],
    )
    def test_a_term_that_does_not(self, term):
        assert diagnose.divergence(curve([50.0] * 10, S_kl=term), 10) == []

    def test_a_small_term_is_measured_by_the_whole_loss_of_its_phase(self):
        rows = curve([50.0] * 10, G_a=[0.01] * 9 + [5.0], G_b=[3.0] * 10)
        assert diagnose.divergence(rows, 10) == []
        assert len(diagnose.divergence(curve([50.0] * 10, G_a=[0.01] * 9 + [11.0]), 10)) == 1


def answers(n: int, alone: int, teacher_alone: int, both: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels 0; the student alone is right on the first, the teacher alone on the next, both on the third."""
    student, teacher = np.ones(n, int), np.ones(n, int)
    student[:alone] = teacher[alone : alone + teacher_alone] = 0
    student[alone + teacher_alone :][:both] = teacher[alone + teacher_alone :][:both] = 0
    return np.zeros(n, int), teacher, student


class TestLeak:
    def test_a_student_far_above_its_teacher(self):
        labels, teacher, student = answers(10_000, 700, 100, 8000)
        paired = (student == 0).astype(float) - (teacher == 0)
        assert 3 * 100 * paired.std() / 100 < 2  # so that 2 points decide
        assert diagnose.leak(labels, teacher, student) == [
            "leak: the student is 6.00 points above its teacher on the test set, where 2.00 could be luck: "
            "has it seen real images?"
        ]

    def test_on_few_images_it_may_be_luck(self):
        labels, teacher, student = answers(100, 7, 1, 80)
        paired = (student == 0).astype(float) - (teacher == 0)
        assert paired.mean() == pytest.approx(0.06) and 3 * paired.std() / 10 > 0.08
        assert diagnose.leak(labels, teacher, student) == []
        found = diagnose.leak(*answers(100, 14, 1, 80))  # 13 points: 3 sqrt(15 - 1.69) = 10.94
        assert "13.00 points" in found[0] and "10.94 could be luck" in found[0]

    def test_less_than_two_points_are_never_called_so(self):
        assert diagnose.leak(*answers(100_000, 1999, 0, 90_000)) == []
        assert len(diagnose.leak(*answers(100_000, 2001, 0, 90_000))) == 1

    def test_a_reference_may_be_better(self):
        labels, teacher, student = answers(1000, 200, 0, 700)
        for uses_data in (False, True):
            ev = evidence(labels=labels, t_logits=np.eye(2)[teacher], s_logits=np.eye(2)[student])
            found = diagnose.after(ev, {}, [], uses_data)
            assert [name_of(w) for w in found] == ["leak"] * (not uses_data)


def evidence(**more: Any) -> Evidence:
    split = load("digits").test
    given = {"labels": split.labels, "test": split.images}
    return build.evidence(task=catalog.describe("digits"), **(given | more))


def samples(y: np.ndarray, t: np.ndarray, images: np.ndarray | None = None) -> dict[str, np.ndarray]:
    noise = np.random.default_rng(0).integers(0, 256, (len(y), 1, 8, 8)).astype(np.uint8)
    return {"images": noise if images is None else images, "y": y, "t": t, "s": t, "h": np.zeros((len(y), 3))}


class TestBlur:
    @pytest.mark.parametrize(("sigma", "blurred"), [(0.0, False), (0.5, False), (1.0, True), (1.5, True)])
    def test_images_less_sharp_than_the_test_images(self, sigma, blurred):
        split = load("digits").test
        soft = gaussian_filter(split.images[:800].astype(float), (0, 0, sigma, sigma))
        images = soft.round().astype(np.uint8)
        y = np.asarray(split.labels[:800])
        ratio = variety.hf_ratio(evidence(samples=samples(y, y, images)))
        found = diagnose.blur(ratio)
        assert bool(found) == blurred
        if found:
            share = f"{100 * ratio['hf_ratio']:.0f} % of the test images' share of high frequencies"
            assert found == [f"blur: the images have {share}"]

    def test_without_the_metric_nothing_is_said(self):
        assert diagnose.blur({"top1": 1.0}) == [] and diagnose.blur({"hf_ratio": 0.5}) == []

    @pytest.mark.parametrize(
        ("method", "settings", "told"),
        [
            ("cpsc", {"beta": 0.002}, "beta = 0.002"),
            ("deepinversion", {"bn": 1e-3}, "bn = 0.001"),
            ("cpsc", {"beta": 0.01}, ""),
            ("cpsc", {"beta": 0.0}, ""),  # off: an ablation, and its row says so
            ("cpsc", {}, ""),
            ("dafl", {"oh": 1e-6}, ""),  # another term
        ],
    )
    def test_a_weight_of_batchnorm_near_zero(self, method, settings, told):
        found = diagnose.near_zero(hp(method, **settings))
        assert [w.startswith(f"blur: {told}, the weight of BatchNorm") for w in found] == [True] * bool(told)


class TestWidths:
    def test_both_widths_and_the_adapter_are_named(self):
        cls, pair = registry.methods.get("cpsc"), (spec("wrn16_2", TOY), spec("wrn16_1", TOY))
        adapter = toy_method("cpsc").parts["adapter"]
        found = diagnose.before(cls, hp("cpsc"), TOY, *pair)
        assert found == [
            f"{MISMATCH}: the feature of wrn16_1 has 64 numbers, that of wrn16_2 128: "
            "Adapter 64 -> 64 -> 128, trained by SCL, maps one to the other"
        ]
        sizes = adapter.lin1.in_features, adapter.lin1.out_features, adapter.lin2.out_features
        assert sizes == (64, 64, 128)
        frozen = diagnose.before(cls, hp("cpsc", adapter="frozen"), TOY, *pair)
        assert "never trained" in frozen[0]

    @pytest.mark.parametrize("settings", [{"gamma": 0.0}, {}])
    def test_none_where_nothing_is_compared_or_the_widths_are_equal(self, settings):
        cls = registry.methods.get("cpsc")
        t_spec, s_spec = spec("wrn16_2", TOY), spec("wrn16_1" if settings else "wrn16_2", TOY)
        assert diagnose.before(cls, hp("cpsc", **settings), TOY, t_spec, s_spec) == []

    def test_a_method_without_an_adapter_can_be_skipped_in_the_same_words(self):
        told = width_mismatch(spec("wrn16_2", TOY), spec("wrn16_1", TOY))
        assert told == (
            f"{MISMATCH}: the feature of wrn16_1 has 64 numbers, that of wrn16_2 128: "
            "nothing maps one to the other"
        )
        assert width_mismatch(spec("wrn16_2", TOY), spec("wrn16_2", TOY)) is None

    def test_no_other_method_has_anything_to_say_of_its_defaults(self):
        pair = (spec("wrn16_2", TOY), spec("wrn16_1", TOY))
        for name in set(registry.methods.available()) - {"cpsc"}:
            assert diagnose.before(registry.methods.get(name), hp(name), TOY, *pair) == []


class TestLabelsIgnored:
    """A conditional generator whose images are of any class whatever is asked for."""

    def test_association_against_scipy(self):
        rng = np.random.default_rng(0)
        y = rng.integers(0, 10, 1500)
        for share in (0.0, 0.3, 1.0):
            t = np.where(rng.random(1500) < share, (y + 3) % 10, rng.integers(0, 10, 1500))
            table = np.histogram2d(y, t, bins=(10, 10))[0]
            phi2 = max(0.0, chi2_contingency(table, correction=False).statistic / 1500 - 81 / 1499)
            expected = np.sqrt(phi2 / (10 - 81 / 1499 - 1))
            assert coverage.association(y, t, 10) == pytest.approx(expected, rel=1e-9, abs=1e-12)

    def test_association_at_its_ends(self):
        y = np.arange(2000) % 10
        assert coverage.association(y, 9 - y, 10) == pytest.approx(1.0)  # all wrong, and yet by class
        assert coverage.association(y, np.zeros(2000, int), 10) == 0.0
        assert np.isnan(coverage.association(np.zeros(2000, int), y, 10))  # one class asked for
        assert np.isnan(coverage.association(y[:300], y[:300], 10))  # too few to tell

    @pytest.mark.parametrize(("share", "warned"), [(0.0, True), (0.2, False), (1.0, False)])
    def test_the_metric_warns(self, share, warned):
        rng = np.random.default_rng(1)
        y = np.arange(2000) % 10
        t = np.where(rng.random(2000) < share, y, rng.integers(0, 10, 2000))
        numbers, _, warnings = evaluate(evidence(samples=samples(y, t)), ["label_match"])
        assert numbers["label_match"] == pytest.approx(100 * np.mean(y == t))
        assert [w.startswith("labels ignored: ") for w in warnings] == [True] * warned

    def test_a_method_that_asks_for_none_is_not_blamed(self):
        y, t = np.full(2000, -1), np.random.default_rng(2).integers(0, 10, 2000)
        assert evaluate(evidence(samples=samples(y, t)), ["label_match"])[2] == []


class TestNames:
    def test_every_signature_has_one(self):
        assert [name_of(f"{name}: told") for name in SIGNATURES] == list(SIGNATURES)
        assert name_of("something else: x") == ""
        assert names_of(["blur: a", "leak: b", "blur: c", "odd"]) == ["blur", "leak", "warning"]

    def test_a_second_look_takes_back_what_it_would_have_found_again(self):
        old = ["leak: 5", "mode collapse: no image of class 1", "said by a plug-in", "blur: old"]
        new = ["mode collapse: no image of class 1", "blur: new"]
        assert renewed(old, new) == [new[0], "said by a plug-in", new[1]]

    def test_equal_warnings_are_listed_once_with_their_trials(self):
        trials = [noop_trial.make(seed) for seed in range(3)]
        assert listed(trials, [["blur: a"], [], ["blur: a", "leak: b"]]) == [
            "\n2 warnings:",
            "  blur: a",
            "    noop on digits wrn16_2->wrn16_1 seeds 0, 2",
            "  leak: b",
            "    noop on digits wrn16_2->wrn16_1 seed 2",
        ]
        assert listed(trials, [[], [], []]) == []

    def test_warnings_that_differ_in_a_measured_number_are_one_with_its_range(self):
        trials = [noop_trial.make(seed) for seed in range(3)]
        told = [["blur: 48 % of 2"], ["blur: 43 % of 2"], ["blur: 50 % of 3"]]
        assert listed(trials, told) == [
            "\n2 warnings:",
            "  blur: 43 to 48 % of 2",
            "    noop on digits wrn16_2->wrn16_1 seeds 0, 1",
            "  blur: 50 % of 3",
            "    noop on digits wrn16_2->wrn16_1 seed 2",
        ]


RECIPE = Recipe(name="tiny", epochs=1, lr=0.05, batch=64)
SMALL = {"batch": 8, "nz": 4, "g_steps": 1, "s_steps": 1, "beta": 1e-3}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    from harness.trials import teachers

    home = tmp_path_factory.mktemp("diagnose")
    teachers.train(home / "teachers", "digits", "lenet5_bn", RECIPE, 0, threads=1)
    return home


class TestWhereTheyAppear:
    @pytest.fixture
    def run(self, home, tmp_path) -> TrialDir:
        own = {"teacher": "lenet5_bn", "student": "lenet5_half_bn", "recipe": RECIPE}
        return TrialDir(tmp_path, build.trial_of("cpsc", SMALL, **own, budget=Budget(amount=3), points=3))

    def go(self, run: TrialDir, home: Path) -> dict[str, Any]:
        from harness.trials import trial

        with run.lock():
            return trial.run_trial(run.trial, run, teachers_dir=home / "teachers")

    def test_from_the_first_step_on(self, run, home, monkeypatch):
        seen = []

        def stop(self):
            seen.append(list(run.look().warnings))
            raise Diverged("at the first step")

        monkeypatch.setattr(registry.methods.get("cpsc"), "round", stop)
        with pytest.raises(Diverged):
            self.go(run, home)
        assert [name_of(w) for w in seen[0]] == [MISMATCH, "blur"]
        assert "42 numbers" in seen[0][0] and "lenet5_bn 84: Adapter 42 -> 42 -> 84" in seen[0][0]
        run.fail("method", "at the first step")
        assert list(run.look().warnings) == seen[0]

    def test_in_the_result_status_show_and_mlflow_and_once_after_a_second_measure(
        self, run, home, dfkd, tmp_path, monkeypatch
    ):
        from harness.trials import measure

        result = self.go(run, home)
        names = [name_of(w) for w in result["warnings"]]
        assert names[:2] == [MISMATCH, "blur"] and not (run.path / "warnings.json").exists()
        measure.measure(run, ["hf_ratio"], teachers_dir=home / "teachers")
        again = json.loads((run.path / "result.json").read_text())["warnings"]
        assert sorted(again) == sorted(result["warnings"])
        assert MISMATCH in json.loads(record_of(run).tags["warnings"])[0] + "".join(again)
        grid = tmp_path / "tiny.py"
        grid.write_text(
            "from harness.config import Budget, Grid\n"
            "GRID = Grid(tasks=('digits',), pairs=(('lenet5_bn', 'lenet5_half_bn'),), seeds=(0, 1),\n"
            f"    budget=Budget(amount=3), points=3, variants={{'cpsc': ('cpsc', {SMALL})}})\n"
        )
        monkeypatch.setitem(catalog.RECIPES, "small", RECIPE)
        monkeypatch.setenv("DFKD_CACHE", str(tmp_path / "cache"))
        table = dfkd("status", grid, "--out", tmp_path).out
        assert f"{MISMATCH}, blur" in table.replace("  ", "")
        assert f"\n{len(again)} warnings:\n" in table
        assert f"  {MISMATCH}: the feature of lenet5_half_bn has 42" in table
        assert "    cpsc on digits lenet5_bn->lenet5_half_bn seed 0" in table
        told = dfkd("status", grid, "--out", tmp_path, "--json").json
        assert [len(row["warnings"]) for row in told] == [len(again), 0]
        assert f"warning: {MISMATCH}" in dfkd("show", run.id, "--out", tmp_path).out

    def test_of_a_trial_that_still_runs_by_its_curve_so_far(self, tmp_path):
        run = TrialDir(tmp_path, noop_trial.make())
        run.prepare()
        for row in curve([50.0, 80.0, 11.0, 10.0, 10.0]):
            run.append(row)
        assert [name_of(w) for w in diagnose.of_run(run)] == ["divergence"]
        run.cut(2)
        assert diagnose.of_run(run) == []
