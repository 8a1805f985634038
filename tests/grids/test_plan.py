"""What is to come of a grid: hours by hand, who tells first, trials that will never run."""

import json

import pytest

from harness.config import Budget, Grid
from harness.errors import DfkdError, Skipped
from harness.grids import expand, known, plan
from harness.grids.bench_book import Book, Cost, place
from harness.grids.known import Known
from harness.store.cards import Card, path_of
from harness.store.directory import Store, TrialDir
from harness.trials.provenance import machine
from tests.build import populate

#: ten rounds of 3 seconds and 2 for the rest
COST = Cost(seconds=3.0, flops=1e9, updates=5.0, start=0.5, finish=1.5, bytes=1000.0)


class Tools:
    """Measures what it is told, and keeps what it was asked."""

    def __init__(self, cost=COST, crowd=1.0):
        self.found, self.crowd, self.asked = cost, crowd, []

    def cost(self, trial):
        self.asked.append(f"cost {trial.method}")
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    def teacher(self, trial):
        self.asked.append("teacher")
        return 60.0

    def teacher_bytes(self, trial):
        return 5000.0

    def crowding(self, trial, workers):
        self.asked.append(f"crowding {workers}")
        return self.crowd

    def start(self, ray):
        self.asked.append(f"start {ray}")
        return 4.0


def trials(methods=("kd",), seeds=(0, 1, 2), budget="10:rounds", **changed):
    grid = Grid(
        tasks=("digits",), pairs=(("wrn16_2", "wrn16_1"),), variants={m: (m, {}) for m in methods},
        seeds=seeds, budget=Budget.parse(budget), **changed,
    )  # fmt: skip
    return expand.trials_of(grid)


def card(folder, trial, seconds=0.0, where=""):
    """A teacher as a training on this machine, or elsewhere, leaves it."""
    path = path_of(folder, trial)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"weights")
    kept = Card(
        task=trial.task, task_version=trial.task_version, net=trial.teacher, recipe=trial.recipe,
        seed=trial.teacher_seed, mean=(0.5,), std=(0.5,), top1=99.0, data_digest="", digest="",
        source="trained", seconds=seconds, machine=where or machine(),
    )  # fmt: skip
    path.with_suffix(".json").write_text(kept.model_dump_json())


def finished(out, trial, **provenance):
    """1000 rounds in 70 seconds, 80 in all, 14 TFLOP, 5000 updates, unless changed."""
    populate(out, [trial])
    path = TrialDir(out, trial).path / "result.json"
    result = json.loads(path.read_text())
    torch = place("cpu", 1)["torch"]
    result["provenance"] |= {"machine": machine(), "torch": f"{torch}+cpu"} | provenance
    path.write_text(json.dumps(result))


@pytest.fixture
def out(tmp_path):
    card(tmp_path / "teachers", trials()[0])
    return tmp_path


def make(out, todo, tools=None, workers=1, stale="", room=None, device="cpu"):
    told = Known(out, out / "teachers", todo, device, False, tools or Tools())
    return plan.make(todo, Store(out), out / "teachers", told, lambda *_: stale, workers, room or workers)


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


def test_hours_and_disk_of_what_is_missing(out):
    todo = trials(("kd", "scratch"))
    found = make(out, todo, workers=2)
    # six trials of 0.5 + 10 * 3 + 1.5 = 32 seconds, two at a time, after 4 seconds of start
    assert found.seconds == 4 + 3 * 32
    assert [found.share(row) for row in found.rows] == [48, 48]
    assert found.bytes == 6 * 1000
    assert [row.counts for row in found.rows] == [{"missing": 3}, {"missing": 3}]


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [("10:rounds", 32), ("50:student_updates", 32), ("51:student_updates", 35), ("4.5e9:flops", 17)],
)
def test_a_budget_in_any_unit(out, budget, seconds):
    assert make(out, trials(seeds=(0,), budget=budget)).seconds == 4 + seconds


