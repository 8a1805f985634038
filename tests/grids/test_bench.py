"""What trials of a kind cost: arithmetic by hand, the book, and real rounds timed on noise."""

import json
import re
from pathlib import Path

import pytest
import torch

from harness.config import Budget, Grid
from harness.errors import DfkdError, Skipped
from harness.grids import bench, bench_machine, expand
from harness.grids.bench_book import Book, Cost, Number, kinds
from harness.tasks import catalog
from harness.tasks.images import TaskData
from harness.trials import costs
from harness.trials.provenance import reset_peak_memory

PAIR = ("wrn16_2", "wrn16_1")
#: 4 rounds of warm-up of half a second and 0.2 GFLOP, then rounds of 2 seconds, 1 GFLOP and 5 updates
COST = Cost(
    seconds=2.0, flops=1e9, updates=5.0, warm=4, warm_seconds=0.5, warm_flops=2e8, start=3.0, look=0.25,
    finish=1.5, bytes=100.0, pool=30.0, pool_most=200.0,
)  # fmt: skip


def trial(method="kd", budget="10:rounds", task="digits", pair=PAIR, seed=0, points=4, **settings):
    grid = Grid(
        tasks=(task,), pairs=(pair,), variants={method: (method, settings)}, seeds=(seed,), points=points,
        budget=Budget.parse(budget),
    )  # fmt: skip
    return expand.trials_of(grid)[0]


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [
        ("10:rounds", 10),
        ("9.5:rounds", 10),
        ("50:student_updates", 14),  # 4 + 10
        ("51:student_updates", 15),  # 4 + 10.2
        ("5.8e9:flops", 9),  # 0.8 in the warm-up, 5 in 5 rounds
        ("0.5e9:flops", 3),  # all of it in the warm-up: 2.5
        ("0.8e9:flops", 4),
    ],
)
def test_rounds_that_spend_a_budget(budget, rounds):
    assert COST.rounds(Budget.parse(budget)) == rounds


def test_an_average_over_a_finished_trial_gives_its_rounds_back():
    for rounds, updates in ((200, 1000), (49, 1000), (3, 7), (70_001, 350_005)):
        cost = Cost(seconds=1.0, flops=1.0, updates=updates / rounds)
        assert cost.rounds(Budget(amount=updates, unit="student_updates")) == rounds


def test_seconds_and_bytes_of_a_trial():
    # 3 + 4 * 0.5 + 6 * 2 + 4 points * 0.25 + 1.5; of 10 rounds the pool keeps 200 of 300 bytes
    assert COST.total(trial()) == 19.5
    assert COST.disk(trial()) == 300
    # 2 rounds, both of the warm-up, each a point: 3 + 2 * 0.5 + 2 * 0.25 + 1.5
    assert COST.total(trial(budget="2:rounds")) == 6
    assert COST.disk(trial(budget="2:rounds")) == 160


def test_a_budget_that_no_round_spends():
    with pytest.raises(DfkdError, match="no student_updates: the budget 9:student_updates cannot be spent"):
        Cost(seconds=1.0, flops=1.0, updates=0.0).rounds(Budget(amount=9, unit="student_updates"))


def test_a_kind_is_what_changes_the_cost():
    def kind(**changed):
        one = trial("cpsc", **changed)
        return kinds([one], "cpu", False)[one.id]

    same = kind()
    assert kind(seed=7) == kind(budget="99:rounds") == kind(lr_s=0.5) == kind(beta=3.0) == same
    others = [
        kind(beta=0.0),
        kind(batch=8),
        kind(s_steps=1),
        kind(task="digits16"),
        kind(pair=("wrn16_2",) * 2),
    ]
    assert same not in others
    one = trial("cpsc")
    assert kinds([one], "cpu", True)[one.id] != same != kinds([one], "NVIDIA H100", False)[one.id]
    assert {"threads", "torch", "device", "precision", "compile"} <= same.keys()


# --- the book -----------------------------------------------------------------------------------


def test_the_book_gives_back_what_was_put(tmp_path):
    assert Book(tmp_path).get(Cost, {"a": 1}) is None
    Book(tmp_path).put({"a": 1}, COST)
    Book(tmp_path).put({"a": 1}, Number(value=7.0))
    Book(tmp_path).put({"a": 2}, Number(value=8.0))
    assert Book(tmp_path).get(Cost, {"a": 1}) == COST
    assert Book(tmp_path).get(Number, {"a": 1}) == Number(value=7.0)
    assert Book(tmp_path).get(Cost, {"a": 2}) is None


