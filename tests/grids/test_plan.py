"""What is to come of a grid: hours by hand, who tells first, trials that will never run."""

from types import SimpleNamespace

import pytest
import torch

from harness.config import Budget
from harness.errors import DfkdError, Skipped
from harness.grids import bench, plan
from harness.grids.bench import Cost
from harness.store.cards import path_of
from harness.store.directory import TrialDir
from harness.trials.provenance import machine
from tests import build
from tests.build import trial_of

#: ten rounds of 3 seconds and 2 for the rest
COST = Cost(seconds=3.0, flops=1e9, updates=5.0, start=0.5, finish=1.5)


def trials(methods=("kd",), seeds=(0, 1, 2), budget="10:rounds", **change):
    change |= {"budget": Budget.parse(budget)}
    return [trial_of(m, seed=s, **change) for m in methods for s in seeds]


def card(folder, trial, seconds=0.0, where=""):
    """A teacher as a training on this machine, or elsewhere, leaves it."""
    path = path_of(folder, trial)
    build.teacher(path, seed=trial.teacher_seed, seconds=seconds, machine=where or machine())


def finished(out, trial, seconds=70.0, total=80.0, **provenance):
    """1000 rounds in 70 seconds, 80 in all, 14 TFLOP, 5000 updates, unless changed."""
    build.finished(
        out, trial,
        spend={"rounds": 1000, "student_updates": 5000, "flops": 1.4e13},
        cost={"seconds": seconds, "seconds_total": total},
        provenance={"machine": machine(), "torch": torch.__version__, "teacher_digest": "", "data_digest": ""}
        | provenance,
    )  # fmt: skip


@pytest.fixture
def out(tmp_path):
    card(tmp_path / "teachers", trials()[0])
    return tmp_path


@pytest.fixture(autouse=True)
def measures(monkeypatch):
    """Measures what it is told, and keeps what it was asked."""
    told = SimpleNamespace(found=COST, asked=[])

    def cost(trial, device="cpu", seconds=1.0):
        told.asked.append(trial.method)
        if isinstance(told.found, Exception):
            raise told.found
        return told.found

    monkeypatch.setattr(bench, "measure", cost)
    monkeypatch.setattr(bench, "teaching", lambda trial, device: told.asked.append(trial.teacher) or 60.0)
    monkeypatch.setattr(bench, "device_name", str)
    return told


def make(out, todo, workers=1, device="cpu"):
    return plan.make(todo, out, out / "teachers", device, workers, lambda line: None)


@pytest.mark.parametrize(
    ("jobs", "workers", "seconds"),
    [
        ([], 4, 0.0),
        ([3, 3, 2, 2], 2, 5.0),
        ([1, 1, 1, 5], 2, 6.0),  # the long one comes last: 1 + 1 beside 1 + 5
        ([5, 1, 1, 1], 2, 5.0),
        ([2, 2, 2], 8, 2.0),
        ([2, 2, 2], 0, 6.0),
    ],
)
def test_jobs_side_by_side(jobs, workers, seconds):
    assert plan.makespan(jobs, workers) == seconds


def test_hours_of_what_is_missing(out, measures):
    found = make(out, trials(("kd", "scratch")), workers=2)
    # six trials of 0.5 + 10 * 3 + 1.5 = 32 seconds, two at a time
    assert (found.seconds(), found.seconds(1)) == (3 * 32, 6 * 32)
    assert [(row.each, row.jobs) for row in found.rows] == [(32, [32] * 3)] * 2
    assert [row.counts for row in found.rows] == [{"missing": 3}, {"missing": 3}]
    assert [row.source for row in found.rows] == ["rounds timed now"] * 2
    assert measures.asked == ["kd", "scratch"]  # once for all that are alike


def test_what_makes_no_difference_is_timed_once(out, measures):
    def asked(**changed):
        measures.asked.clear()
        make(out, [trial_of("cpsc"), trial_of("cpsc", changed, label="other")])
        return len(measures.asked)

    # rates and weights are numbers as long as they are not 0
    assert asked(lr_s=0.5, beta=3.0) == 1
    assert [asked(beta=0.0), asked(batch=8), asked(s_steps=1)] == [2, 2, 2]


