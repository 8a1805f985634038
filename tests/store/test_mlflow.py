"""MLflow is a view: equal to the directories after a sync, whatever was killed, doubled, late or long."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from harness.config import Trial
from harness.errors import DfkdError
from harness.store import mlflow_record
from harness.store.directory import Store, TrialDir
from harness.store.frame import curves, frame
from harness.store.mlflow_place import Place, resolve_uri
from harness.store.mlflow_runs import Download, Ledger
from harness.store.mlflow_tracker import Tracker, needs_sync
from tests import build

LONG = "mode collapse in class “7”: " + "x" * 9000 + "\n\0end"


def make(seed: int = 0) -> Trial:
    settings = {"beta": 1.0, "cfe_layers": "full"}
    return build.trial(seed, method="no_such", settings=settings, label="cpsc - bn")


def row(point: int, **more: float) -> dict[str, Any]:
    return build.row(point, top1=100 / 7 * point, flops=1.1e17 / 3 * point) | more


def result(trial: Trial, **more: Any) -> dict[str, Any]:
    return build.result(
        trial,
        metrics={"top1": 100 / 3, "agreement": 1, "fd.é~": 2 / 3, "kid_100_test": -1e-300} | more,
        unavailable={"fid_100_test": "no weights: " + LONG},
        warnings=[LONG, "second"],
        spend={"student_updates": 2**40 + 1, "flops": 1.23456789012345678e18},
        cost={"seconds": 0.1 + 0.2, "peak_memory_mb": None},
        provenance={"threads": 2, "torch": "2.9"},
    )


def write(out: Path, trial: Trial, points: int, finish: bool = True, **more: Any) -> TrialDir:
    run = TrialDir(out, trial)
    with run.lock():
        run.prepare()
        run.cut(0)
        for point in range(1, points + 1):
            run.append(row(point, **{"G/bn": 1 / point, "S/L_{SCL}": math.nan, "S/inf": math.inf}))
        if finish:
            run.write_arrays("samples.npz", {"images": np.full((2, 1, 2, 2), 7, np.uint8)})
            run.write_arrays("predictions.npz", {"y": np.arange(3, dtype=np.uint8), "s": np.eye(3)[0]})
            run.finish(result(trial, **more))
    return run


def tracking(out: Path, *trials: Trial, uri: str | None = None) -> Tracker:
    """A tracker that was told that these trials run."""
    tracker = Tracker(uri, out, "grid")
    tracker.open()
    for trial in trials:
        tracker.start(trial)
    return tracker


def ledger(out: Path) -> Ledger:
    return Ledger(Place(resolve_uri(None, out), out, "grid")).open()


def view(out: Path) -> Download:
    return Download(resolve_uri(None, out), "grid")


def assert_equal(trials: list[Trial], out: Path) -> None:
    dirs, there = Store(out), view(out)
    pd.testing.assert_frame_equal(frame(trials, dirs), frame(trials, there), check_exact=True)
    pd.testing.assert_frame_equal(curves(trials, dirs), curves(trials, there), check_exact=True)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a fresh database and one empty experiment; making it takes seconds.

    Somebody was killed while he made one there before.
    """
    out = tmp_path_factory.mktemp("store with space")
    (out / ".mlflow.db.tmp").write_bytes(b"half a database")
    (out / ".mlflow.db.tmp-journal").write_bytes(b"half a journal")
    ledger(out)
    assert (out / "mlflow.db").exists() and not list(out.glob(".*"))
    return out


@pytest.fixture
def out(base: Path, tmp_path: Path) -> Path:
    """The same, for one test alone; its artifacts go where the database was made."""
    copy = tmp_path / "out"
    copy.mkdir()
    for name in ("mlflow.db", "tracking.json"):
        shutil.copy(base / name, copy / name)
    known = (copy / "tracking.json").read_text()
    (copy / "tracking.json").write_text(known.replace(str(base), str(copy)))
    return copy


def client(out: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(resolve_uri(None, out))


def recorded(out: Path) -> list[Any]:
    found = client(out).get_experiment_by_name("grid")
    return list(client(out).search_runs([found.experiment_id]))


def histories(out: Path, key: str) -> list[dict[int, float]]:
    """Step -> value logged last, of each run."""
    logged = [client(out).get_metric_history(run.info.run_id, key) for run in recorded(out)]
    return [{m.step: m.value for m in sorted(each, key=lambda m: m.timestamp)} for each in logged]


def local(uri: str) -> Path:
    """The folder of a file URI."""
    return Path(unquote(urlsplit(uri).path))


def sync(out: Path, trials: list[Trial]) -> tuple[int, int, int, int]:
    done = Tracker(None, out, "grid").sync(trials, Store(out))
    return done.created, done.completed, done.removed, done.unchanged


# --- the record, without MLflow -----------------------------------------------------------------


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=40))
@example("a//b")
@example("/a")
@example("..")
@example("fid:41")
@example("final/x")
def test_any_name_survives_as_a_key(name: str) -> None:
    key = mlflow_record.curve_key(name)
    back = re.sub(rb":([0-9A-F]{2})", lambda m: bytes([int(m.group(1), 16)]), key.encode())
    assert back.decode() == name
    assert set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-. :/")
    assert os.path.normpath(key or "x") == (key or "x") and not key.startswith(("/", "final/"))