def test_who_is_asked_first(out):
    todo, tools = trials(budget="1000:rounds"), Tools()
    first = make(out, todo, tools)
    assert (first.rows[0].source, tools.asked.count("cost kd")) == ("measured now", 1)  # once for a kind
    tools.asked.clear()
    second = make(out, todo, tools)
    assert (second.rows[0].source, tools.asked) == ("dfkd bench", [])
    assert second.seconds == first.seconds == 4 + 3 * (3000 + 2)
    finished(out, todo[0])
    third = make(out, todo, tools)
    assert (third.rows[0].source, tools.asked) == ("1 finished trial", [])
    assert third.rows[0].counts == {"done": 1, "missing": 2}
    assert third.seconds == pytest.approx(4 + 2 * 80)


def test_a_finished_trial_tells_of_another_budget(out):
    finished(out, trials(budget="1000:rounds")[0])
    # 5 updates and 14 GFLOP a round: 2000 of 0.07 seconds and the same 10 for the rest
    for budget in ("2000:rounds", "1e4:student_updates", "2.8e13:flops"):
        found = make(out, trials(seeds=(5,), budget=budget))
        assert found.rows[0].source == "1 finished trial"
        assert found.seconds == pytest.approx(4 + 150)
    assert make(out, trials(seeds=(5,), budget="10001:rounds")).rows[0].source == "measured now"


@pytest.mark.parametrize(
    ("ran_on", "source"),
    [("NVIDIA H100", "1 finished trial"), ("NVIDIA A100", "measured now"), (None, "measured now")],
)
def test_a_trial_finished_on_another_gpu_tells_nothing(out, ran_on, source):
    todo = trials(budget="1000:rounds")
    finished(out, todo[0], device="cuda", **({"gpu": ran_on} if ran_on else {}))
    assert make(out, todo, device="NVIDIA H100").rows[0].source == source


def test_a_trial_that_was_resumed_tells_nothing(out):
    todo = trials(budget="1000:rounds")
    finished(out, todo[0])
    path = TrialDir(out, todo[0]).path / "result.json"
    result = json.loads(path.read_text())
    result["cost"] |= {"seconds": 70, "seconds_total": 15}  # the last part alone
    path.write_text(json.dumps(result))
    assert make(out, todo).rows[0].source == "measured now"


@pytest.mark.parametrize("changed", [{"settings": {"gone": 1.0}}, {"method_version": 99}])
def test_a_trial_of_another_version_of_the_method_tells_nothing(out, changed):
    todo = trials(budget="1000:rounds")
    old = todo[0].model_copy(update=changed)
    if settings := changed.get("settings"):
        old = todo[0].model_copy(update={"settings": todo[0].settings | settings})
    finished(out, old)
    found = make(out, todo)
    assert (found.rows[0].source, found.rows[0].counts) == ("measured now", {"missing": 3})


@pytest.mark.parametrize(
    "other", [{"machine": "another"}, {"torch": "1.0"}, {"device": "cuda"}, {"threads": 2}]
)
def test_a_trial_finished_elsewhere_tells_nothing(out, other):
    todo = trials(budget="1000:rounds")
    finished(out, todo[0], **other)
    assert make(out, todo).rows[0].source == "measured now"


def test_the_median_of_finished_trials(out):
    todo = trials(seeds=range(4), budget="1000:rounds")
    for trial, seconds in zip(todo, (70, 7000, 50), strict=False):
        finished(out, trial)
        path = TrialDir(out, trial).path / "result.json"
        result = json.loads(path.read_text())
        result["cost"] |= {"seconds": seconds, "seconds_total": seconds + 10}
        path.write_text(json.dumps(result))
    found = make(out, todo)
    assert found.rows[0].source == "3 finished trials"
    assert found.seconds == pytest.approx(4 + 80)