def test_a_finished_trial_tells_of_another_budget(out):
    finished(out, trials(budget="1000:rounds")[0])
    # 5 updates and 14 GFLOP a round: 2000 of 0.07 seconds and the same 10 for the rest
    for budget in ("2000:rounds", "1e4:student_updates", "2.8e13:flops"):
        found = make(out, trials(seeds=(5,), budget=budget))
        assert found.rows[0].source == "1 finished trial"
        assert found.seconds() == pytest.approx(150)
    assert make(out, trials(seeds=(5,), budget="10001:rounds")).rows[0].source == "rounds timed now"


def test_the_median_of_finished_trials_tells_first(out, measures):
    todo = trials(seeds=range(4), budget="1000:rounds")
    for trial, seconds in zip(todo, (70, 7000, 50), strict=False):
        finished(out, trial, seconds, seconds + 10)
    found = make(out, todo)
    assert (found.rows[0].source, measures.asked) == ("3 finished trials", [])
    assert found.rows[0].counts == {"done": 3, "missing": 1}
    assert found.seconds() == pytest.approx(80)


@pytest.mark.parametrize(
    ("change", "ran", "device", "tells"),
    [
        ({}, {"device": "cuda", "gpu": "NVIDIA H100"}, "NVIDIA H100", True),
        ({}, {"device": "cuda", "gpu": "NVIDIA A100"}, "NVIDIA H100", False),
        ({}, {"device": "cuda"}, "NVIDIA H100", False),
        ({}, {"device": "cuda"}, "cpu", False),
        ({}, {"machine": "another"}, "cpu", False),
        ({}, {"torch": "1.0"}, "cpu", False),
        ({}, {"total": 15}, "cpu", False),  # resumed after a kill: the total is of its last part alone
        ({"settings": {"gone": 1.0}}, {}, "cpu", False),
        ({"method_version": 99}, {}, "cpu", False),
        ({"cpus": 2}, {}, "cpu", False),
    ],
)
def test_a_trial_tells_of_its_like_on_the_same_machine(out, change, ran, device, tells):
    todo = trials(budget="1000:rounds")
    finished(out, todo[0].model_copy(update=change), **ran)
    source = make(out, todo, device=device).rows[0].source
    assert source == ("1 finished trial" if tells else "rounds timed now")


def test_a_trial_of_two_rows_counts_once_in_the_first(out):
    todo = trials(seeds=(0, 1))
    again = [t.model_copy(update={"label": "again"}) for t in todo]
    found = make(out, todo + again)
    assert [(r.label, r.counts, r.note) for r in found.rows] == [
        ("kd", {"missing": 2}, ""),
        ("again", {}, "same trials as kd"),
    ]
    assert (found.seconds(), found.rows[1].jobs) == (64, [])  # two trials of 32 seconds, not four
    more = trials(seeds=(2,))[0].model_copy(update={"label": "again"})
    row = make(out, [*todo, *again, more]).rows[1]
    assert (row.counts, row.note) == ({"missing": 1}, "shares trials with kd")


def test_a_trial_half_done_costs_half(out):
    todo = trials(seeds=(0,), points=4)
    run = TrialDir(out, todo[0])
    run.path.mkdir(parents=True)
    run.append({"point": 1})
    run.append({"point": 2})
    found = make(out, todo)
    assert found.rows[0].counts == {"partial": 1}
    assert (found.rows[0].each, found.seconds()) == (32, 16)
    with run.lock():
        assert make(out, todo).rows[0].counts == {"running": 1}


def test_failed_and_skipped_trials_are_not_to_come(out, measures):
    todo = trials(seeds=(0, 1))
    build.failed(out, todo[0])
    build.failed(out, todo[1], "skip", "teacher has no BatchNorm")
    found = make(out, todo)
    assert (found.seconds(), measures.asked) == (0, [])
    assert found.rows[0].counts == {"failed": 1, "skipped": 1}
    assert found.rows[0].note == "teacher has no BatchNorm"


