"""`dfkd merge`: whole trials or none, nothing changed, sources untouched, every refusal by name."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

from harness.files import locked
from harness.store import merge, records
from harness.store.directory import TrialDir
from tests import build
from tests.build import failed, finished, row, trial

NAME = "noop on digits wrn16_2->wrn16_1 seed 0"


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file with its bytes and time; locks apart, which are about who is there."""
    return {
        str(p.relative_to(folder)): (p.read_bytes(), p.stat().st_mtime_ns)
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name != "lock" and p.suffix != ".lock"
    }


def declared(out: Path, seed: int = 0) -> TrialDir:
    run = TrialDir(out, trial(seed))
    run.prepare()
    return run


def top1(out: Path, seed: int = 0) -> float:
    return float((TrialDir(out, trial(seed)).result() or {})["metrics"]["top1"])


def teacher(out: Path, weights: bytes = b"weights", name: str = "wrn16_2-small-713f67-s0") -> Path:
    (out / "trials").mkdir(parents=True, exist_ok=True)
    return build.teacher(out / "teachers" / "digits" / f"{name}.safetensors", weights)


def go(*sources: Path, out: Path) -> merge.Plan:
    """Plan and do it, the sources as they were and nothing lying about."""
    before = [snapshot(s) for s in sources]
    plan = merge.plan([records.read(source) for source in sources], out)
    merge.carry_out(plan)
    assert [snapshot(s) for s in sources] == before
    assert not list(out.glob(".merge*")) and not list(out.rglob(".*.tmp"))
    return plan


class TestTrials:
    def test_one_is_copied_whole_but_for_what_is_about_its_place(self, a, out):
        run = finished(a, trial())
        (run.path / "final").mkdir()
        (run.path / "final" / "student.safetensors").write_bytes(b"\0" * 5000)
        (run.path / "synced.json").write_text("{}")
        (run.path / ".result.json.7.tmp").write_text("half")
        with run.lock():
            pass
        go(a, out=out)
        copy = TrialDir(out, trial())
        was = snapshot(run.path)
        assert snapshot(copy.path) == {
            k: v for k, v in was.items() if k not in ("synced.json", ".result.json.7.tmp")
        }
        assert copy.status() == "done" and not (copy.path / "lock").exists()

    def test_those_of_several_stores_and_what_is_there_already(self, a, b, out):
        for store, seeds in ((a, (0, 1)), (b, (1, 2)), (out, (3, 2))):
            for seed in seeds:
                finished(store, trial(seed), metrics={"nll": 1.0} if store == out else {})
        failed(a, trial(4))
        was = snapshot(out)
        plan = go(a, b, out=out)
        assert plan.trials.keys() == {trial(s).id for s in (0, 1, 4)} and plan.there == 2
        assert {p.name for p in (out / "trials").iterdir()} == {trial(s).id for s in range(5)}
        assert was.items() <= snapshot(out).items() and not plan.refused
        again = go(a, b, out=out)
        assert (again.there, again.trials, again.refused) == (5, {}, [])

    def test_what_has_not_ended_is_left(self, a, out):
        declared(a, 0)
        declared(a, 1).append(row(1))
        finished(a, trial(2))
        with declared(a, 3).lock():
            plan = go(a, out=out)
        assert plan.unfinished == 2 and [p.name for p in (out / "trials").iterdir()] == [trial(2).id]

    def test_one_that_was_only_declared_in_out_gives_way(self, a, out):
        finished(a, trial())
        with declared(out).lock():
            pass
        assert go(a, out=out).trials.keys() == {trial().id}
        assert TrialDir(out, trial()).status() == "done"

    def test_one_that_ended_otherwise_is_refused(self, a, b, out):
        finished(a, trial(0))
        declared(out, 0).append(row(1))
        failed(a, trial(1))
        finished(out, trial(1))
        was = snapshot(out)
        assert sorted(go(a, out=out).refused) == [
            f"{NAME} of {a}: it is done; {out} has it partial",
            f"{NAME[:-1]}1 of {a}: it is failed: loss of 'G' is not finite; {out} has it done",
        ]
        assert snapshot(out) == was

    def test_other_numbers_are_refused_and_what_differs_is_said(self, a, b, out, dfkd):
        finished(out, trial(), metrics={"top1": 90.0})
        finished(a, trial(), metrics={"top1": 91.5, "nll": 1.0}, provenance={"machine": "another"})
        finished(a, trial(1), metrics={"top1": 1.0})
        finished(b, trial(1), metrics={"top1": 2.0})
        code, said, _ = dfkd("merge", a, b, "--out", out)
        assert code == 1 and top1(out) == 90.0 and top1(out, 1) == 1.0
        differ = f"{out} has other numbers: top1 90 there, 91.5 here; machine differs"
        assert said.startswith(f"refused: {NAME} of {a}: {differ}\n")
        assert f"1 of {b}: {out} has other numbers: top1 1 there, 2 here; same provenance" in said
        assert "1 trial copied, 2 refused" in said