def test_neighbours_slow_what_was_measured_alone(out):
    todo, tools = trials(), Tools(crowd=1.5)
    assert make(out, todo, tools, workers=3).seconds == 4 + 48
    assert "crowding 3" in tools.asked
    assert make(out, todo, Tools(crowd=1.5), workers=1).seconds == 4 + 3 * 32
    finished(out, todo[0])
    again = Tools(crowd=1.5)  # what finished had its neighbours
    assert make(out, todo, again, workers=2).seconds == pytest.approx(4 + 0.07 * 10 + 10)
    assert again.asked == []


def test_neighbours_of_another_task_and_network_are_timed_by_themselves(out):
    todo, tools = trials(), Tools()
    make(out, todo, tools, workers=3)
    for other in ({"task": "digits16"}, {"student": "wrn16_2"}, {"precision": "bf16"}):
        make(out, [t.model_copy(update=other) for t in todo], tools, workers=3)
    assert tools.asked.count("crowding 3") == 4
    make(out, todo, tools, workers=3)  # from the book
    assert tools.asked.count("crowding 3") == 4


def test_a_trial_of_two_rows_counts_once_in_the_first(out):
    todo = trials(seeds=(0, 1))
    again = [t.model_copy(update={"label": "again"}) for t in todo]
    found = make(out, todo + again)
    assert [(r.label, r.counts, r.note) for r in found.rows] == [
        ("kd", {"missing": 2}, ""),
        ("again", {}, "same trials as kd"),
    ]
    # two trials of 32 seconds, not four
    assert (found.seconds, found.share(found.rows[1]), found.bytes) == (4 + 64, 0, 2000)
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
    assert found.seconds == 4 + 16
    with run.lock():
        assert make(out, todo).rows[0].counts == {"running": 1}


def test_failed_and_skipped_trials_are_not_to_come(out):
    todo = trials(seeds=(0, 1))
    TrialDir(out, todo[0]).fail("method", "loss is not finite")
    TrialDir(out, todo[1]).fail("skip", "teacher has no BatchNorm")
    tools = Tools()
    found = make(out, todo, tools)
    assert (found.seconds, found.bytes, tools.asked) == (0, 0, [])
    assert found.rows[0].counts == {"failed": 1, "skipped": 1}
    assert found.rows[0].note == "teacher has no BatchNorm"


def test_all_done_and_nothing_at_all(out):
    todo = trials()
    for trial in todo:
        finished(out, trial)
    found = make(out, todo)
    assert (found.seconds, found.bytes, found.share(found.rows[0])) == (0, 0, 0)
    assert found.rows[0].counts == {"done": 3}
    assert make(out, todo, stale="torch was 1.0").rows[0].counts == {"stale": 3}
    nothing = make(out, [])
    assert (nothing.rows, nothing.seconds, nothing.bytes) == ([], 0, 0)


def test_a_row_that_will_be_skipped_costs_nothing(out):
    found = make(out, trials(), Tools(Skipped("teacher has no BatchNorm")))
    assert found.seconds == 0 and found.teachers == []
    assert found.rows[0].note == "will be skipped: teacher has no BatchNorm"


def test_a_row_of_which_nothing_tells(out):
    found = make(out, trials(), Tools(DfkdError("it cannot be timed")))
    assert found.seconds == 0 and found.share(found.rows[0]) is None
    assert (found.rows[0].source, found.rows[0].note) == ("unknown", "it cannot be timed")


def test_teachers_are_trained_first_and_once(tmp_path):
    todo = trials(("kd", "scratch"), seeds=(0,), teacher_seeds=(0, 1))
    tools = Tools()
    found = make(tmp_path, todo, tools, workers=2)
    # two teachers of 60 seconds side by side, then four trials of 32, two at a time
    assert found.seconds == 4 + 60 + 64
    assert found.bytes == 2 * 5000 + 4 * 1000
    assert [t.name for t in found.teachers] == ["wrn16_2 on digits seed 0", "wrn16_2 on digits seed 1"]
    # teachers take all the room, whatever the workers; in one process all comes one after the other
    assert make(tmp_path, todo, tools, workers=1, room=2).seconds == 4 + 60 + 4 * 32
    assert make(tmp_path, todo, tools, workers=0, room=2).seconds == 4 + 2 * 60 + 4 * 32
    card(tmp_path / "teachers", todo[0], seconds=20.0)
    told = make(tmp_path, todo, tools).teachers
    assert [(t.seconds, t.source) for t in told] == [(20.0, "1 trained")]
    card(tmp_path / "teachers", todo[0], seconds=20.0, where="another")
    assert [t.source for t in make(tmp_path, todo, tools).teachers] == ["dfkd bench"]
    imported = trials(imported="ab" * 32)
    assert make(tmp_path, imported).teachers == []