def test_all_done_and_nothing_at_all(out):
    todo = trials()
    for trial in todo:
        finished(out, trial)
    found = make(out, todo)
    assert (found.seconds(), found.rows[0].jobs, found.rows[0].counts) == (0, [], {"done": 3})
    finished(out, todo[0], torch="1.0")
    assert make(out, todo).rows[0].counts == {"done": 2, "stale": 1}
    nothing = make(out, [])
    assert (nothing.rows, nothing.seconds()) == ([], 0)


def test_a_row_that_will_not_run_or_that_nothing_tells_of(out, measures):
    measures.found = Skipped("teacher has no BatchNorm")
    skipped = make(out, trials())
    assert skipped.seconds() == 0 and skipped.teachers == []
    assert skipped.rows[0].note == "will be skipped: teacher has no BatchNorm"
    measures.found = DfkdError("it cannot be timed")
    unknown = make(out, trials())
    assert unknown.seconds() == 0 and unknown.rows[0].jobs is None
    assert (unknown.rows[0].source, unknown.rows[0].note) == ("unknown", "it cannot be timed")


def test_teachers_are_trained_first_and_once(tmp_path):
    todo = [t for seed in (0, 1) for t in trials(("kd", "scratch"), (0,), teacher_seed=seed)]
    found = make(tmp_path, todo, workers=2)
    # two teachers of 60 seconds side by side, then four trials of 32, two at a time
    assert (found.seconds(), found.seconds(1)) == (60 + 64, 120 + 4 * 32)
    assert [t.name for t in found.teachers] == ["wrn16_2 on digits seed 0", "wrn16_2 on digits seed 1"]
    assert [t.source for t in found.teachers] == ["steps timed now"] * 2
    card(tmp_path / "teachers", todo[0], seconds=20.0)
    assert [(t.seconds, t.source) for t in make(tmp_path, todo).teachers] == [(20.0, "1 trained")]
    card(tmp_path / "teachers", todo[0], seconds=20.0, where="another")
    assert [t.source for t in make(tmp_path, todo).teachers] == ["steps timed now"]
    assert make(tmp_path, trials(teacher_digest="ab" * 32)).teachers == []


# --- the command --------------------------------------------------------------------------------


def status_of(dfkd, out, *words):
    file = out / "mine.py"
    file.write_text(
        "from harness.config import Budget, Grid\n"
        'GRID = Grid(tasks=("digits",), pairs=(("wrn16_2", "wrn16_1"),), budget=Budget(amount=10),\n'
        '            variants={"kd": ("kd", {}), "scratch": ("scratch", {})}, seeds=(0, 1, 2), points=4)\n'
    )
    return dfkd("status", file, "--plan", "--out", out, *words)


def test_status_says_what_is_to_come(dfkd, out, measures):
    status, text, err = status_of(dfkd, out, "--workers", "1")
    assert status == 0, err
    # six trials of 32 seconds: 192 of 3600
    assert "to come: 0.0533 h of processor time, 0.0533 h with 1 trial at a time" in text
    assert "6 trials: 6 missing" in text
    assert "timing kd on digits wrn16_2->wrn16_1" in err
    told = status_of(dfkd, out, "--workers", "1", "--json").json
    assert told["total"]["hours"] == told["total"]["processor_hours"] == pytest.approx(192 / 3600)
    assert [row["processor_hours"] for row in told["rows"]] == pytest.approx([96 / 3600] * 2)
    row = told["rows"][0]
    assert (row["counts"], row["trial_seconds"], row["source"]) == ({"missing": 3}, 32, "rounds timed now")
    for trial in trials(("kd", "scratch")):
        finished(out, trial)
    measures.asked.clear()
    text = status_of(dfkd, out).out
    assert "6 trials: 6 done" in text and "nothing is to come" in text and measures.asked == []


def test_status_names_what_it_does_not_know(dfkd, out, measures):
    measures.found = DfkdError("it cannot be timed")
    text = status_of(dfkd, out).out
    assert "without kd, scratch: what they will take is not known" in text
    build.failed(out, trials()[0])
    assert "`dfkd run --retry failed`" in status_of(dfkd, out)[1]