def test_the_last_value_of_a_step_counts() -> None:
    assert mlflow_record.latest([(5, 1, 0.25), (3, 1, 0.75), (3, 2, 9.0)]) == {1: 0.25, 2: 9.0}
    assert mlflow_record.latest([(1, 1, -sys.float_info.max)]) == {1: -math.inf}  # so MLflow keeps it


def test_passwords_are_shown_to_nobody(tmp_path: Path) -> None:
    place = Place("postgresql://me:se:cret@db/x", tmp_path, "grid")
    place.remember("1")
    assert "cret" not in (tmp_path / "tracking.json").read_text()


@pytest.mark.parametrize("uri", ["file:/tmp/runs", "./mlruns", "ftp://x", ""])
def test_a_place_that_mlflow_cannot_use_is_one_clear_line(uri: str, tmp_path: Path) -> None:
    build.refused(lambda: Tracker(uri, tmp_path, "grid"), f"tracking URI '{uri}' is none of sqlite, ", "http")


# --- frames ---------------------------------------------------------------------------------------


def test_a_frame_holds_what_the_directory_says(tmp_path: Path) -> None:
    trials = [make(s) for s in range(5)]
    for t, points in zip(trials[:2], (20, 1), strict=True):
        write(tmp_path, t, points)
    write(tmp_path, trials[2], 3, finish=False).fail("method", "loss is not finite")
    write(tmp_path, trials[3], 3, finish=False)
    got = frame(trials, Store(tmp_path), stale=lambda t, p: f"{t.seed} {p['torch']}")
    assert got["status"].tolist() == ["done", "done", "failed", "partial", "missing"]
    assert got["reason"].tolist() == ["", "", "loss is not finite", "", ""]
    assert got["stale"].tolist() == ["0 2.9", "1 2.9", "", "", ""]
    one = got.iloc[0]
    # top1 is 100 / 7 * 1..20: tail = mean of 19 and 20, mean 10.5, variance of 1..20 is 35
    want = {"top1_tail": 19.5, "top1_mean": 10.5, "top1_std": math.sqrt(35), "top1_oracle": 20}
    for name, value in want.items():
        assert one[name] == pytest.approx(100 / 7 * value, rel=1e-12)
    assert one["top1"] == 100 / 3 and one["student_updates"] == 2**40 + 1 and one["threads"] == 2.0
    assert math.isnan(one["peak_memory_mb"]) and math.isnan(one["fid_100_test"])
    assert json.loads(one["unavailable"]).keys() == {"fid_100_test"}
    assert one["budget"] == "10:rounds" and json.loads(one["settings"])["beta"] == 1.0
    assert math.isnan(got.iloc[1]["top1_std"]) and got.iloc[1]["top1_tail"] == 100 / 7
    assert got.iloc[2:][["top1", "top1_mean", "rounds", "seconds"]].isna().all(axis=None)
    numeric = got.drop(columns=["seed", "teacher_seed", "reference", "control"]).select_dtypes("number")
    assert set(numeric.dtypes) == {np.dtype("float64")} and not got["reference"].any()
    table = curves(trials, Store(tmp_path))
    assert table.groupby("seed")["point"].max().to_dict() == {0: 20, 1: 1, 2: 3, 3: 3}
    assert table.columns.tolist()[:4] == ["id", "variant", "seed", "point"]
    assert table["G/bn"].tolist()[:2] == [1.0, 0.5]


def test_a_metric_that_a_grid_asks_for_and_a_trial_lacks_has_a_reason(tmp_path: Path) -> None:
    trials = [make(s) for s in range(2)]
    write(tmp_path, trials[0], 2)
    got = frame(trials, Store(tmp_path), asked=("corruption", "fid", "top1"))
    told = json.loads(got["unavailable"][0])
    assert told.keys() == {"corruption", "fid_100_test"} and "`dfkd measure`" in told["corruption"]
    assert math.isnan(got["corruption"][0]) and got["unavailable"][1] == ""


def test_frames_of_nothing_have_their_columns(tmp_path: Path) -> None:
    for trials in ([], [make()]):
        assert {"id", "status", "top1_tail", "commit", "stale"} <= set(frame(trials, Store(tmp_path)).columns)
        assert curves(trials, Store(tmp_path)).empty


