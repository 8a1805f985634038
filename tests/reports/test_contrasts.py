"""Rows against one another: the crossed interval, the pairing, the verdicts, the section and its files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from harness.config import Budget, Grid
from harness.grids import expand
from harness.store.directory import Store
from harness.store.stale import Staleness
from reports.numbers import contrasts, stats, table
from reports.report import Results
from reports.tables.contrasts import layout
from reports.tables.model import to_markdown, to_text
from tests.build import frame_rows
from tests.reports.pages import Page

N = 1000
SPREAD = np.arange(-2.0, 3.0)


class TestCrossed:
    def test_two_effects_by_hand(self):
        # d = 7 + s + i for s, i in -2..2: both mean squares are 5 * 10 / 4 = 12.5, the rest is 0.
        # Variance of the mean (12.5 + 12.5) / 25, df 25^2 / (2 * 12.5^2 / 4) = 8, t(0.975; 8) = 2.306004;
        # of the images alone 12.5 / 25, t(0.975; 4) = 2.776445
        got = stats.crossed(7 + SPREAD[:, None] + SPREAD)
        assert got.mean == pytest.approx(7)
        assert got.half == pytest.approx(2.306004, rel=1e-6)
        assert got.images == pytest.approx(2.776445 * math.sqrt(0.5), rel=1e-6)

    def test_what_is_left_counts_once(self):
        # 2 u u' has no row or column mean: its mean square is 4 * 16 / 16 = 4, so 12.5 + 12.5 - 4 = 21
        u = np.array([1.0, -1.0, 0.0, -1.0, 1.0])
        got = stats.crossed(SPREAD[:, None] + SPREAD + 2 * np.outer(u, u))
        df = 21**2 / (2 * 12.5**2 / 4 + 4**2 / 16)
        assert got.half == pytest.approx(scipy_stats.t.ppf(0.975, df) * math.sqrt(21 / 25), rel=1e-9)

    def test_without_an_effect_of_images_it_is_the_t_interval_over_seeds(self):
        seeds = np.array([1.0, 4.0, 2.5, 3.0])
        low, high = scipy_stats.ttest_1samp(seeds, 0).confidence_interval()
        got = stats.crossed(np.repeat(seeds[:, None], 50, axis=1))
        assert (got.mean, got.half) == (pytest.approx((low + high) / 2), pytest.approx((high - low) / 2))
        assert got.images == 0

    def test_without_an_effect_of_seeds_it_is_the_t_interval_over_images(self):
        images = np.random.default_rng(0).normal(size=40)
        low, high = scipy_stats.ttest_1samp(images, 0).confidence_interval()
        got = stats.crossed(np.repeat(images[None], 3, axis=0))
        assert got.half == pytest.approx((high - low) / 2) and got.images == pytest.approx(got.half)

    def test_it_is_never_narrower_than_either_alone(self):
        rng = np.random.default_rng(1)
        for S, images in ((2, 5), (3, 30), (6, 4)):
            d = rng.normal(size=(S, images)) + 2 * rng.normal(size=(S, 1)) + rng.normal(size=images)
            alone = [stats.interval(d.mean(axis=axis).tolist()).half for axis in (0, 1)]
            assert stats.crossed(d).half >= max(alone)

    def test_nothing_to_resample(self):
        one = stats.crossed(np.array([[0.0, 1.0, 1.0]]))
        assert math.isnan(one.half) and one.images > 0
        assert math.isnan(stats.crossed(np.array([[1.0], [2.0]])).half)
        assert stats.crossed(np.zeros((3, 9))) == (0, 0, 0)

    @pytest.mark.parametrize(("of_seed", "of_image"), [(0.0, 1.0), (0.1, 1.0), (0.5, 1.0), (0.3, 0.0)])
    def test_it_covers_what_it_says(self, of_seed, of_image):
        rng, seeds, images, tries = np.random.default_rng(2), 3, 100, 1000
        joint = alone = 0
        for _ in range(tries):
            d = of_seed * rng.normal(size=(seeds, 1)) + of_image * rng.normal(size=images)
            d = d + rng.normal(size=(seeds, images))
            joint += abs(d.mean()) <= stats.crossed(d).half
            alone += abs(d.mean()) <= stats.interval(d.mean(axis=1).tolist()).half
        assert joint / tries > 0.95 - 3 * math.sqrt(0.95 * 0.05 / tries)
        if not of_seed:  # the interval over seeds takes this test set for the world
            assert alone / tries < 0.9


def outcomes(*wrong: Sequence[int]) -> list[np.ndarray]:
    """Per seed, the images (of `N`) that a student gets wrong, as its arg-max; every label is 0."""
    return [np.isin(np.arange(N), list(indices)).astype(np.uint8) for indices in wrong]


class Lab:
    """Trials and their predictions, top-1 computed from them."""

    def __init__(self, **rows: list[np.ndarray]) -> None:
        self.stored: dict[str, dict[str, np.ndarray]] = {}
        self.rows: list[dict[str, Any]] = []
        for name, students in rows.items():
            self.add(name, students)

    def add(self, name: str, students: list[np.ndarray], **more: object) -> list[dict[str, Any]]:
        made = frame_rows(*(100 * float(np.mean(s == 0)) for s in students), variant=name, **more)
        for row, s in zip(made, students, strict=True):
            self.stored[str(row["id"])] = {"y": np.zeros(N, np.uint8), "s": s}
            row["top1_oracle"] = row["top1"] + 0.5 * (1 + row["seed"])
        self.rows += made
        return made

    @property
    def frame(self) -> pd.DataFrame:
        return pd.DataFrame(self.rows)

    def paired(self, **against: str) -> pd.DataFrame:
        return contrasts.paired(self.frame, against or {"row": "base"}, self.stored.get)

    def one(self) -> pd.Series:
        found = self.paired()
        assert len(found) == 1
        return found.iloc[0]


HUNDRED = [range(100), range(100), range(100)]
FIFTY = [range(50), range(50), range(50)]


class TestPaired:
    def test_a_difference_that_every_seed_and_image_bears_out(self):
        got = Lab(row=outcomes(*FIFTY), base=outcomes(*HUNDRED)).one()
        assert (got["pairs"], got["asked"], got["verdict"]) == (3, 3, "higher")
        assert (got["top1_row"], got["top1_against"]) == (pytest.approx(95), pytest.approx(90))
        assert got["difference"] == pytest.approx(5) and got["half_seeds"] == pytest.approx(0)
        # 50 of 1000 images differ by one: deviation sqrt(0.05 * 0.95 * 1000 / 999), over sqrt(1000)
        want = 100 * scipy_stats.t.ppf(0.975, 999) * math.sqrt(0.05 * 0.95 / 999)
        assert got["resolution"] == pytest.approx(want) and got["half_joint"] == pytest.approx(want)
        assert Lab(row=outcomes(*HUNDRED), base=outcomes(*FIFTY)).one()["verdict"] == "lower"

    def test_less_than_the_test_set_can_tell(self):
        row = outcomes(*[[1, 2, 3, 4]] * 3)
        got = Lab(row=row, base=outcomes(*[[5, 6, 7, 8, 9]] * 3)).one()
        assert 0 < got["difference"] < got["resolution"] and got["half_seeds"] == pytest.approx(0)
        assert got["verdict"] == "below resolution"

    def test_seeds_that_disagree(self):
        # 9, -1 and 8 points: mean 16 / 3, deviation sqrt(91 / 3)
        got = Lab(row=outcomes(range(10), range(110), range(20)), base=outcomes(*HUNDRED)).one()
        assert got["half_seeds"] == pytest.approx(4.302653 * math.sqrt(91 / 3) / math.sqrt(3), rel=1e-6)
        assert got["half_joint"] >= got["half_seeds"] > got["difference"] > got["resolution"]
        assert got["verdict"] == "not shown at n = 3"

    def test_rows_that_are_the_same(self):
        got = Lab(row=outcomes(*FIFTY), base=outcomes(*FIFTY)).one()
        assert (got["difference"], got["half_joint"], got["verdict"]) == (0, 0, "not shown at n = 3")

    def test_one_pair_is_no_test(self):
        lab = Lab(row=outcomes(range(50)), base=outcomes(range(100)))
        got = lab.one()
        assert got["verdict"] == "not testable at n = 1" and got["difference"] == pytest.approx(5)
        assert math.isnan(got["half_seeds"]) and math.isnan(got["half_joint"])
        (line,) = layout(lab.paired(), table.main(lab.frame))[0].lines
        assert line.cells[6:8] == ("–", "–") and line.cells[-1] == got["verdict"]  # noqa: RUF001

    def test_only_pairs_of_equal_seeds_count_and_the_others_are_told(self):
        lab = Lab(row=outcomes(*FIFTY, range(999), range(50)), base=outcomes(*HUNDRED, range(100)))
        lab.rows[0] |= {"status": "failed", "reason": "boom"}
        lab.rows[6] |= {"stale": "torch was 1"}
        got = lab.one()
        assert (got["pairs"], got["asked"]) == (2, 4)
        assert got["difference"] == pytest.approx((5 - 89.9) / 2)
        assert got["missing"] == (
            "row: failed: boom (seed 0); base: stale: torch was 1 (seed 1); "
            "base: no such seed in the grid (seed 4)"
        )

    def test_no_pair_at_all(self):
        lab = Lab(row=outcomes(*FIFTY), base=outcomes(*FIFTY))
        for row in lab.rows[3:]:
            row |= {"status": "skipped", "reason": "no BN", "teacher_digest": "", "data_digest": ""}
        got = lab.one()
        assert (got["pairs"], got["asked"], got["verdict"]) == (0, 3, "not testable at n = 0")
        assert math.isnan(got["difference"]) and got["missing"] == "base: skipped: no BN (seeds 0, 1, 2)"
        assert got["teacher_digest"] == "aa"

    def test_without_predictions_there_is_the_interval_over_seeds_alone(self):
        lab = Lab(row=outcomes(range(50), range(51)), base=outcomes(range(100), range(100)))
        del lab.stored[lab.rows[3]["id"]]
        got = lab.one()
        assert got["half_seeds"] > 0 and math.isnan(got["half_joint"])
        assert got["verdict"] == "not testable without predictions"
        assert got["unavailable"] == "1 of 2 pairs have no predictions.npz"

    def test_other_test_images_are_not_paired(self):
        lab = Lab(row=outcomes(*FIFTY), base=outcomes(*HUNDRED))
        lab.stored[lab.rows[0]["id"]]["y"] = np.ones(N, np.uint8)
        assert lab.one()["unavailable"] == "predictions are of different test images"

    def test_nothing_ran_yet(self):
        rows = frame_rows(1.0, 1.0, variant="row", status="missing")
        rows += frame_rows(1.0, 1.0, variant="base", status="missing")
        frame = pd.DataFrame(rows).drop(columns="top1")
        found = contrasts.paired(frame, {"row": "base"}, {}.get)
        assert found["missing"].tolist() == ["row: not run yet (seeds 0, 1); base: not run yet (seeds 0, 1)"]
        differences, gaps = layout(found, table.main(frame))
        assert differences.lines[0].cells[2] == "0 of 2" and gaps.lines == []
        assert "not testable at n = 0" in to_text([differences, gaps])

    def test_two_teacher_files_never_share_a_difference(self):
        lab = Lab()
        for digest, seed in (("aa", 0), ("bb", 1)):
            lab.add("row", outcomes(*FIFTY), teacher_digest=digest, teacher_seed=seed)
            lab.add("base", outcomes(*HUNDRED), teacher_digest=digest, teacher_seed=seed)
        assert lab.paired()["teacher_digest"].tolist() == ["aa", "bb"]
        lab.rows[0]["teacher_digest"] = "cc"
        got = lab.paired()
        assert dict(zip(got["teacher_digest"], got["pairs"], strict=True)) == {"aa": 2, "bb": 3, "cc": 0}
        assert "another teacher file or other data (seed 0)" in got["missing"].tolist()

    def test_tasks_keep_the_order_of_the_frame(self):
        lab = Lab()
        for task in ("mnist", "digits"):
            for name in ("row", "third", "base"):
                lab.add(name, outcomes(*FIFTY), task=task)
        got = lab.paired(third="base", row="base", absent="gone")
        wanted = [("mnist", "third"), ("mnist", "row"), ("digits", "third"), ("digits", "row")]
        assert list(zip(got["task"], got["row"], strict=True)) == wanted
        differences, gaps = layout(got, table.main(lab.frame))
        assert differences.heads[0].text == gaps.heads[0].text == "where"
        assert differences.lines[0].cells[0] == "mnist: wrn16_2 → wrn16_1"


class TestSection:
    def test_both_tables(self):
        lab = Lab(base=outcomes(*HUNDRED), row=outcomes(*FIFTY))
        lab.rows[0] |= {"status": "failed", "reason": "a | <b>"}
        lab.add("kd", outcomes(*FIFTY), reference=True)
        differences, gaps = layout(lab.paired(), table.main(lab.frame))
        assert [head.text for head in differences.heads][:3] == ["row", "measured against", "n"]
        ((line,), gains) = ([each.cells for each in t.lines] for t in (differences, gaps))
        assert line[:6] == ("row", "base", "2 of 3", "95.00", "90.00", "+5.00") and line[-1] == "higher"
        assert differences.notes == ["row against base: 2 of 3 pairs: base: failed: a | <b> (seed 0)"]
        text = to_markdown([differences, gaps])
        assert "| row | base | 2 of 3 | 95.00 | 90.00 | +5.00 |" in text
        assert r"a \| &lt;b&gt;" in text and "### Best on test against last" in text
        # 0.5, 1.0 and 1.5 points of gap: deviation 0.5; the failed seed leaves 1.0 and 1.5
        assert gains[1] == ("row", "3", "+1.00", f"{4.302653 * 0.5 / math.sqrt(3):.2f}")
        assert [cells[0] for cells in gains] == ["base", "row"], "a reference picks nothing"


def test_a_grid_with_contrasts_reports_them(tmp_path):
    grid = Grid(
        name="g",
        tasks=("digits",),
        pairs=(("wrn16_2", "wrn16_1"),),
        variants={"kd": ("kd", {}), "kd hot": ("kd", {"tau": 8})},
        seeds=(0, 1),
        budget=Budget(amount=10),
        contrasts={"kd hot": "kd"},
    )
    for trial in expand.trials_of(grid):
        run = Store(tmp_path).run(trial)
        s = outcomes(range(50 if trial.label == "kd" else 150))[0]
        run.prepare()
        run.append({"point": 100, "round": 10, "top1": 100 * float(np.mean(s == 0))})
        run.write_arrays("predictions.npz", {"y": np.zeros(N, np.uint8), "s": s})
        run.finish({"id": trial.id, "metrics": {"top1": 100 * float(np.mean(s == 0))}, "warnings": []})
    stale = Staleness(tmp_path / "teachers")
    found = Results(grid, expand.trials_of(grid), Store(tmp_path), tmp_path, stale)
    assert " ".join(found.text().split()).count("-10.00") == 1 and "lower" in found.text()
    files = found.report()
    back, shown = pd.read_csv(files["contrasts"]), Page(files["html"].read_text("utf-8"))
    assert files["contrasts"].name == "contrasts.csv" and back["verdict"].tolist() == ["lower"]
    assert back["difference"][0] == pytest.approx(-10)
    assert "contrasts" in shown.ids and "#contrasts" in shown.links and len(shown.ids) == len(set(shown.ids))
    assert "## Paired differences" in files["md"].read_text("utf-8") and "lower" in shown.words
    alone = grid.model_copy(update={"contrasts": {}})
    plain = Results(alone, found.trials, found.source, tmp_path, stale)
    assert plain.paired is None and "Paired" not in plain.text()
    without = plain.report()
    assert "contrasts" not in without and not {"#contrasts"} & set(Page(without["html"].read_text()).links)
    assert "Paired differences" not in without["md"].read_text("utf-8")