class TestWhatGoesWrong:
    def test_a_trial_that_somebody_is_at_is_refused(self, a, out):
        finished(a, trial(1))
        with finished(a, trial(0)).lock():  # it is being measured
            plan = go(a, out=out)
        assert plan.refused == [f"trial {trial(0).id} in {a} is running"]
        assert list(plan.trials) == [trial(1).id]
        assert [p.name for p in (out / "trials").iterdir()] == [trial(1).id]

    def test_one_that_came_to_out_after_the_plan_stays(self, a, out):
        finished(a, trial(), metrics={"top1": 50.0})
        plan = merge.plan([records.read(a)], out)
        finished(out, trial(), metrics={"top1": 90.0})
        build.refused(lambda: merge.carry_out(plan), "changed since it was looked at: merge again")
        assert top1(out) == 90.0

    def test_links_pipes_and_strangers_are_refused_by_name(self, a, out):
        secret = a.parent / "secret"
        secret.write_text("x")
        runs = [finished(a, trial(seed)).path for seed in range(5)]
        (runs[0] / "samples.npz").symlink_to(secret)
        os.mkfifo(runs[1] / "pipe")
        runs[2].rename(runs[2].with_name("0123456789ab"))
        (runs[3] / "trial.json").write_text("[")
        (out / "trials").mkdir(parents=True)
        (out / "trials" / runs[4].name).symlink_to(a)  # nothing is written through it
        plan = go(a, out=out)
        told = "\n".join(plan.refused)
        assert len(plan.refused) == 5 and not plan.trials
        assert f"samples.npz is a link to {secret}" in told and "pipe is neither a file nor a folder" in told
        assert f"0123456789ab/trial.json is of trial {trial(2).id}" in told
        assert "trial.json cannot be read" in told and f"{runs[4].name} is a link to {a}" in told

    def test_what_is_no_store_is_told_in_a_line(self, a, b, out, dfkd):
        finished(a, trial())
        out.write_text("a file")
        dfkd("merge", b, "--out", b).refuses("does not exist: give a folder of `dfkd run --out`")
        dfkd("merge", a, "--out", out).refuses("cannot copy to")

    def test_a_full_disk_leaves_whole_trials_and_no_other(self, a, out, monkeypatch):
        for seed in range(3):
            finished(a, trial(seed))
        copy2, calls = shutil.copy2, []

        def full(*given: Any, **named: Any) -> Any:
            calls.append(1)
            if len(calls) == 5:
                raise OSError(28, "No space left on device")
            return copy2(*given, **named)

        monkeypatch.setattr(shutil, "copy2", full)
        goes_on = "what was copied stays and the same command goes on: No space"
        build.refused(lambda: go(a, out=out), goes_on)
        assert [p.name for p in (out / "trials").iterdir()] == [min(trial(s).id for s in range(3))]
        monkeypatch.setattr(shutil, "copy2", copy2)
        assert len(go(a, out=out).trials) == 2


class TestTeachers:
    def test_they_are_copied_with_their_cards_and_once(self, a, b, out):
        path = teacher(a)
        teacher(b)
        plan = go(a, b, out=out)
        copy = out / "teachers" / "digits" / path.name
        assert list(plan.teachers) == [f"digits/{path.name}"]
        assert copy.read_bytes() == b"weights"
        assert copy.with_suffix(".json").read_bytes() == path.with_suffix(".json").read_bytes()
        assert not go(a, b, out=out).teachers

    def test_another_one_of_the_name_is_refused_with_both_digests(self, a, out, dfkd):
        mine = teacher(out, b"mine")
        teacher(a, b"theirs")
        code, said, _ = dfkd("merge", a, "--out", out)
        assert code == 1 and mine.read_bytes() == b"mine"
        assert f"has digest {hashlib.sha256(b'theirs').hexdigest()[:12]}" in said
        assert f"has {hashlib.sha256(b'mine').hexdigest()[:12]}" in said

    def test_damaged_ones_links_and_those_without_a_card_are_refused(self, a, out):
        teacher(a, name="damaged").write_bytes(b"other")
        teacher(a, name="bare").with_suffix(".json").unlink()
        real = teacher(a, name="real")
        link = teacher(a, name="link")
        link.unlink()
        link.symlink_to(real)
        plan = go(a, out=out)
        assert list(plan.teachers) == ["digits/real.safetensors"]
        for told in ("changed or damaged", "has no card bare.json", "link.safetensors is a link"):
            assert sum(told in line for line in plan.refused) == 1

    def test_one_that_is_being_trained_there_is_refused(self, a, out):
        path = teacher(a)
        home = out / "teachers" / "digits"
        home.mkdir(parents=True)
        with locked(home / f"{path.stem}.lock"):
            plan = go(a, out=out)
        assert not plan.teachers and "is being made there" in plan.refused[0]
        assert not list(home.glob("*.safetensors"))


class TestTheCommand:
    def test_it_says_what_it_did_and_a_dry_run_writes_nothing(self, a, out, dfkd):
        runs = [finished(a, trial(seed)) for seed in range(2)]
        teacher(a)
        code, said, _ = dfkd("merge", a, "--out", out, "--dry-run")
        assert (code, said) == (0, "2 trials would be copied, 1 teacher would be copied\n")
        told = dfkd("merge", a, "--out", out, "--dry-run", "--json").json
        assert told["trials"] == sorted(run.id for run in runs) and told["dry_run"] is True
        assert not out.exists()
        code, said, _ = dfkd("merge", a, "--out", out)
        assert code == 0 and said.startswith("2 trials copied, 1 teacher copied\n")
        assert f"`dfkd sync GRID --out {out}`" in said
        assert dfkd("merge", a, "--out", out)[1] == "0 trials copied, 2 there already\n"
        finished(out, trial(1), metrics={"top1": 2.0})
        before = snapshot(out)
        assert dfkd("merge", a, "--out", out, "--dry-run")[0] == 1 and snapshot(out) == before
