"""`dfkd merge`: whole trials or none, nothing deleted, sources untouched, every refusal by name."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.errors import DfkdError
from harness.store import merge, merge_copy
from harness.store.cards import Card
from harness.store.directory import Busy, TrialDir
from harness.tasks.catalog import RECIPES
from tests.schedule import noop_trial
from tests.store.test_compare import finish, held


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and time; locks apart, which are about who is there."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "lock" and p.suffix != ".lock"
    }


def partial(out: Path, seed: int = 0, points: int = 1) -> TrialDir:
    run = TrialDir(out, noop_trial.make(seed))
    run.prepare()
    for i in range(1, points + 1):
        run.append({"point": i, "top1": 10.0 * i})
    (run.path / "checkpoint").mkdir()
    (run.path / "checkpoint" / "state.pt").write_bytes(b"half way")
    return run


def failed(out: Path, seed: int = 0) -> TrialDir:
    run = TrialDir(out, noop_trial.make(seed))
    run.prepare()
    run.fail("method", "loss of 'G' is not finite")
    return run


def teacher(out: Path, weights: bytes = b"weights", name: str = "wrn16_2-small-713f67-s0") -> Path:
    path = out / "teachers" / "digits" / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(weights)
    card = Card(
        task="digits", task_version=1, net="wrn16_2", recipe=RECIPES["small"], seed=0, mean=(0.5,),
        std=(0.5,), top1=99.0, data_digest="cd" * 32, digest=hashlib.sha256(weights).hexdigest(), source="",
    )  # fmt: skip
    path.with_suffix(".json").write_text(card.model_dump_json())
    return path


def kinds(plan: merge.Plan) -> list[str]:
    return [fate.kind for fate in plan.fates]


def go(*sources: Path, out: Path, prefer: Any = None) -> merge.Plan:
    """Plan and do it, the sources as they were."""
    before = [snapshot(s) for s in sources]
    plan = merge.plan(sources, out, prefer)
    merge_copy.carry_out(plan.out, plan.moves, plan.weights)
    assert [snapshot(s) for s in sources] == before
    assert not (out / "trials" / ".merge").exists() and not list(out.rglob(".*.tmp"))
    return plan


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return tmp_path / "a"


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return tmp_path / "b"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


class TestCopying:
    def test_a_directory_is_copied_whole_but_for_what_is_about_its_place(self, a, out):
        run = finish(a, noop_trial.make())
        (run.path / "final").mkdir()
        (run.path / "final" / "student.safetensors").write_bytes(b"\0" * 5000)
        (run.path / "synced.json").write_text("{}")
        (run.path / ".result.json.7.tmp").write_text("half")
        with run.lock():
            pass
        plan = go(a, out=out)
        copy = TrialDir(out, noop_trial.make())
        there, was = snapshot(copy.path), snapshot(run.path)
        assert there == {k: v for k, v in was.items() if k not in ("synced.json", ".result.json.7.tmp")}
        assert copy.status() == "done" and not (copy.path / "lock").exists()
        assert plan.size == sum(len(data) for data, _ in there.values()) > 5000
        assert held(a, out).pairs[0].promised and not held(a, out).broken

    def test_several_folders_and_what_is_there_already(self, a, b, out):
        for seed in (0, 1):
            finish(a, noop_trial.make(seed))
        for seed in (1, 2):
            finish(b, noop_trial.make(seed))
        finish(out, noop_trial.make(3))
        was = snapshot(out)
        plan = go(a, b, out=out)
        assert sorted(kinds(plan)) == ["copied", "copied", "copied", "same"]
        assert {p.name for p in (out / "trials").iterdir()} == {noop_trial.make(s).id for s in range(4)}
        assert was.items() <= snapshot(out).items()
        again = go(a, b, out=out)
        assert kinds(again) == ["same"] * 4 and not again.moves and not again.left

    def test_trials_that_nobody_ran_are_passed_over(self, a, out):
        TrialDir(a, noop_trial.make(0)).prepare()
        (a / "trials" / noop_trial.make(1).id).mkdir()
        (a / "trials" / noop_trial.make(1).id / "lock").touch()
        finish(a, noop_trial.make(2))
        assert kinds(go(a, out=out)) == ["copied"]

    def test_a_stub_in_out_gives_way(self, a, out):
        finish(a, noop_trial.make())
        TrialDir(out, noop_trial.make()).prepare()
        assert kinds(go(a, out=out)) == ["copied"]
        assert TrialDir(out, noop_trial.make()).status() == "done"
        assert (out / "set-aside" / noop_trial.make().id / "trial.json").exists()


class TestWhoWins:
    def test_finished_beats_failed_beats_interrupted_and_the_loser_is_set_aside(self, a, b, tmp_path):
        makers = {"done": lambda o: finish(o, noop_trial.make()), "failed": failed, "partial": partial}
        order = list(makers)
        for mine in order:
            for theirs in order:
                if mine == theirs:
                    continue
                out, source = tmp_path / f"out {mine} {theirs}", tmp_path / f"from {mine} {theirs}"
                was = snapshot(makers[mine](out).path)
                makers[theirs](source)
                plan = go(source, out=out)
                better = order.index(theirs) < order.index(mine)
                assert kinds(plan) == ["replaced" if better else "kept"]
                assert TrialDir(out, noop_trial.make()).settled() == (theirs if better else mine)
                aside = out / "set-aside" / noop_trial.make().id
                assert (snapshot(aside) == was) if better else not aside.exists()

    def test_of_two_interrupted_the_one_that_came_further(self, a, b, out):
        partial(out, points=2)
        partial(a, points=2)
        partial(b, points=5)
        plan = go(a, b, out=out)
        assert kinds(plan) == ["kept", "replaced"]
        assert "interrupted after 5 points" in plan.fates[1].why
        assert len(TrialDir(out, noop_trial.make()).curve()) == 5
        assert (TrialDir(out, noop_trial.make()).path / "checkpoint" / "state.pt").read_bytes() == b"half way"

    def test_the_best_of_several_is_copied_once(self, a, b, out, tmp_path):
        partial(a)
        failed(b)
        finish(tmp_path / "c", noop_trial.make())
        plan = go(a, b, tmp_path / "c", out=out)
        assert kinds(plan) == ["kept", "kept", "copied"] and len(plan.moves) == 1
        assert plan.fates[0].why == "another folder has a better one"
        assert not (out / "set-aside").exists()

    def test_what_is_set_aside_twice_has_two_places(self, a, b, out):
        partial(out, points=1)
        partial(a, points=2)
        go(a, out=out)
        finish(b, noop_trial.make())
        go(b, out=out)
        id = noop_trial.make().id
        assert {p.name for p in (out / "set-aside").iterdir()} == {id, f"{id}-2"}


class TestOtherNumbers:
    @pytest.fixture
    def two(self, a, out) -> tuple[TrialDir, TrialDir]:
        mine = finish(out, noop_trial.make(), top1=90.0)
        theirs = finish(a, noop_trial.make(), top1=91.5, machine="another")
        os.utime(mine.path / "result.json", ns=(10**18, 10**18))
        os.utime(theirs.path / "result.json", ns=(10**18 + 1, 10**18 + 1))
        return mine, theirs

    def test_are_refused_and_what_differs_is_said(self, a, out, two, dfkd):
        before = snapshot(out)
        code, said, _ = dfkd("merge", a, "--out", out)
        assert code == 1 and snapshot(out) == before
        assert said.startswith(
            f"refused   noop on digits wrn16_2->wrn16_1 seed 0 of {a}: finished in both with"
        )
        assert (
            f"top1 90 and 91.5; machine differs ({out} first)" in said and "--prefer first or newest" in said
        )
        assert "0 trials copied" in said and "1 refused" in said

    def test_first_keeps_what_came_first(self, a, b, out, two):
        plan = go(a, out=out, prefer="first")
        assert kinds(plan) == ["kept"] and not plan.left
        finish(b, noop_trial.make(1), top1=1.0)
        finish(a, noop_trial.make(1), top1=2.0)
        go(b, a, out=out, prefer="first")
        assert (TrialDir(out, noop_trial.make(1)).result() or {})["metrics"]["top1"] == 1.0

    def test_newest_goes_by_the_time_of_the_result(self, a, b, out, two):
        assert kinds(go(a, out=out, prefer="newest")) == ["replaced"]
        assert (TrialDir(out, noop_trial.make()).result() or {})["metrics"]["top1"] == 91.5
        old = finish(b, noop_trial.make(), top1=70.0)
        os.utime(old.path / "result.json", ns=(10**17, 10**17))
        plan = go(b, out=out, prefer="newest")  # times were copied too
        assert kinds(plan) == ["kept"] and plan.fates[0].why.startswith("not newer: top1 91.5 and 70")

    def test_equal_numbers_with_more_metrics_are_the_same_and_say_so(self, a, out):
        finish(out, noop_trial.make())
        finish(a, noop_trial.make(), metrics={"corruption": 50.0})
        plan = go(a, out=out)
        assert kinds(plan) == ["same"] and "corruption besides" in plan.fates[0].why and not plan.left


class TestLocks:
    def test_a_running_trial_is_left_and_named(self, a, out, dfkd):
        finish(a, noop_trial.make(1))
        with TrialDir(a, noop_trial.make(0)).lock():
            partial(a)
            code, said, _ = dfkd("merge", a, "--out", out)
        assert code == 1 and "running   noop on digits wrn16_2->wrn16_1 seed 0" in said
        assert "somebody is at it there" in said and "1 trial copied" in said
        assert [p.name for p in (out / "trials").iterdir()] == [noop_trial.make(1).id]
        assert dfkd("merge", a, "--out", out)[0] == 0  # it ended

    def test_one_that_is_being_measured_too(self, a, out):
        run = finish(a, noop_trial.make())
        with run.lock():
            assert kinds(merge.plan([a], out)) == ["running"]

    def test_one_that_runs_in_out(self, a, out):
        finish(a, noop_trial.make())
        mine = partial(out)
        with mine.lock():
            plan = go(a, out=out)
            assert kinds(plan) == ["running"] and plan.fates[0].why == "somebody is at it in OUT"
        assert mine.settled() == "partial"

    def test_one_that_starts_after_the_plan(self, a, out):
        run = partial(a)
        with run.lock():
            pass
        plan = merge.plan([a], out)
        with run.lock(), pytest.raises(Busy, match="is running"):
            merge_copy.carry_out(plan.out, plan.moves, plan.weights)
        assert not list((out / "trials").iterdir())

    def test_one_that_ended_in_out_after_the_plan(self, a, out):
        finish(a, noop_trial.make(), top1=50.0)
        partial(out)
        plan = merge.plan([a], out)
        finish(out, noop_trial.make(), top1=90.0)
        with pytest.raises(DfkdError, match="changed since it was looked at: merge again"):
            merge_copy.carry_out(plan.out, plan.moves, plan.weights)
        assert (TrialDir(out, noop_trial.make()).result() or {})["metrics"]["top1"] == 90.0

    def test_two_merges_at_once(self, a, out):
        finish(a, noop_trial.make())
        plan = merge.plan([a], out)
        out.mkdir()
        with FileLock(out / ".merge.lock"), pytest.raises(Busy, match="another merge"):
            merge_copy.carry_out(plan.out, plan.moves, plan.weights)


class TestOddThings:
    def test_links_pipes_and_strangers_are_refused_by_name(self, a, out):
        secret = a.parent / "secret"
        secret.write_text("x")
        for seed, name in enumerate(["link", "pipe", "moved", "damaged"]):
            run = finish(a, noop_trial.make(seed))
            if name == "link":
                (run.path / "samples.npz").symlink_to(secret)
            if name == "pipe":
                os.mkfifo(run.path / "pipe")
            if name == "moved":
                run.path.rename(run.path.with_name("0123456789ab"))
            if name == "damaged":
                (run.path / "trial.json").write_text("[")
        whole = finish(a, noop_trial.make(9))
        (a / "trials" / "ffffffffffff").symlink_to(whole.path)
        (a / "trials" / "notes.txt").write_text("mine")
        plan = merge.plan([a], out)
        told = "\n".join(fate.why for fate in plan.fates if fate.kind == "refused")
        assert kinds(plan).count("refused") == 6 and kinds(plan).count("copied") == 1
        assert f"samples.npz is a link to {secret}" in told and "pipe is neither a file nor a folder" in told
        assert f"0123456789ab/trial.json is of trial {noop_trial.make(2).id}" in told
        assert "trial.json cannot be read" in told and "notes.txt is a file" in told
        assert f"ffffffffffff is a link to {whole.path}" in told

    def test_nothing_is_written_through_a_link_in_out(self, a, out, tmp_path):
        run = finish(a, noop_trial.make())
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (out / "trials").mkdir(parents=True)
        (out / "trials" / run.id).symlink_to(elsewhere)
        plan = go(a, out=out)
        assert kinds(plan) == ["refused"] and "what OUT has is no trial" in plan.fates[0].why
        assert not list(elsewhere.iterdir())

    def test_folders_that_make_no_sense(self, a, b, out, dfkd):
        finish(a, noop_trial.make())
        out.write_text("a file")
        for words, told in [
            ((b, "--out", b), "does not exist: give folders of `dfkd run --out`"),
            ((a.parent, "--out", b), "has no trials/"),
            ((a, "--out", a), "is the folder that is merged into"),
            ((a, a, "--out", b), "is given twice"),
            ((a, "--out", a / "trials"), "lie inside each other"),
            ((a, "--out", out), "is a file"),
        ]:
            code, _, err = dfkd("merge", *words)
            assert code == 2 and told in err and err.count("\n") == 1


class TestTheDisk:
    def test_is_asked_before_anything_is_copied(self, a, out, dfkd, monkeypatch):
        run = finish(a, noop_trial.make())
        (run.path / "big").write_bytes(b"\0" * 3 * 2**20)
        usage = shutil.disk_usage(a)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**20))
        code, _, err = dfkd("merge", a, "--out", out)
        assert code == 2 and "3.0 MiB are to be copied, 1.0 MiB are free there" in err and not out.exists()

    def test_full_half_way_leaves_whole_trials_and_no_other(self, a, out, monkeypatch):
        for seed in range(3):
            finish(a, noop_trial.make(seed))
        copy2, calls = shutil.copy2, []

        def full(*given: Any, **named: Any) -> Any:
            calls.append(1)
            if len(calls) == 5:
                raise OSError(28, "No space left on device")
            return copy2(*given, **named)

        plan = merge.plan([a], out)
        monkeypatch.setattr(shutil, "copy2", full)
        with pytest.raises(DfkdError, match="No space left on device; what was copied stays"):
            merge_copy.carry_out(plan.out, plan.moves, plan.weights)
        assert [p.name for p in (out / "trials").iterdir()] == [
            sorted(noop_trial.make(s).id for s in range(3))[0]
        ]
        monkeypatch.setattr(shutil, "copy2", copy2)
        assert sorted(kinds(go(a, out=out))) == ["copied", "copied", "same"]

    def test_what_a_killed_merge_left_is_swept(self, a, out):
        finish(a, noop_trial.make())
        left = out / "trials" / ".merge" / noop_trial.make().id
        left.mkdir(parents=True)
        (left / "half").write_text("x")
        go(a, out=out)
        assert not (TrialDir(out, noop_trial.make()).path / "half").exists()

    def test_a_dry_run_writes_nothing(self, a, b, out, dfkd):
        finish(a, noop_trial.make(0))
        finish(a, noop_trial.make(1), top1=1.0)
        teacher(a)
        code, said, _ = dfkd("merge", a, "--out", out, "--dry-run")
        assert code == 0 and "2 trials would be copied" in said and "1 teacher would be copied" in said
        assert not out.exists() and "dfkd sync" not in said
        finish(out, noop_trial.make(1), top1=2.0)
        before = snapshot(out)
        assert dfkd("merge", a, "--out", out, "--dry-run")[0] == 1 and snapshot(out) == before
        assert not (out / ".merge.lock").exists()

    def test_amounts(self):
        said = [merge_copy.amount(n) for n in (0, 812, 1536, 3 * 2**20, 5 * 2**30)]
        assert said == ["0 B", "812 B", "1.5 KiB", "3.0 MiB", "5.0 GiB"]


class TestTeachers:
    def test_are_copied_with_their_cards_and_once(self, a, b, out):
        path = teacher(a)
        teacher(b)
        finish(a, noop_trial.make())
        finish(b, noop_trial.make(1))
        plan = go(a, b, out=out)
        copy = out / "teachers" / "digits" / path.name
        assert [w.name for w in plan.weights] == [f"digits/{path.name}"]
        assert copy.read_bytes() == b"weights"
        assert copy.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()
        assert not go(a, b, out=out).weights

    def test_another_one_of_the_name_is_refused_with_both_digests(self, a, out, dfkd):
        teacher(out, b"mine")
        teacher(a, b"theirs")
        digest = hashlib.sha256(b"theirs").hexdigest()
        finish(a, noop_trial.make(0), teacher_digest=digest)
        finish(a, noop_trial.make(1))
        code, said, _ = dfkd("merge", a, "--out", out)
        assert code == 1 and f"has digest {digest[:12]}" in said
        assert hashlib.sha256(b"mine").hexdigest()[:12] in said
        assert "1 of the trials come from a refused teacher: reports show them as stale" in said
        assert (out / "teachers/digits/wrn16_2-small-713f67-s0.safetensors").read_bytes() == b"mine"

    def test_damaged_ones_links_and_those_without_a_card_are_refused(self, a, out):
        teacher(a, name="damaged").write_bytes(b"other")
        teacher(a, name="bare").with_suffix(".json").unlink()
        real = teacher(a, name="real")
        link = real.with_name("link.safetensors")
        link.symlink_to(real)
        (a / "trials").mkdir()
        plan = go(a, out=out)
        assert [w.name for w in plan.weights] == ["digits/real.safetensors"] and plan.left
        told = "\n".join(plan.refused_weights)
        assert (
            "changed or damaged" in told
            and "has no card bare.json" in told
            and "link.safetensors is a link" in told
        )

    def test_one_that_is_being_trained_there_is_waited_for(self, a, out):
        path = teacher(a)
        (a / "trials").mkdir()
        plan = merge.plan([a], out)
        home = out / "teachers" / "digits"
        home.mkdir(parents=True)
        with FileLock(home / f"{path.stem}.lock"), pytest.raises(Busy, match="is being made"):
            merge_copy.carry_out(plan.out, plan.moves, plan.weights)
        assert not list(home.glob("*.safetensors"))


class TestTheCommand:
    def test_says_what_it_did_and_what_comes_next(self, a, out, dfkd):
        partial(out, 0)
        for seed in range(3):
            finish(a, noop_trial.make(seed))
        code, said, _ = dfkd("merge", a, "--out", out)
        assert code == 0
        assert "replaced  noop on digits wrn16_2->wrn16_1 seed 0" in said and "done beats partial" in said
        assert "3 trials copied (" in said and f"set aside in {out / 'set-aside'}" in said
        assert f"`dfkd sync GRID --out {out}`" in said

    def test_json(self, a, out, dfkd):
        finish(a, noop_trial.make())
        told = json.loads(dfkd("merge", a, "--out", out, "--json")[1])
        assert told["counts"] == {"copied": 1} and told["bytes"] > 0 and told["dry_run"] is False
        assert told["trials"][0]["id"] == noop_trial.make().id and told["trials"][0]["source"] == str(a)

    def test_a_wrong_preference_is_refused(self, a, out, dfkd):
        finish(a, noop_trial.make())
        code, _, err = dfkd("merge", a, "--out", out, "--prefer", "oldest")
        assert code == 2 and "oldest" in err and not out.exists()

    def test_readers_meanwhile_see_whole_trials_or_none(self, a, out):
        for seed in range(20):
            run = finish(a, noop_trial.make(seed))
            (run.path / "samples.npz").write_bytes(b"x" * 100_000)
        seen: list[str] = []
        stop = threading.Event()

        def look() -> None:
            while not stop.is_set():
                for path in out.glob("trials/[0-9a-f]*"):
                    if not {"trial.json", "curve.jsonl", "result.json", "samples.npz"} <= {
                        p.name for p in path.iterdir()
                    }:
                        seen.append(path.name)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            go(a, out=out)
        finally:
            stop.set()
            watcher.join()
        assert not seen and len(list((out / "trials").iterdir())) == 20
