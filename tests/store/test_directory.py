"""Trial directories: whole or not there, locked while they run, honest about what went wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import files
from harness.errors import DiskError
from harness.store.directory import Busy, Store, TrialDir
from tests import build
from tests.build import result, row, trial


@pytest.fixture
def run(tmp_path: Path) -> TrialDir:
    return TrialDir(tmp_path / "out", trial())


def test_a_trial_goes_from_missing_over_partial_to_done(run: TrialDir) -> None:
    assert run.status() == "missing" and not run.path.exists()
    with run.lock():
        run.prepare()
        assert run.status() == "missing"  # its own lock is nobody else's
        first = {"point": 1, "top1": 0.1 + 0.2, "flops": 1.2345678901234567e17, "G/bn": float("inf")}
        run.append(first)
        (run.path / "checkpoint").mkdir()
        assert run.status() == "partial"
        run.finish(result(run.trial))
    assert run.status() == "done" and run.result() == result(run.trial) and run.curve() == [first]
    assert not (run.path / "checkpoint").exists()
    assert json.loads((run.path / "trial.json").read_text())["seed"] == 0
    assert not list(run.path.glob(".*"))


def test_a_lock_held_by_another_process_is_running_and_dies_with_it(run: TrialDir) -> None:
    with run.lock():
        pass
    with build.holder(run):
        assert run.status() == "running" and run.settled() == "missing"
        with pytest.raises(Busy, match="running elsewhere"), run.lock():
            pass
    assert run.status() == "missing"
    with run.lock():
        assert TrialDir(run.path.parents[1], run.trial).status() == "running"


def test_a_probe_does_not_turn_a_runner_away(run: TrialDir) -> None:
    probe = (
        "import sys, time\nfrom filelock import FileLock\nprint('on', flush=True)\nend = time.time() + 2\n"
        "while time.time() < end:\n    FileLock(sys.argv[1]).acquire().lock.release()\n    time.sleep(0.001)"
    )
    with run.lock():
        pass
    command = [sys.executable, "-c", probe, run.path / "lock"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as other:
        assert other.stdout and other.stdout.readline() == b"on\n"
        for _ in range(30):
            with run.lock():
                pass
            time.sleep(0.005)
        other.kill()


@pytest.mark.parametrize("tail", ['{"point": 3, "to', '{"point": 3}', "\0\0\0\n", "[1]\n"])
def test_a_torn_line_is_ignored_and_never_swallows_the_next(run: TrialDir, tail: str) -> None:
    run.prepare()
    for point in (1, 2):
        run.append({"point": point, "top1": 1.5 * point})
    path = run.path / "curve.jsonl"
    path.write_text(path.read_text() + tail)
    assert [r["point"] for r in run.curve()] == [1, 2]
    if not tail.endswith("\n"):
        run.append({"point": 3, "top1": 7.0})
        assert run.curve()[1:] == [{"point": 2, "top1": 3.0}, {"point": 3, "top1": 7.0}]
    assert run.cut(2) == 2 and run.cut(5) == 2
    assert path.read_text() == '{"point": 1, "top1": 1.5}\n{"point": 2, "top1": 3.0}\n'


@pytest.mark.parametrize(
    ("kind", "status"),
    [("method", "failed"), ("skip", "skipped"), ("killed", "partial"), ("infra", "partial")],
)
def test_failure_kinds_decide_whether_a_trial_runs_again(run: TrialDir, kind: Any, status: str) -> None:
    run.fail(kind, "node lost")  # before the first point
    assert run.status() == {"partial": "missing"}.get(status, status)
    run.prepare()
    run.append({"point": 1})
    run.fail(kind, "loss is\nnot finite", "Traceback ...")
    assert run.status() == status
    assert run.failure() == {"kind": kind, "reason": "loss is not finite", "detail": "Traceback ..."}
    run.prepare()
    assert run.failure() is None and run.status() == "partial"


@pytest.mark.parametrize("text", ["", '{"id": "x', '{"id": "another", "metrics": {}}', "[]", "null"])
def test_a_damaged_result_is_run_again_and_says_so(run: TrialDir, text: str) -> None:
    run.prepare()
    (run.path / "result.json").write_text(text)
    found = run.look()
    assert found.result is None and found.status == "partial" and "damaged" in (found.failure or {})["reason"]
    run.finish(result(run.trial))
    assert run.status() == "done" and run.failure() is None


def test_a_kill_between_two_files_leaves_the_old_one_and_no_litter_for_long(run: TrialDir) -> None:
    run.prepare()
    (run.path / ".result.json.123.tmp").write_text('{"id"')
    (run.path / "failure.json").write_text('{"kind": "meth')  # damaged: as none
    assert run.status() == "missing" and run.failure() is None
    run.prepare()
    assert not list(run.path.glob(".*"))


def test_an_out_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = TrialDir(tmp_path / "file", trial())
    assert run.status() == "missing"
    for act in (run.prepare, lambda: run.fail("killed", "x"), lambda: run.lock().__enter__()):
        with pytest.raises(DiskError, match=r"cannot write .*file.*: Not a directory"):
            act()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_clear_line(run: TrialDir) -> None:
    run.prepare()
    (run.path / "curve.jsonl").symlink_to("/dev/full")
    with pytest.raises(DiskError, match=r"curve\.jsonl: No space left on device"):
        run.append({"point": 1})


def test_one_look_says_all_and_reads_each_file_once(run: TrialDir, monkeypatch: pytest.MonkeyPatch) -> None:
    with run.lock():
        run.prepare()
        run.warn(["blur: early"])
        assert run.look().warnings == ("blur: early",)
        run.fail("killed", "node lost")
        other = TrialDir(run.path.parents[1], run.trial)
        assert other.look().status == "running" and other.look().failure is None
        assert (other.look(live=False).failure or {})["reason"] == "node lost"
        run.finish(result(run.trial, warnings=["blur: late"]))
    asked: list[str] = []
    read = files.read_json
    monkeypatch.setattr(files, "read_json", lambda path: asked.append(path.name) or read(path))  # type: ignore[func-returns-value]
    found = run.look()
    assert (found.status, found.failure, found.warnings) == ("done", None, ("blur: late",))
    assert found.result == result(run.trial, warnings=["blur: late"]) and asked == ["result.json"]


def test_a_directory_is_read_by_its_path_alone(tmp_path: Path) -> None:
    made = build.finished(tmp_path, trial(3))
    run = TrialDir.at(made.path)
    assert run.id == made.id and run.look() == made.look() and run.curve() == made.curve()
    assert run.trial == made.trial
    told = json.loads((run.path / "trial.json").read_text())
    for change, complaint in [({"later": 1}, "is damaged: later"), ({"seed": 4}, "describes trial")]:
        (run.path / "trial.json").write_text(json.dumps(told | change))
        again = TrialDir.at(made.path)
        assert again.status() == "done", "what another version wrote"
        build.refused(lambda again=again: again.trial, f"trial.json {complaint}")
    build.refused(lambda: TrialDir.at(tmp_path / "nowhere").trial, "trial.json cannot be read")


def test_the_store_reads_curves_and_arrays(tmp_path: Path) -> None:
    dirs, of = Store(tmp_path), trial()
    assert dirs.samples(of.id) is None and dirs.curve(of) == [] and dirs.look(of).status == "missing"
    run = dirs.run(of)
    run.prepare()
    run.append(row(1, top1=2.0))
    assert dirs.curve(of) == [row(1, top1=2.0)]
    np.savez(run.path / "samples.npz", images=np.arange(4, dtype=np.uint8), y=np.array([7]))
    arrays = dirs.samples(of.id)
    assert arrays is not None and arrays["images"].tolist() == [0, 1, 2, 3] and arrays["y"].tolist() == [7]
    assert dirs.predictions(of.id) is None, "a trial of before there were any"
    run.write_arrays("predictions.npz", {"y": np.array([3, 1], np.uint8), "s": np.array([3, 2], np.uint8)})
    found = dirs.predictions(of.id)
    assert found is not None and found["s"].tolist() == [3, 2] and found["y"].dtype == np.uint8
    assert not list(run.path.glob(".*"))
    (run.path / "samples.npz").write_bytes(b"PK\x03\x04 torn")
    build.refused(lambda: dirs.samples(of.id), "samples.npz cannot be read")
