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

from harness.config import Budget, Trial
from harness.errors import DfkdError, DiskError
from harness.store.directory import Busy, Store, TrialDir
from harness.tasks.catalog import RECIPES


def make(seed: int = 0, **change: Any) -> Trial:
    fields: dict[str, Any] = {
        "task": "digits", "task_version": 1, "teacher": "wrn16_2", "student": "wrn16_1", "method": "cpsc",
        "method_version": 1, "settings": {"beta": 1.0}, "recipe": RECIPES["small"], "teacher_seed": 0,
        "budget": Budget(amount=10), "seed": seed, "label": "cpsc",
    }  # fmt: skip
    return Trial(**(fields | change))


@pytest.fixture
def run(tmp_path: Path) -> TrialDir:
    return TrialDir(tmp_path / "out", make())


def result(run: TrialDir) -> dict[str, Any]:
    return {"id": run.id, "metrics": {"top1": 90.0}, "warnings": []}


def test_a_trial_goes_from_missing_over_partial_to_done(run: TrialDir) -> None:
    assert run.status() == "missing" and not run.path.exists()
    with run.lock():
        run.prepare()
        assert run.status() == "missing"  # its own lock is nobody else's
        run.append({"point": 1, "top1": 50.0})
        (run.path / "checkpoint").mkdir()
        assert run.status() == "partial"
        run.finish(result(run))
    assert run.status() == "done" and run.result() == result(run)
    assert not (run.path / "checkpoint").exists()
    assert json.loads((run.path / "trial.json").read_text())["seed"] == 0
    assert not list(run.path.glob(".*"))


def test_a_lock_held_by_another_process_is_running_and_dies_with_it(run: TrialDir) -> None:
    with run.lock():
        pass
    code = (
        "import sys, time\nfrom filelock import FileLock\nlock = FileLock(sys.argv[1])\nlock.acquire()\n"
        "print('held', flush=True)\ntime.sleep(60)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, run.path / "lock"], stdout=subprocess.PIPE)
    try:
        assert other.stdout and other.stdout.readline() == b"held\n"
        assert run.status() == "running" and run.settled() == "missing"
        with pytest.raises(Busy, match="running elsewhere"), run.lock():
            pass
    finally:
        other.kill()
        other.wait()
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
    other = subprocess.Popen([sys.executable, "-c", probe, run.path / "lock"], stdout=subprocess.PIPE)
    try:
        assert other.stdout and other.stdout.readline() == b"on\n"
        for _ in range(30):
            with run.lock():
                pass
            time.sleep(0.005)
    finally:
        other.kill()
        other.wait()


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


def test_numbers_of_a_curve_come_back_exactly(run: TrialDir) -> None:
    run.prepare()
    row = {"point": 1, "top1": 0.1 + 0.2, "flops": 1.2345678901234567e17, "G/bn": float("inf")}
    run.append(row)
    assert run.curve() == [row]


@pytest.mark.parametrize(
    ("kind", "status"),
    [("method", "failed"), ("skip", "skipped"), ("killed", "partial"), ("infra", "partial")],
)
def test_failure_kinds_decide_whether_a_trial_runs_again(run: TrialDir, kind: Any, status: str) -> None:
    run.prepare()
    run.append({"point": 1})
    run.fail(kind, "loss is\nnot finite", "Traceback ...")
    assert run.status() == status
    assert run.failure() == {"kind": kind, "reason": "loss is not finite", "detail": "Traceback ..."}
    run.prepare()
    assert run.failure() is None and run.status() == "partial"


def test_killed_before_the_first_point_is_missing_with_a_reason(run: TrialDir) -> None:
    run.fail("infra", "node lost")
    assert run.status() == "missing" and (run.failure() or {})["reason"] == "node lost"


@pytest.mark.parametrize("text", ["", '{"id": "x', '{"id": "another", "metrics": {}}', "[]", "null"])
def test_a_damaged_result_is_run_again_and_says_so(run: TrialDir, text: str) -> None:
    run.prepare()
    (run.path / "result.json").write_text(text)
    assert run.result() is None and run.status() == "partial"
    assert "damaged" in (run.failure() or {})["reason"]
    run.finish(result(run))
    assert run.status() == "done" and run.failure() is None


def test_a_damaged_failure_counts_as_none(run: TrialDir) -> None:
    run.prepare()
    (run.path / "failure.json").write_text('{"kind": "meth')
    assert run.failure() is None and run.status() == "missing"


def test_a_kill_between_two_files_leaves_the_old_one_and_no_litter_for_long(run: TrialDir) -> None:
    run.prepare()
    (run.path / ".result.json.123.tmp").write_text('{"id"')
    assert run.status() == "missing"
    run.prepare()
    assert not list(run.path.glob(".*"))


def test_an_out_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = TrialDir(tmp_path / "file", make())
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


def test_the_source_reads_curves_by_key_and_samples(tmp_path: Path) -> None:
    dirs, trial = Store(tmp_path), make()
    assert dirs.samples(trial.id) is None and dirs.curve(trial) == []
    run = dirs.run(trial)
    run.prepare()
    run.append({"point": 1, "top1": 2.0, "agreement": 3.0})
    assert dirs.curve(trial, ["top1"]) == [{"point": 1, "top1": 2.0}]
    np.savez(run.path / "samples.npz", images=np.arange(4, dtype=np.uint8), y=np.array([7]))
    arrays = dirs.samples(trial.id)
    assert arrays is not None and arrays["images"].tolist() == [0, 1, 2, 3] and arrays["y"].tolist() == [7]
    assert dirs.predictions(trial.id) is None, "a trial of before there were any"
    run.write_arrays("predictions.npz", {"y": np.array([3, 1], np.uint8), "s": np.array([3, 2], np.uint8)})
    found = dirs.predictions(trial.id)
    assert found is not None and found["s"].tolist() == [3, 2] and found["y"].dtype == np.uint8
    assert not list(run.path.glob(".*"))
    (run.path / "samples.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(DfkdError, match=r"samples\.npz cannot be read"):
        dirs.samples(trial.id)
