"""`dfkd compare`: two folders, two trials or two tables held against each other; numbers by hand."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import norm

from harness.config import Budget, Trial
from harness.errors import DfkdError
from harness.grids import expand, load
from harness.store import records
from harness.store.compare import Comparison, Pair, compare
from harness.store.directory import Store, TrialDir
from harness.store.frame import curves, frame
from reports.numbers import table
from reports.page import changes
from tests.schedule import noop_trial

WHERE = {
    "machine": "Linux x86_64, 2 cores", "device": "cpu", "threads": 1, "torch": "2.9.0+cpu",
    "python": "3.11.7", "teacher_digest": "ab" * 32, "data_digest": "cd" * 32, "commit": "1111aaaa2222",
    "teacher_top1": 99.0, "kernels": "torch AVX2, openblas 0.3.30 Zen",
}  # fmt: skip
GRID = """
from harness.config import Budget, Grid
GRID = Grid(tasks=("digits",), pairs=(("wrn16_2", "wrn16_1"),), seeds=(0, 1), budget=Budget(amount=10),
            variants={"kd": ("kd", {}), "scratch": ("scratch", {})})
"""


def finish(
    out: Path,
    trial: Trial,
    *,
    top1: float = 90.0,
    metrics: Mapping[str, float] = {},
    curve: tuple[float, ...] = (50.0, 90.0),
    seconds: float = 3.0,
    **where: Any,
) -> TrialDir:
    """A finished trial as a run leaves it, of 400 test images."""
    run = TrialDir(out, trial)
    run.prepare()
    for i, value in enumerate(curve, 1):
        run.append({"point": i, "round": 5 * i, "top1": value, "seconds": seconds * i, "G/bn": 1.5})
    run.finish(
        {
            "id": run.id,
            "metrics": {"top1": top1, "fd_teacher": 4.0, **metrics},
            "unavailable": {"fid_400_test": "no weights"},
            "warnings": [],
            "spend": {"rounds": 10.0},
            "cost": {"seconds": seconds},
            "provenance": WHERE | where,
        }
    )
    return run


def held(a: Path, b: Path, wanted: Any = None) -> Comparison:
    return compare(records.read(a).records, records.read(b).records, wanted)


def one(a: Path, b: Path) -> Pair:
    found = held(a, b)
    assert not found.only_a and not found.only_b
    (pair,) = found.pairs
    return pair


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return tmp_path / "a"


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return tmp_path / "b"


class TestSameDeclaration:
    def test_equal_to_the_last_bit_whatever_the_time_it_took(self, a, b):
        finish(a, noop_trial.make(), top1=90.1, seconds=3.0)
        finish(b, noop_trial.make(), top1=90.1, seconds=99.0)
        pair = one(a, b)
        assert pair.verdict == "equal" and pair.promised and not pair.broken and pair.by == "id"
        assert pair.difference == 0.0 and pair.compared == 3  # top1, fd_teacher, rounds

    def test_one_bit_breaks_the_promise(self, a, b):
        finish(a, noop_trial.make(), top1=90.1)
        finish(b, noop_trial.make(), top1=math.nextafter(90.1, 91))
        pair = one(a, b)
        assert pair.verdict == "broken promise" and pair.promised and list(pair.metrics) == ["top1"]

    def test_so_does_another_metric_or_a_point_of_the_curve(self, a, b):
        finish(a, noop_trial.make(0))
        finish(b, noop_trial.make(0), metrics={"fd_teacher": 4.5})
        finish(a, noop_trial.make(1), curve=(50.0, 70.0, 90.0))
        finish(b, noop_trial.make(1), curve=(50.0, 70.5, 90.0))
        finish(a, noop_trial.make(2), curve=(50.0, 90.0))
        finish(b, noop_trial.make(2), curve=(50.0,))
        found = held(a, b)
        assert [pair.broken for pair in found.pairs] == [True] * 3 and len(found.broken) == 3
        assert found.pairs[0].metrics == {"fd_teacher": (4.0, 4.5)}
        assert [p.curve for p in found.pairs] == [
            "", "curves part at point 2 in top1", "curves have 2 and 1 points"
        ]  # fmt: skip

    @pytest.mark.parametrize(
        "name",
        ["machine", "kernels", "device", "threads", "torch", "python", "teacher_digest", "data_digest"],
    )
    def test_nothing_is_promised_elsewhere(self, a, b, name):
        finish(a, noop_trial.make(), top1=90.0)
        finish(b, noop_trial.make(), top1=88.0, **{name: 2 if name == "threads" else "other"})
        pair = one(a, b)
        assert not pair.promised and pair.verdict == "within resolution"
        assert list(pair.provenance) == [name]

    def test_nor_where_the_provenance_is_not_known(self, a, b):
        finish(a, noop_trial.make(), top1=90.0, machine="")
        finish(b, noop_trial.make(), top1=88.0, machine="")
        assert not one(a, b).promised

    @pytest.mark.parametrize("unknown", ["a", "b", "both"])
    def test_before_kernels_were_recorded_all_but_rounding_is_promised(self, a, b, unknown):
        where = {s: {"kernels": ""} if unknown in (s, "both") else {} for s in "ab"}
        far = math.nextafter(math.nextafter(4.0, 5), 5)
        finish(a, noop_trial.make(0), **where["a"])
        finish(b, noop_trial.make(0), metrics={"fd_teacher": far}, **where["b"])
        finish(a, noop_trial.make(1), **where["a"])
        finish(b, noop_trial.make(1), metrics={"fd_teacher": 4.0 + 1e-8}, **where["b"])
        finish(a, noop_trial.make(2), curve=(50.0, 90.0), **where["a"])
        finish(b, noop_trial.make(2), curve=(50.5, 90.0), metrics={"fd_teacher": far}, **where["b"])
        finish(a, noop_trial.make(3), **where["a"])
        finish(b, noop_trial.make(3), **where["b"])
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

    def test_rounding_with_the_same_kernels_breaks_the_promise_and_with_others_does_not(self, a, b):
        finish(a, noop_trial.make(0))
        finish(b, noop_trial.make(0), metrics={"fd_teacher": math.nextafter(4.0, 5)})
        finish(a, noop_trial.make(1))
        finish(b, noop_trial.make(1), metrics={"fd_teacher": math.nextafter(4.0, 5)}, kernels="other")
        assert [p.verdict for p in held(a, b).pairs] == ["broken promise", "within rounding"]

    def test_another_commit_is_no_excuse(self, a, b):
        finish(a, noop_trial.make(), top1=90.0)
        finish(b, noop_trial.make(), top1=90.5, commit="3333bbbb4444")
        pair = one(a, b)
        assert pair.broken and pair.provenance == {"commit": ("1111aaaa2222", "3333bbbb4444")}

    def test_resolution_by_hand(self, a, b):
        finish(a, noop_trial.make(), top1=90.0, torch="x")
        finish(b, noop_trial.make(), top1=88.0)
        # sqrt((0.9 * 0.1 + 0.88 * 0.12) / 400) = 0.022113, times 1.96
        expected = 100 * norm.ppf(0.975) * math.sqrt((0.09 + 0.1056) / 400)
        assert one(a, b).resolution == pytest.approx(expected, rel=1e-12) and 4.33 < expected < 4.34

    @pytest.mark.parametrize(("top1", "verdict"), [(85.7, "within resolution"), (85.1, "beyond resolution")])
    def test_within_and_beyond(self, a, b, top1, verdict):
        # half-widths at 85.7 and 85.1: 4.52 and 4.56
        finish(a, noop_trial.make(), top1=90.0, torch="x")
        finish(b, noop_trial.make(), top1=top1)
        assert one(a, b).verdict == verdict

    def test_images_are_counted_in_the_confusion_table(self, a, b):
        import numpy as np

        runs = [finish(a, noop_trial.make(), torch="x"), finish(b, noop_trial.make(), top1=89.0)]
        for run in runs:
            np.save(run.path / "confusion.npy", np.full((2, 2), 4000))
        half = 196 * math.sqrt((0.09 + 0.89 * 0.11) / 16_000)
        assert (
            one(a, b).resolution == pytest.approx(half, rel=1e-4) and one(a, b).verdict == "beyond resolution"
        )

    def test_a_metric_taken_on_one_side_alone_is_no_difference(self, a, b):
        finish(a, noop_trial.make())
        finish(b, noop_trial.make(), metrics={"corruption": 50.0})
        pair = one(a, b)
        assert pair.equal and pair.extra == ("corruption",)

    def test_curves_of_other_points_are_not_compared(self, a, b):
        finish(a, noop_trial.make(points=2), curve=(50.0, 90.0))
        finish(b, noop_trial.make(points=4), curve=(40.0, 50.0, 60.0, 90.0))
        assert noop_trial.make(points=2).id == noop_trial.make(points=4).id and one(a, b).equal


class TestOtherDeclarations:
    def test_what_differs_is_named(self, a, b):
        finish(a, noop_trial.make(beta=1.0, gone="x"))
        changed = noop_trial.make(beta=0.5, new=3).model_copy(
            update={"budget": Budget(amount=20), "protocol": 2}
        )
        finish(b, changed, top1=89.0)
        pair = one(a, b)
        assert pair.by == "name" and not pair.promised and pair.verdict == "within resolution"
        assert pair.declared == {
            "settings.beta": (1.0, 0.5), "settings.gone": ("x", None), "settings.new": (None, 3),
            "budget": ("10:rounds", "20:rounds"), "protocol": (1, 2),
        }  # fmt: skip

    def test_of_several_the_closest_is_taken(self, a, b):
        finish(a, noop_trial.make(beta=1.0, gamma=1.0))
        near, far = noop_trial.make(beta=1.0, gamma=2.0), noop_trial.make(beta=3.0, gamma=4.0)
        finish(b, far)
        finish(b, near)
        found = held(a, b)
        assert [p.b["id"] for p in found.pairs] == [near.id]
        assert [(r["id"], why) for r, why in found.only_b] == [(far.id, "that of A was closer to another")]

    def test_a_row_that_was_renamed_is_found_by_its_method(self, a, b):
        finish(a, noop_trial.make(beta=0.0).model_copy(update={"label": "noop - bn"}))
        finish(b, noop_trial.make(beta=0.1).model_copy(update={"label": "without bn"}))
        assert one(a, b).declared == {"settings.beta": (0.0, 0.1)}

    def test_trials_of_one_side_with_the_reason(self, a, b):
        finish(b, noop_trial.make(0))
        finish(b, noop_trial.make(1))
        finish(a, noop_trial.make(2))
        finish(a, noop_trial.make(0).model_copy(update={"task": "mnist"}))
        finish(a, noop_trial.make(0, teacher="lenet5"))
        finish(a, noop_trial.make(0).model_copy(update={"label": "cpsc", "method": "cpsc"}))
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
        finish(a, noop_trial.make(0))
        run = TrialDir(b, noop_trial.make(0))
        run.prepare()
        run.fail("method", "loss of 'G' is not finite")
        finish(a, noop_trial.make(1))
        TrialDir(b, noop_trial.make(1)).prepare()
        for side in (a, b):
            TrialDir(side, noop_trial.make(2)).prepare()  # declared by both, run by none: nothing to tell
        found = held(a, b)
        assert [p.verdict for p in found.pairs] == ["no number"] * 2
        said = "\n".join(changes.lines(found))
        assert "seed 0: A done; B failed: loss of 'G' is not finite" in said
        assert "seed 1: A done; B missing" in said and "seed 2" not in said

    def test_two_trials_by_their_directories(self, a, dfkd):
        one_ = finish(a, noop_trial.make(beta=1))
        two = finish(a, noop_trial.make(7).model_copy(update={"method": "cpsc", "label": "cpsc"}), top1=80.0)
        code, out, _ = dfkd("compare", one_.path, two.path)
        assert code == 0 and "noop / cpsc" in out and "-10.00" in out and "method: noop -> cpsc" in out
        assert "seed: 0 -> 7" in out


class TestTables:
    def test_what_results_printed_is_as_good_as_the_folder(self, a, tmp_path):
        trials = [noop_trial.make(seed, beta=0.1) for seed in range(2)]
        for trial in trials:
            finish(a, trial, top1=200 / 3 + trial.seed, metrics={"val_nll": 1 / 3})
        file = tmp_path / "was.csv"
        file.write_text(frame(trials, Store(a)).to_csv(index=False, lineterminator="\n"))
        found = held(file, a)
        assert [(p.verdict, p.promised, p.compared) for p in found.pairs] == [("equal", True, 4)] * 2
        assert found.pairs[0].resolution > 0
        finish(a, trials[0], top1=66.7)
        assert [p.verdict for p in held(file, a).pairs] == ["broken promise", "equal"]

    def test_a_report_and_the_folder_it_came_from(self, a, b, tmp_path, dfkd):
        trials = [noop_trial.make(seed) for seed in range(3)]
        for trial in trials:
            finish(a, trial, top1=200 / 3 + trial.seed)
            finish(b, trial, top1=200 / 3 + trial.seed * 1.5)
        report = tmp_path / "report.csv"
        report.write_text(table.to_csv(table.main(frame(trials, Store(a)), curves(trials, Store(a)))))
        code, out, _ = dfkd("compare", report, a, "--json")
        (pair,) = json.loads(out)["pairs"]
        assert code == 0 and pair["verdict"] == "equal" and not pair["promised"]
        code, out, _ = dfkd("compare", report, b)
        assert (
            code == 0 and "within resolution" in out and "67.67" in out and "68.17" in out and "+0.50" in out
        )
        assert "1 row in both (1 of the same declaration)" in out

    def test_the_committed_reports_can_be_read(self):
        for file in (Path(__file__).parents[2] / "benchmarks" / "results").glob("*/report.csv"):
            found = held(file, file)
            assert found.pairs and all(p.equal for p in found.pairs if p.done)
            assert not found.only_a and not found.only_b

    def test_fewer_seeds_are_told(self, a, b, dfkd, tmp_path):
        trials = [noop_trial.make(seed) for seed in range(2)]
        for trial in trials:
            finish(a, trial)
        finish(b, trials[0])
        report = tmp_path / "report.csv"
        report.write_text(table.to_csv(table.main(frame(trials, Store(a)), curves(trials, Store(a)))))
        assert "n: 2 -> 1" in dfkd("compare", report, b)[1]


class TestTheCommand:
    def test_status_1_and_a_line_for_a_broken_promise(self, a, b, dfkd):
        finish(a, noop_trial.make(0), top1=90.0)
        finish(b, noop_trial.make(0), top1=91.0)
        finish(a, noop_trial.make(1))
        finish(b, noop_trial.make(1))
        code, out, _ = dfkd("compare", a, b)
        assert code == 1 and "broken promise" in out
        assert f"noop on digits wrn16_2->wrn16_1 seed 0 ({noop_trial.make(0).id}): same machine type" in out
        assert "top1: 90 -> 91" in out
        assert "2 trials in both (2 of the same declaration): 1 equal, 1 with a broken promise" in out
        assert "worst difference of top-1: +1.00 points, noop on digits wrn16_2->wrn16_1 seed 0" in out
        assert "promised to be equal: 2, of which 1 are not" in out
        assert [dfkd("compare", a, b, flag)[0] for flag in ("--json", "--csv")] == [1, 1]
        assert dfkd("compare", a, a)[0] == 0

    def test_csv_has_every_number_of_both_in_full(self, a, b, dfkd):
        finish(a, noop_trial.make(0), top1=200 / 3)
        finish(b, noop_trial.make(0), top1=70.0, torch="x", metrics={"corruption": 50.0})
        finish(b, noop_trial.make(1))
        rows = list(csv.DictReader(io.StringIO(dfkd("compare", a, b, "--csv")[1])))
        assert float(rows[0]["top1_a"]) == 200 / 3 and float(rows[0]["top1_b"]) == 70.0
        assert rows[0]["corruption_a"] == "" and rows[0]["corruption_b"] == "50.0"
        assert rows[0]["differs_in"] == "torch: 2.9.0+cpu -> x" and rows[0]["equal"] == "False"
        assert rows[1]["verdict"] == "only in B" and rows[1]["top1_b"] == "90.0" and rows[1]["top1_a"] == ""

    def test_json_is_json(self, a, b, dfkd):
        finish(a, noop_trial.make(0))
        finish(b, noop_trial.make(0), top1=89.0, torch="x")
        run = TrialDir(b, noop_trial.make(1))
        run.prepare()
        run.fail("skip", "no BatchNorm")
        told = json.loads(dfkd("compare", a, b, "--json")[1])
        assert told["pairs"][0]["difference"] == -1.0 and told["counts"] == {"within resolution": 1}
        assert told["only_b"][0]["why"] == "A has that row with seed 0; skipped: no BatchNorm"
        assert told["broken"] == 0

    def test_only_a_grids_trials(self, a, b, dfkd, tmp_path):
        (tmp_path / "tiny.py").write_text(GRID)
        chosen = expand.remembered(load.load(tmp_path / "tiny.py"))
        for trial in (*chosen, noop_trial.make()):
            finish(a, trial)
            finish(b, trial)
        other = chosen[0].model_copy(update={"protocol": 0})  # an older version's, of the same name
        shutil.rmtree(TrialDir(b, chosen[0]).path)
        finish(b, other)
        told = json.loads(dfkd("compare", a, b, tmp_path / "tiny.py", "--json")[1])
        assert [(p["a"]["row"], p["a"]["seed"], p["by"]) for p in told["pairs"]] == [
            ("kd", 0, "name"), ("kd", 1, "id"), ("scratch", 0, "id"), ("scratch", 1, "id"),
        ]  # fmt: skip
        assert told["pairs"][0]["declared"] == {"protocol": [1, 0]}
        assert len(json.loads(dfkd("compare", a, b, "--json")[1])["pairs"]) == 5

    def test_columns_that_say_nothing_are_left_out(self, a, b):
        for side in (a, b):
            finish(side, noop_trial.make(0))
        assert list(changes.table(held(a, b))[0]) == [
            "row", "seed", "top1 A", "top1 B", "difference", "resolution", "equal numbers", "verdict"
        ]  # fmt: skip
        for side in (a, b):
            finish(side, noop_trial.make(0).model_copy(update={"task": "mnist", "teacher_seed": 1}))
        assert {"task", "teacher seed"} <= changes.table(held(a, b))[0].keys()

    def test_a_damaged_trial_is_left_out_by_name(self, a, b, dfkd):
        for side in (a, b):
            finish(side, noop_trial.make(0))
        bad = finish(b, noop_trial.make(1))
        (bad.path / "trial.json").write_text("{")
        code, _, err = dfkd("compare", a, b)
        assert code == 0 and f"left out: {bad.path / 'trial.json'} cannot be read" in err

    def test_what_cannot_be_compared_is_told_in_a_line(self, a, tmp_path, dfkd):
        finish(a, noop_trial.make())
        (tmp_path / "other.csv").write_text("x,y\n1,2\n")
        (tmp_path / "empty" / "trials").mkdir(parents=True)
        for other, told in [
            ("nowhere", "nowhere does not exist: give a folder of `dfkd run --out`"),
            (tmp_path, "has no trials/"),
            (tmp_path / "other.csv", "is neither a report.csv nor"),
            (tmp_path / "empty", "holds no trial"),
        ]:
            code, _, err = dfkd("compare", a, other)
            assert code == 2 and told in err and err.count("\n") == 1

    def test_a_single_trial_is_no_report(self, a, tmp_path):
        trial = noop_trial.make()
        run = finish(a, trial)
        with pytest.raises(DfkdError, match="holds single trials"):
            records.as_rows(records.read(run.path), None)