def test_the_book_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    book = Book(tmp_path)
    book.put({"a": 1}, COST)
    before = book.path.read_bytes()

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(DfkdError, match=r"--out: .*json cannot be written: No space left on device"):
        book.put({"a": 2}, COST)
    assert book.path.read_bytes() == before
    assert [p.name for p in book.path.parent.iterdir()] == [book.path.name]


@pytest.mark.parametrize("text", ["{", "[]", '{"Cost": 3}', '{"Cost": {"%s": {"measured": {"flops": "x"}}}}'])
def test_a_damaged_book_is_one_line(tmp_path, text):
    book = Book(tmp_path)
    book.put({"a": 1}, COST)
    key = next(iter(json.loads(book.path.read_text())["Cost"]))
    book.path.write_text(text.replace("%s", key))
    with pytest.raises(DfkdError, match=r"is damaged \(.*\): remove it, `dfkd bench` measures again"):
        book.get(Cost, {"a": 1})


# --- real rounds --------------------------------------------------------------------------------

SMALL = {"batch": 32, "nz": 8, "g_steps": 8, "s_steps": 6}


@pytest.mark.parametrize("cut", [True, False])
def test_a_round_made_smaller_counts_as_the_whole_one(cut, monkeypatch):
    if not cut:
        monkeypatch.setattr(bench, "_affordable", lambda *_: dict(SMALL))
    one = trial("zskt", **SMALL)
    found = bench.measure(one, seconds=0.0)
    full = costs.flops_per_update("zskt", SMALL, catalog.describe("digits"), PAIR) * 6
    assert found.updates == pytest.approx(6)
    assert found.flops == pytest.approx(full, rel=0.02)
    if cut:
        assert found.timed < 0.7 and found.memory is None
    else:
        assert found.timed == 1 and found.memory > 0


def test_warm_up_rounds_are_timed_apart_and_pools_weighed():
    small = {"synthesis_batch": 16, "batch": 16, "g_steps": 2, "s_steps": 2, "nz": 8, "pool": 64}
    small = {k: v for k, v in small.items() if k in trial("fast").settings}
    one = trial("fast", warmup_rounds=3, **small)
    found = bench.measure(one, seconds=0.05)
    assert (found.warm, found.updates) == (3, 2)
    assert 0 < found.warm_flops < found.flops
    # 16 images of 8 x 8 grey pixels a round, and at least their labels
    assert found.pool >= 16 * 64
    assert min(found.seconds, found.start, found.look, found.finish, found.bytes) > 0


def test_a_method_that_cannot_run_there_says_why():
    with pytest.raises(Skipped, match="lenet5 has no BatchNorm"):
        bench.measure(trial("cpsc", task="mnist", pair=("lenet5", "lenet5_half")))


@pytest.mark.parametrize(("batch", "steps"), [(16, 56), (512, 1), (4096, 1)])
def test_a_teacher_takes_its_epochs_of_its_steps(monkeypatch, batch, steps):
    """Of 898 images: 56 batches of 16 and 2 images over, one of 512 and 386 over, one of all."""
    recipe = trial().recipe.model_copy(update={"batch": batch, "epochs": 40})
    now = 0.0

    def fit(found, net, recipe, seed, device, on_epoch):
        nonlocal now
        for epoch in range(recipe.epochs):  # of one step, a 64th of a second for each image
            now += recipe.batch / 64
            on_epoch(epoch, recipe.epochs, 0.0)

    monkeypatch.setattr(bench.teachers, "fit", fit)
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now)
    step = min(batch, 898) / 64
    assert bench.teaching("digits", "wrn16_2", recipe, 1) == pytest.approx(step * steps * 40)


def test_a_teachers_epoch_leaves_out_what_fills_no_batch(monkeypatch):
    """The 1 of (512, 1) above, as the training itself does it."""
    taken = []
    real = bench.teachers.Loader.batch
    monkeypatch.setattr(bench.teachers.Loader, "batch", lambda self, n: taken.append(n) or real(self, n))
    images = bench.noise(catalog.describe("digits"), 898)
    found = TaskData(catalog.describe("digits"), images, images, images, "")
    recipe = trial().recipe.model_copy(update={"batch": 512, "epochs": 2, "lr": 1e-6})
    bench.teachers.fit(found, "wrn16_1", recipe, 0, torch.device("cpu"), None)
    assert taken == [512, 512]