# --- the view -------------------------------------------------------------------------------------


def test_sync_gives_equal_frames_and_then_has_nothing_to_do(out: Path) -> None:
    trials, dirs = [make(s) for s in range(6)], Store(out)
    write(out, trials[0], 12)
    write(out, trials[1], 3, finish=False).fail("method", LONG, "detail")
    TrialDir(out, trials[2]).fail("skip", "no BatchNorm")
    write(out, trials[3], 2, finish=False)
    TrialDir(out, trials[4]).fail("infra", "node lost")
    assert needs_sync(trials, dirs, None, "grid")
    assert sync(out, trials) == (5, 0, 0, 0)  # nobody ran the last
    assert_equal(trials, out)
    statuses = {r.data.tags["trial_id"]: r.info.status for r in recorded(out)}
    assert [statuses.get(t.id) for t in trials] == ["FINISHED", "FAILED", "FAILED", "KILLED", "KILLED", None]
    assert not needs_sync(trials, dirs, None, "grid") and sync(out, trials) == (0, 0, 0, 5)
    there = view(out)
    arrays = there.samples(trials[0].id)
    assert arrays is not None and arrays["images"].tolist() == dirs.samples(trials[0].id)["images"].tolist()  # type: ignore[index]
    told, seen = dirs.predictions(trials[0].id), there.predictions(trials[0].id)
    assert told and seen and all((told[k] == seen[k]).all() and told[k].dtype == seen[k].dtype for k in "ys")
    for id in (trials[1].id, "x"):
        assert there.samples(id) is None and there.predictions(id) is None
    assert there.look(trials[0]) == dirs.look(trials[0])
    assert there.curve(trials[0])[1]["top1"] == 100 / 7 * 2
    folder = there.out
    del there
    assert not folder.exists(), "what was fetched goes with who asked"
    TrialDir(out, trials[0]).finish(result(trials[0], fd_teacher=0.5))  # measured again
    write(out, trials[3], 4)  # and this one was resumed
    assert needs_sync(trials, dirs, None, "grid") and sync(out, trials) == (0, 2, 0, 3)
    assert_equal(trials, out)
    assert len(recorded(out)) == 5


def test_runs_come_in_pages_and_each_file_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow
    from mlflow import artifacts

    trials = [make(s) for s in range(3)]
    for points, trial in enumerate(trials[:2], 1):
        write(out, trial, points)
    write(out, trials[2], 2, finish=False)
    sync(out, trials)
    want = frame(trials, Store(out)), curves(trials, Store(out))
    asked, there = Counter[str](), view(out)

    def count(home: Any, name: str) -> None:
        call = getattr(home, name)
        monkeypatch.setattr(home, name, lambda *args, **more: asked.update([name]) or call(*args, **more))

    for name in ("search_runs", "get_run", "get_metric_history"):
        count(mlflow.MlflowClient, name)
    for name in ("list_artifacts", "download_artifacts"):
        count(artifacts, name)
    monkeypatch.setattr("harness.store.mlflow_runs._PAGE", 2)
    for _ in range(2):
        pd.testing.assert_frame_equal(frame(trials, there), want[0], check_exact=True)
        pd.testing.assert_frame_equal(curves(trials, there), want[1], check_exact=True)
        assert asked == {"search_runs": 2, "download_artifacts": 5}  # no samples: nobody asked for them


def test_a_file_that_was_lost_there_is_one_clear_line(out: Path) -> None:
    trial = make()
    write(out, trial, 1)
    sync(out, [trial])
    shutil.rmtree(local(recorded(out)[0].info.artifact_uri))
    with pytest.raises(DfkdError, match=rf"cannot give (result.json|curve.jsonl) of trial {trial.id}: .*"):
        frame([trial], view(out))


def test_a_tracked_trial_needs_no_sync(out: Path) -> None:
    trial, left, dirs = make(), make(1), Store(out)
    tracker = tracking(out, trial, left)
    for point in range(1, 4):
        tracker.point(trial, row(point))
    run = write(out, trial, 3)
    tracker.end(trial, "FINISHED")
    tracker.close()
    assert not tracker.failed and not needs_sync([trial], dirs, None, "grid")
    assert json.loads((run.path / "synced.json").read_text())
    assert_equal([trial], out)
    found, open_ = sorted(recorded(out), key=lambda each: each.info.status)
    assert (open_.data.tags["trial_id"], open_.info.status) == (left.id, "KILLED"), "close() ends it"
    assert found.info.status == "FINISHED" and found.info.run_name == trial.cell
    assert found.data.params["settings/beta"] == "1.0" and found.data.params["budget"] == "10:rounds"
    (out / "mlflow.db").unlink()
    assert needs_sync([trial], dirs, None, "grid")