# --- the command --------------------------------------------------------------------------------


@pytest.fixture
def tools(monkeypatch):
    found = Tools()
    monkeypatch.setattr(known, "Tools", lambda *_: found)
    return found


@pytest.fixture
def grid(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(
        "from harness.config import Budget, Grid\n"
        'GRID = Grid(tasks=("digits",), pairs=(("wrn16_2", "wrn16_1"),), budget=Budget(amount=10),\n'
        '            variants={"kd": ("kd", {}), "scratch": ("scratch", {})}, seeds=(0, 1, 2))\n'
    )
    return file


def test_status_says_what_is_to_come(dfkd, out, grid, tools):
    status, text, err = dfkd("status", grid, "--plan", "--workers", "1", "--out", out)
    assert status == 0, err
    # six trials of 32 seconds and 4 of start: 196 seconds
    assert "to come: 0.0544 h with 1 trial at a time, 0.006 MB on disk" in text
    assert "6 trials: 6 missing" in text
    status, text, _ = dfkd("status", grid, "--plan", "--workers", "1", "--out", out, "--json")
    told = json.loads(text)
    assert told["total"]["hours"] == pytest.approx(196 / 3600)
    assert told["total"]["counts"] == {"missing": 6}
    assert [row["hours"] for row in told["rows"]] == pytest.approx([96 / 3600] * 2)
    assert [row["source"] for row in told["rows"]] == ["dfkd bench"] * 2


def test_status_names_a_row_with_the_trials_of_another(dfkd, out, grid, tools):
    grid.write_text(grid.read_text().replace('"scratch": ("scratch", {})', '"again": ("kd", {})'))
    status, text, err = dfkd("status", grid, "--plan", "--workers", "1", "--out", out)
    assert status == 0, err
    assert "same trials as kd" in text and "3 trials: 3 missing" in text


def test_status_of_a_grid_that_is_done(dfkd, out, grid, tools):
    for trial in trials(("kd", "scratch")):
        finished(out, trial, teacher_digest="", data_digest="")
    status, text, err = dfkd("status", grid, "--plan", "--out", out)
    assert status == 0, err
    assert "6 trials: 6 done" in text and "nothing is to come" in text
    assert tools.asked == []


def test_status_names_what_it_does_not_know(dfkd, out, grid, tools):
    tools.found = DfkdError("it cannot be timed")
    status, text, err = dfkd("status", grid, "--plan", "--out", out)
    assert status == 0, err
    assert "without kd, scratch: what they will take is not known" in text
    TrialDir(out, trials()[0]).fail("method", "loss is not finite")
    assert "`dfkd run --retry failed`" in dfkd("status", grid, "--plan", "--out", out)[1]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--workers", "-1"), "--workers -1: give 0"),
        (("--gpus-per-trial", "1.5"), "--gpus-per-trial 1.5: give a share"),
    ],
)
def test_a_plan_refuses_what_a_run_does(dfkd, out, grid, words, complaint):
    status, _, err = dfkd("status", grid, "--plan", *words, "--out", out)
    assert status == 2 and complaint in err


def test_a_damaged_book_is_told(dfkd, out, grid, tools):
    book = Book(out)
    book.path.parent.mkdir()
    book.path.write_text("{")
    status, _, err = dfkd("status", grid, "--plan", "--out", out)
    assert status == 2 and "is damaged" in err and "`dfkd bench` measures again" in err
