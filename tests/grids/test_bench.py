"""What a trial costs: arithmetic by hand, and real rounds timed on noise."""

import json

import pytest
import torch

from harness.config import Budget
from harness.errors import DfkdError, Skipped
from harness.grids import bench
from harness.tasks import catalog
from harness.tasks.images import TaskData
from harness.trials import costs
from harness.trials.provenance import reset_peak_memory
from tests.build import trial_of

#: 4 rounds of warm-up of half a second and 0.2 GFLOP, then rounds of 2 seconds, 1 GFLOP and 5 updates
COST = bench.Cost(
    seconds=2.0, flops=1e9, updates=5.0, warm=4, warm_seconds=0.5, warm_flops=2e8, start=3.0, look=0.25,
    finish=1.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "rounds"),
    [
        ("10:rounds", 10),
        ("9.5:rounds", 10),
        ("50:student_updates", 14),  # 4 + 10
        ("51:student_updates", 15),
        ("0.5:student_updates", 5),
        ("1e9:flops", 5),  # 0.8 GFLOP in the first four
        ("1.8e9:flops", 5),
        ("1.9e9:flops", 6),
        ("0.3e9:flops", 2),
        ("0.8e9:flops", 4),
    ],
)
def test_rounds_until_a_budget_is_spent(budget, rounds):
    assert COST.rounds(Budget.parse(budget)) == rounds


def test_a_whole_trial():
    # 3 + 4 * 0.5 + 6 * 2 + 4 points * 0.25 + 1.5
    assert COST.total(Budget(amount=10), points=4) == 19.5
    # 2 rounds, both of the warm-up, each a point: 3 + 2 * 0.5 + 2 * 0.25 + 1.5
    assert COST.total(Budget(amount=2), points=4) == 6


def test_a_budget_that_no_round_spends():
    with pytest.raises(DfkdError, match="no student_updates: the budget 9:student_updates cannot be spent"):
        bench.Cost(seconds=1.0, flops=1.0, updates=0.0).rounds(Budget(amount=9, unit="student_updates"))


# --- real rounds --------------------------------------------------------------------------------


@pytest.fixture
def few(monkeypatch):
    """One round after the first, and splits of 64 images: how long is no matter here."""
    monkeypatch.setattr(bench, "_ROUNDS", 1)
    monkeypatch.setattr(bench, "_SEEN", 64)


def test_rounds_are_the_trials_own(few):
    own = {"batch": 8, "nz": 8, "g_steps": 3, "s_steps": 2}
    found = bench.measure(trial_of("zskt", own), seconds=0.0)
    each = costs.flops_per_update("zskt", own, catalog.describe("digits"), ("wrn16_2", "wrn16_1"))
    assert found.updates == 2
    assert found.flops == pytest.approx(2 * each, rel=0.02)
    assert min(found.seconds, found.start, found.look, found.finish, found.memory) > 0


def test_warm_up_rounds_are_timed_apart(few):
    own = {"batch": 16, "synthesis_batch": 16, "g_steps": 2, "s_steps": 2, "nz": 8, "warmup_rounds": 3}
    found = bench.measure(trial_of("fast", own), seconds=0.0)
    assert (found.warm, found.updates) == (3, 2)
    assert 0 < found.warm_flops < found.flops
    assert found.warm_seconds > 0


def test_rounds_that_take_long_are_few(few, monkeypatch):
    """A clock that goes on by 4 seconds at each look: begun at 0, the first ends at 4, two more by 12."""
    rounds, now = [], iter(range(0, 1000, 4))
    cls = bench.build.__globals__["registry"].methods.get("kd")
    real = cls.round
    monkeypatch.setattr(cls, "round", lambda self: rounds.append(1) or real(self))
    monkeypatch.setattr(bench, "_clock", lambda *_: lambda: float(next(now)))
    found = bench.measure(trial_of("kd", {"batch": 8}), seconds=100.0)
    assert (len(rounds), found.seconds) == (3, 4.0)


@pytest.mark.parametrize(
    ("method", "change", "error", "words"),
    [
        ("cpsc", {"task": "mnist", "teacher": "lenet5"}, Skipped, "lenet5 has no BatchNorm"),
        ("cpsc", {"settings": {"batch": 16, "nz": 8, "s_steps": 0}}, DfkdError, "cpsc trains no student"),
    ],
)
def test_what_cannot_be_timed_says_why(few, method, change, error, words):
    one = trial_of(method, change.pop("settings", None), **change)
    with pytest.raises(error, match=words):
        bench.measure(one, seconds=0.0)


@pytest.mark.parametrize(("batch", "steps"), [(16, 56), (512, 1), (4096, 1)])
def test_a_teacher_takes_its_epochs_of_its_steps(monkeypatch, batch, steps):
    """Of 898 images: 56 batches of 16 and 2 images over, one of 512 and 386 over, one of all."""
    now = 0.0

    def fit(found, net, recipe, seed, device, on_epoch):
        nonlocal now
        assert len(found.train) == recipe.batch  # an epoch is one step
        for epoch in range(recipe.epochs):  # of a 64th of a second for each image; the first of 9 seconds
            now += recipe.batch / 64 + 9 * (epoch == 0)
            on_epoch(epoch, recipe.epochs, 0.0)

    monkeypatch.setattr(bench.teachers, "fit", fit)
    monkeypatch.setattr(bench, "_clock", lambda *_: lambda: now)
    one = trial_of("kd")
    one = one.model_copy(update={"recipe": one.recipe.model_copy(update={"batch": batch, "epochs": 40})})
    assert bench.teaching(one) == pytest.approx(min(batch, 898) / 64 * steps * 40)


def test_a_teachers_epoch_leaves_out_what_fills_no_batch(monkeypatch):
    """The 1 of (512, 1) above, as the training itself does it."""
    taken = []
    real = bench.teachers.Loader.batch
    monkeypatch.setattr(bench.teachers.Loader, "batch", lambda self, n: taken.append(n) or real(self, n))
    images = bench.noise(catalog.describe("digits"), 898)
    found = TaskData(catalog.describe("digits"), images, images, images, "")
    recipe = trial_of("kd").recipe.model_copy(update={"batch": 512, "epochs": 2, "lr": 1e-6})
    bench.teachers.fit(found, "wrn16_1", recipe, 0, torch.device("cpu"), None)
    assert taken == [512, 512]


def test_memory_is_of_this_work_alone(monkeypatch):
    reset = []
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    reset_peak_memory(torch.device("cpu"))
    assert reset == []
    reset_peak_memory(torch.device("cuda:0"))
    assert reset == [torch.device("cuda:0")]


# --- the command --------------------------------------------------------------------------------


def test_bench_tells_what_it_measured(dfkd, few):
    words = "bench --methods kd,cpsc --task digits --pair wrn16_2:wrn16_1 --seconds 0 --json"
    words += " --set kd.batch=8 --set cpsc.batch=16 --set cpsc.s_steps=0"
    status, text, err = dfkd(*words.split())
    assert status == 0, err
    kd, cpsc = json.loads(text)["rows"]
    assert kd["gflops"] == pytest.approx(kd["gflop_per_round"] / kd["seconds_per_round"])
    assert kd["seconds_per_update"] == kd["seconds_per_round"]  # one update a round
    assert kd["memory_mb"] > 0
    assert "trains no student" in cpsc["note"] and cpsc["gflops"] is None