def test_a_resumed_trial_keeps_its_run_and_its_last_values(out: Path) -> None:
    trial = make()
    for attempt in (1, 2):
        tracker = tracking(out, trial)
        for point in range(1, 6):
            tracker.point(trial, row(point, seconds=100.0 * attempt + point))
        if attempt == 1:
            write(out, trial, 2, finish=False)  # killed: three points were never on disk
        else:
            assert TrialDir(out, trial).cut(2) == 2
            with TrialDir(out, trial).lock():
                for point in range(3, 6):
                    TrialDir(out, trial).append(row(point, seconds=7.0))
                TrialDir(out, trial).finish(result(trial))
        tracker.end(trial, "KILLED")
        tracker.close()
        assert_equal([trial], out)
    [found] = recorded(out)
    assert found.info.status == "FINISHED"
    [history] = histories(out, "seconds")
    assert history == {1: 0.5, 2: 1.0, 3: 7.0, 4: 7.0, 5: 7.0}


def test_a_clock_that_was_set_back_does_not_bring_old_values_to_life(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial, now = make(), time.time()
    write(out, trial, 2)
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: now + 3600)
        sync(out, [trial])
    TrialDir(out, trial).finish(result(trial, top1=1.0))
    sync(out, [trial])
    assert [r.data.metrics["final/top1"] for r in recorded(out)] == [1.0]
    assert histories(out, "final/top1") == [{0: 1.0}]


def test_sync_ends_zombies_removes_doubles_and_leaves_the_living_alone(out: Path) -> None:
    dead, live, gone = make(0), make(1), make(2)
    made = ledger(out)
    write(out, dead, 2)
    for trial in (dead, live, gone):
        made.begin(trial)
    made.create(dead)
    TrialDir(out, gone).path.mkdir(parents=True)
    with TrialDir(out, live).lock():
        assert not needs_sync([live], Store(out), None, "grid")
        assert sync(out, [dead]) == (0, 1, 1, 0)  # the others may be another grid's
        status = {r.data.tags["trial_id"]: r.info.status for r in recorded(out)}
        assert status == {dead.id: "FINISHED", live.id: "RUNNING", gone.id: "KILLED"}
        assert view(out).look(live).status == Store(out).look(live).status == "running"
    assert sync(out, [dead, live])[3] == 1
    assert {r.info.status for r in recorded(out)} == {"FINISHED", "KILLED"}
    assert len(recorded(out)) == 3


def test_a_trial_run_again_keeps_its_run_and_people_s_tags_and_forgets_its_failure(out: Path) -> None:
    trial = make()
    write(out, trial, 2, finish=False).fail("method", LONG)
    sync(out, [trial])
    before = recorded(out)[0].info
    client(out).set_tag(before.run_id, "mine", "good")
    run = write(out, trial, 3, finish=False)  # again, and killed
    sync(out, [trial])
    [now] = recorded(out)
    assert now.info.run_id == before.run_id
    assert now.data.tags["mine"] == "good" and "failure" not in now.data.tags
    assert (local(before.artifact_uri) / "failure.json").exists(), "MLflow forgets no file"
    assert view(out).look(trial) == run.look()
    assert_equal([trial], out)


def test_an_unreachable_server_is_one_line_and_no_delay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    uri, trial = "http://127.0.0.1:9", make()
    before = time.monotonic()
    tracker = tracking(tmp_path, trial, uri=uri)
    write(tmp_path, trial, 1)
    tracker.end(trial, "FINISHED")
    assert time.monotonic() - before < 0.5
    tracker.close()
    tracker.point(trial, row(1))
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"MLflow at {uri} is unreachable: ")
    assert lines[0].endswith("trials go on, run `dfkd sync` later")
    assert needs_sync([trial], Store(tmp_path), uri, "grid")
    build.refused(lambda: tracker.sync([trial], Store(tmp_path)), "is unreachable")
    build.refused(lambda: frame([trial], Download(uri, "grid")), "is unreachable")


def test_a_server_that_hangs_is_left_after_the_wait(
    out: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "open", lambda self: time.sleep(1))
    tracking(out).close(wait=0.05)
    assert "not done after 0.05 s" in capfd.readouterr().err


def test_reading_from_nowhere_is_one_clear_line(out: Path, tmp_path: Path) -> None:
    nowhere = Download(f"sqlite:///{tmp_path}/absent.db", "grid")
    other = Download(resolve_uri(None, out), "other")
    build.refused(lambda: frame([make()], nowhere), "no MLflow database ", "absent.db")
    build.refused(lambda: frame([make()], other), "has no experiment 'other'")
