"""A trial end to end on real digits with tiny budgets: spends, files, resumption to the same bits."""

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from harness import errors, files, registry
from harness.config import Budget, Recipe, Trial
from harness.errors import DiskError, Diverged
from harness.metrics import base
from harness.store.directory import TrialDir
from harness.trials import build, examine, loop, measure, teachers, trial
from methods import dfad
from methods.shared.pool import Field, Pool
from tests.build import trial_of

RECIPE = Recipe(name="tiny", epochs=1, lr=0.05, batch=64)
#: pools of 40 rows wrap round within eight rounds of 16
SMALL = {
    "batch": 16, "nz": 16, "g_steps": 1, "s_steps": 1, "synthesis_batch": 16, "warmup_rounds": 1, "pool": 40,
    "bank": 40, "bank_draw": 8,
}  # fmt: skip
METHODS = registry.methods.available()


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    home = tmp_path_factory.mktemp("teachers")
    teachers.train(home, "digits", "wrn16_2", RECIPE, 0, threads=1)
    return home


@pytest.fixture(scope="module", autouse=True)
def few_images() -> Iterator[None]:
    """As many of the method's images as prove the point: 2,000 would take most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (base, examine, trial):
            patch.setattr(module, "STORED", 200)
        yield


def make(method: str, amount: float = 8, unit: str = "rounds", points: int = 4, **settings) -> Trial:
    known = registry.methods.get(method).HP.__dataclass_fields__
    given = {k: v for k, v in SMALL.items() if k in known} | settings
    return trial_of(method, given, recipe=RECIPE, budget=Budget(amount=amount, unit=unit), points=points)


#: a checkpoint after every round
OFTEN = loop.Pace(every=0.0, share=1e9)


def go(t: Trial, out: Path, home: Path, **more) -> dict:
    run = TrialDir(out, t)
    with run.lock():
        return trial.run_trial(t, run, teachers_dir=home, **more)


class Killed(BaseException):
    """As a SIGKILL: nothing below may catch it."""


def go_until(point: int, t: Trial, out: Path, home: Path) -> TrialDir:
    """Killed at a point, whose round is in no checkpoint yet."""

    def kill(row):
        if row["point"] == point:
            raise Killed

    with pytest.raises(Killed):
        go(t, out, home, pace=OFTEN, on_point=kill)
    return TrialDir(out, t)


def same_but_times(a: Path, b: Path) -> None:
    """Every number and every file equal, times and memory apart."""
    results = [json.loads((p / "result.json").read_text()) for p in (a, b)]
    for r in results:
        r.pop("cost")
    assert results[0] == results[1]
    curves = [[json.loads(line) for line in (p / "curve.jsonl").read_text().splitlines()] for p in (a, b)]
    for row in curves[0] + curves[1]:
        row.pop("seconds")
    assert curves[0] == curves[1]
    one, two = (load_file(p / "final/student.safetensors") for p in (a, b))
    assert one.keys() == two.keys()
    assert all(torch.equal(v, two[k]) for k, v in one.items())
    assert (np.load(a / "confusion.npy") == np.load(b / "confusion.npy")).all()
    for name in ("predictions.npz", "samples.npz"):
        if (a / name).exists():
            one, two = np.load(a / name), np.load(b / name)
            assert all((one[k] == two[k]).all() for k in one.files)


@pytest.mark.parametrize(
    ("method", "unit", "amount"),
    [
        *((m, "student_updates", 3) for m in METHODS),
        *((m, unit, n) for m in ("kd", "cpsc", "fast") for unit, n in (("rounds", 4), ("flops", 3e9))),
    ],
)
def test_every_method_spends_every_unit(tmp_path, home, method, unit, amount):
    t = make(method, amount, unit, points=2)
    result = go(t, tmp_path, home)
    spend = result["spend"]
    per_round = spend[unit] / spend["rounds"]
    assert amount <= spend[unit] < amount + per_round + 1e-6
    assert result["metrics"].keys() >= {"top1", "agreement"}
    run = TrialDir(tmp_path, t)
    assert run.status() == "done"
    assert [row["point"] for row in run.curve()][-1] == 2
    assert np.load(run.path / "confusion.npy").sum() == 899
    told = np.load(run.path / "predictions.npz")
    assert {k: (told[k].shape, told[k].dtype) for k in told} == dict.fromkeys("yst", ((899,), np.uint8))
    assert 100 * np.mean(told["t"] == told["s"]) == pytest.approx(result["metrics"]["agreement"], abs=1e-9)
    assert 100 * np.mean(told["y"] == told["s"]) == pytest.approx(result["metrics"]["top1"], abs=1e-9)
    assert (run.path / "samples.npz").exists() == (not registry.methods.get(method).USES_DATA)
    assert not (run.path / "checkpoint").exists()


@pytest.mark.parametrize("method", [m for m in METHODS if m != "scratch"])
def test_killed_and_continued_has_the_same_bits(tmp_path, home, method):
    t, at = make(method), random.Random(method).randint(1, 3)
    go(t, tmp_path / "whole", home, pace=OFTEN)
    killed = go_until(at, t, tmp_path / "killed", home)
    assert killed.status() == "partial"
    state = torch.load(killed.path / "checkpoint/state.pt", weights_only=True)
    assert state["progress"]["rounds"] == 2 * at - 1
    go(t, tmp_path / "killed", home, pace=OFTEN)
    same_but_times(TrialDir(tmp_path / "whole", t).path, killed.path)


class Hoarder(dfad.DFAD):
    """DFAD whose student learns from a ring of 40 images; of these a finished trial keeps 10."""

    def __init__(self, problem, hp):
        super().__init__(problem, hp)
        fields = {"x": Field(problem.task.shape, torch.float32)}
        self.pools["images"] = self.pool = Pool(40, fields, scratch=self.scratch("images"))
        whole = self.pool.excerpt
        self.pool.excerpt = lambda: whole(10)

    def lessons(self):
        with torch.no_grad():
            self.pool.add(x=self.draw(self.hp.batch, self.problem.rng)[0])
        yield self.lesson(self.pool.sample(self.hp.batch, self.problem.rng)["x"], None)

    def sample(self, n, labels, rng):
        return self.pool.sample(n, rng)["x"], None


@pytest.fixture(scope="module")
def hoarded(tmp_path_factory, home) -> TrialDir:
    """A finished trial of the `Hoarder`; read only."""
    run = TrialDir(tmp_path_factory.mktemp("whole"), make("dfad"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(registry.methods, "get", lambda name: Hoarder)
        go(run.trial, run.path.parents[1], home, pace=OFTEN)
    return run


@pytest.fixture
def whole(hoarded, monkeypatch) -> TrialDir:
    """The same, while the `Hoarder` stands in for DFAD."""
    monkeypatch.setattr(registry.methods, "get", lambda name: Hoarder)
    return hoarded


def test_a_pool_goes_on_after_a_kill_and_is_measured_when_its_files_are_gone(tmp_path, home, whole):
    killed = go_until(3, whole.trial, tmp_path, home)
    pools = killed.path / "checkpoint" / "pools" / "images"
    assert len(list(pools.iterdir())) >= 3
    state = torch.load(killed.path / "checkpoint/state.pt", weights_only=True)
    assert state["method"]["pools"]["images"].keys() == {"capacity", "total", "segments"}
    (pools / "segment-900-901.pt").write_bytes(b"of a checkpoint that never came")
    go(whole.trial, tmp_path, home, pace=OFTEN)
    same_but_times(whole.path, killed.path)
    assert not (killed.path / "checkpoint").exists()
    kept = torch.load(killed.path / "final/parts.pt", weights_only=True)["pools"]["images"]
    assert kept["total"] == len(kept["rows"]["x"]) == 10
    names = ["fd_teacher", "spread"]
    was = {k: killed.result()["metrics"][k] for k in names}
    again, reasons = measure.measure(killed, names, teachers_dir=home)
    assert {k: again[k] for k in names} == was and not reasons


def test_numbers_measured_with_other_kernels_are_told(tmp_path, home, whole, monkeypatch):
    run = TrialDir(tmp_path, whole.trial)
    shutil.copytree(whole.path, run.path)
    told = run.result()
    monkeypatch.setattr(measure, "kernels", lambda: "here")
    twice = "there; measured with here"
    for made, kept in (("", ""), ("here", "here"), ("there", twice), (twice, twice)):
        run.write_json("result.json", told | {"provenance": told["provenance"] | {"kernels": made}})
        measure.measure(run, ["spread"], teachers_dir=home)
        assert run.result()["provenance"] == told["provenance"] | {"kernels": kept}


@pytest.mark.parametrize("state", [None, b"PK\x03\x04 not a checkpoint"])
def test_without_a_checkpoint_or_with_a_torn_one_all_that_was_left_is_swept(tmp_path, home, whole, state):
    """The next try has its own rows and pools, and says that it starts over where it had gone further."""
    run = TrialDir(tmp_path, whole.trial)
    pools = run.path / "checkpoint" / "pools" / "images"
    pools.mkdir(parents=True)
    (pools / "segment-0-15.pt").write_bytes(b"left by a kill")
    run.append({"point": 1, "top1": 99.0})
    if state:
        (run.path / "checkpoint/state.pt").write_bytes(state)
    go(whole.trial, tmp_path, home, pace=OFTEN)
    same_but_times(whole.path, run.path)
    note = run.path / "note.json"
    assert ("starts over" in note.read_text()) if state else not note.exists()


def test_a_pickle_in_the_checkpoint_is_not_run(tmp_path, home):
    class Payload:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    t = make("dfad", 2)
    run = TrialDir(tmp_path, t)
    run.path.joinpath("checkpoint").mkdir(parents=True)
    torch.save({"method": Payload()}, run.path / "checkpoint/state.pt")
    go(t, tmp_path, home)
    assert not (tmp_path / "ran").exists()
    assert run.status() == "done"


def test_a_full_disk_is_said_and_leaves_nothing_half_written(tmp_path, monkeypatch):
    def full(self, data):
        with self.open("wb") as file:
            file.write(bytes(data)[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskError, match="No space left"):
        files.write_torch(tmp_path / "state.pt", {"a": torch.ones(3)})
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_ends_the_trial_in_words(tmp_path, home):
    with pytest.raises(Diverged, match="not finite"):
        go(make("dfad", 40, lr_s=1e30), tmp_path, home)


def test_a_budget_that_never_moves_fails(tmp_path, home):
    with pytest.raises(Diverged, match="student_updates stood still"):
        go(make("dfad", 4, "student_updates", s_steps=0), tmp_path, home, pace=loop.Pace(patience=5))


def test_a_cell_the_method_refuses_is_skipped_with_its_reason(tmp_path):
    home = tmp_path / "teachers"
    teachers.train(home, "digits", "lenet5", RECIPE, 0, threads=1)
    t = make("cpsc").model_copy(update={"teacher": "lenet5"})
    with pytest.raises(errors.Skipped, match="BatchNorm"):
        go(t, tmp_path, home)


def test_globals_are_given_back(tmp_path, home):
    torch.manual_seed(7)
    rng, threads = torch.get_rng_state(), torch.get_num_threads()
    go(make("cpsc", 2), tmp_path, home)
    assert torch.equal(rng, torch.get_rng_state())
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_every_method_meets_the_same_student(home, tmp_path):
    jobs = [
        build.build(make(name), data_root=None, teachers_dir=home) for name in ("scratch", "dafl", "cpsc")
    ]
    first, *others = (job.method.S.state_dict() for job in jobs)
    assert all(torch.equal(v, other[k]) for other in others for k, v in first.items())


def test_exported_student_has_the_accuracy_of_the_table(tmp_path, home):
    from harness.nets.catalog import build
    from harness.tasks import images

    t = make("kd", 20)
    result = go(t, tmp_path, home)
    found = images.load("digits")
    net = build("wrn16_1", found.task)
    net.load_state_dict(load_file(TrialDir(tmp_path, t).path / "final/student.safetensors"))
    assert teachers.accuracy(net, found.test) == pytest.approx(result["metrics"]["top1"], abs=0.12)