def test_the_test_images_of_the_task_are_looked_at_and_as_many_drawn(monkeypatch, tmp_path):
    one, now = trial("kd", task="cifar10"), 0.0

    def look(*_):
        nonlocal now
        now += 1.0

    def finish(loop, inception, data_root, images):
        nonlocal now
        now += images / 100

    loop = bench._loop(one, {}, "cpu", tmp_path)
    monkeypatch.setattr(bench.time, "perf_counter", lambda: now)
    monkeypatch.setattr(bench, "finish", finish)
    monkeypatch.setattr(bench, "logits_and_features", look)
    # a second for 512 images, which were looked at already, of 10,000
    assert bench._teachers_look(loop, one) == pytest.approx(10_000 / 512 - 1)
    weights = tmp_path / "inception"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "no weights here"))
    for seconds in (0.0, 1000.0):  # extrapolated, and all of it timed
        assert bench._end(loop, one, seconds, weights)["finish"] == pytest.approx(100)
        assert bench._end(loop, one, seconds, None)["finish"] == pytest.approx(20)


def test_memory_is_of_this_work_alone(monkeypatch):
    reset = []
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    reset_peak_memory(torch.device("cpu"))
    assert reset == []
    reset_peak_memory(torch.device("cuda:0"))
    assert reset == [torch.device("cuda:0")]


@pytest.mark.parametrize(("together", "factor"), [(["0.3", "0.5"], 2.0), (["0.1", "0.1"], 1.0)])
def test_how_much_longer_beside_others(monkeypatch, together, factor):
    said = iter([["0.2"], together])
    monkeypatch.setattr(bench_machine, "_started", lambda words: words)
    monkeypatch.setattr(bench_machine, "_hear", lambda crowd, failed: next(said))
    assert bench_machine.crowding("digits", "wrn16_1", 2, 1) == pytest.approx(factor)
    assert bench_machine.crowding("digits", "wrn16_1", 1, 1) == 1


def test_a_process_that_fails_is_told_in_one_line(monkeypatch):
    monkeypatch.setattr(bench_machine, "_ON_RAY", "raise SystemExit('no port is free')")
    with pytest.raises(DfkdError, match=r"a run that does nothing failed, .*: no port is free"):
        bench_machine.run_start(ray=True)


# --- the command --------------------------------------------------------------------------------

WORDS = ("--task", "digits", "--pair", "wrn16_2:wrn16_1", "--seconds", "0.1")


def test_bench_tells_what_it_measured_and_keeps_it(dfkd, tmp_path):
    words = ("bench", "--methods", "kd,cpsc", *WORDS, "--set", "kd.batch=8", "--set", "cpsc.batch=16")
    status, text, err = dfkd(*words, "--set", "cpsc.s_steps=0", "--out", tmp_path, "--json")
    assert status == 0, err
    told = json.loads(text)
    kd, cpsc = told["rows"]
    assert kd["gflops"] == pytest.approx(kd["gflop_per_round"] / kd["seconds_per_round"])
    assert kd["seconds_per_update"] == kd["seconds_per_round"]  # one update a round
    assert kd["matmul_percent"] > 0 and kd["memory_mb"] > 0
    assert "trains no student" in cpsc["note"] and cpsc["gflops"] is None
    book = json.loads(Path(told["book"]).read_text())
    assert len(book["Cost"]) == 1
    of = next(iter(book["Cost"].values()))["of"]
    assert of["settings"]["batch"] == 8 and of["threads"] == 1 and of["device"] == "cpu"


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--methods", "kd", "--task", "digits"), "takes a GRID, or else .*: no --pair"),
        (("--methods", "kdd", *WORDS), "unknown row or method 'kdd'.*kd"),
        (("--methods", "kd", *WORDS, "--set", "kd.bath=8"), "unknown setting of kd 'bath'.*batch"),
        (("--methods", "kd", *WORDS, "--device", "tpu"), "--device 'tpu'"),
    ],
)
def test_bench_refuses_in_one_line(dfkd, tmp_path, words, complaint):
    status, _, err = dfkd("bench", *words, "--out", tmp_path)
    assert status == 2
    assert re.search(complaint, err), err
    assert len(err.strip().splitlines()) == 1
