"""Scheduling: what is missing runs once, failures land where they belong, nothing is lost or hangs."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import pytest

from harness.config import Trial
from harness.errors import DfkdError, DiskError, Diverged, Interrupted, Skipped
from harness.interface import Method
from harness.schedule import preflight
from harness.schedule.attempt import blame
from harness.schedule.board import Summary
from harness.schedule.preflight import Site, import_path
from harness.schedule.progress import Progress, duration
from harness.schedule.run import run_trials
from harness.store.directory import TrialDir
from tests.build import holder, refused
from tests.schedule.noop_trial import calls, errand, make

ROOT = Path(__file__).parents[2]


def go(trials: list[Trial], out: Path, **options: Any) -> Summary:
    options = {"workers": 0} | options
    return run_trials(trials, errand(out, options.pop("gpus", 0.0)), **options)


def tries(out: Path, trials: list[Trial]) -> list[int]:
    return [len(calls(TrialDir(out, t))) for t in trials]


def diary() -> Mock:
    """A tracker that keeps what it is told, and cannot be pickled, as a real one."""
    return Mock(spec_set=["open", "start", "point", "end", "close", "lock"], lock=threading.Lock())


# --- what is run --------------------------------------------------------------------------------


def test_only_what_is_missing_runs_and_one_id_under_two_labels_once(tmp_path: Path) -> None:
    trials = [make(0), make(1), make(0).model_copy(update={"label": "another row"})]
    first = go(trials, tmp_path)
    again = go([*trials, make(2)], tmp_path)
    assert (len(first.done), first.ran) == (2, 2)
    assert (len(again.done), again.ran) == (3, 1)
    assert go(trials, tmp_path).ran == 0
    assert tries(tmp_path, [*trials, make(2)]) == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("do", "status", "kind", "reason"),
    [
        ("diverge", "failed", "method", "loss of 'G' is not finite in round 3: bn"),
        ("bug", "failed", "method", "KeyError: 'no such thing'"),
        ("skip", "skipped", "skip", "the teacher has no BatchNorm"),
        ("disk", "open", "infra", "OSError: [Errno 28] No space left on device"),
        ("missing data", "open", "infra", "cifar10 is not in None"),
    ],
)
def test_a_failure_is_recorded_with_its_reason_and_the_others_run(
    tmp_path: Path, do: str, status: str, kind: str, reason: str
) -> None:
    bad, good = make(0, do=do), make(1)
    summary = go([bad, good], tmp_path)
    assert getattr(summary, status) == (bad,) and summary.done == (good,)
    failure = TrialDir(tmp_path, bad).failure()
    assert failure and (failure["kind"], failure["reason"]) == (kind, reason)
    assert "noop_trial.py" in failure["detail"]  # the traceback
    go([bad, good], tmp_path)
    assert tries(tmp_path, [bad, good]) == [2 if status == "open" else 1, 1]


def test_retry_runs_failed_and_skipped_trials_again_from_nothing(tmp_path: Path) -> None:
    trials = [make(0, do="diverge"), make(1, do="skip"), make(2)]
    go(trials, tmp_path)
    left = TrialDir(tmp_path, trials[0]).path / "checkpoint"
    left.mkdir()
    summary = go(trials, tmp_path, retry=("failed",))
    assert tries(tmp_path, trials) == [2, 2, 1] and summary.ran == 2
    assert not left.exists()


def test_a_plain_error_inside_a_method_is_the_methods_and_outside_the_machines() -> None:
    class Refuses(Method):
        def __init__(self) -> None:
            pass

        def synthesize(self) -> Any:
            raise DfkdError("'G' has nothing to minimise")

        distill = sample = synthesize

    with pytest.raises(DfkdError) as inside:
        Refuses().synthesize()
    with pytest.raises(DfkdError) as outside:
        raise DfkdError("no data")
    assert blame(inside.value) == "method" and blame(outside.value) == "infra"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Diverged("nan"), "method"),
        (ValueError("shapes"), "method"),
        (MemoryError(), "infra"),
        (DiskError("cannot write checkpoint"), "infra"),
        (Interrupted("checkpoint cannot be read"), "infra"),
        (Skipped("no BatchNorm"), "skip"),
        (type("Skipped", (ValueError,), {})("a stranger's class of that name"), "method"),
        (PermissionError(13, "Permission denied"), "infra"),
        (RuntimeError("[enforce fail at inline_container.cc:603] . PytorchStreamWriter failed"), "infra"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "infra"),
    ],
)
def test_whose_failure_it_is(error: Exception, kind: str) -> None:
    assert blame(error) == kind


def test_a_teacher_is_made_once_and_its_failure_stops_its_trials_alone(tmp_path: Path) -> None:
    trials = [make(0), make(1), make(2, teacher="lenet5"), make(3, teacher="resnet18")]
    summary = go(trials, tmp_path)
    assert summary.done == (trials[0], trials[1], trials[3]) and summary.open == (trials[2],)
    made = (tmp_path / "teachers" / "trained.txt").read_text().split()[::2]
    assert made == ["wrn16_2", "resnet18"]
    failure = TrialDir(tmp_path, trials[2]).failure()
    assert failure and failure["kind"] == "infra"
    assert failure["reason"].startswith("no teacher: teacher lenet5 on digits: accuracy 10.00")


def test_the_tracker_hears_of_every_trial_and_is_closed(tmp_path: Path) -> None:
    told, quiet = diary(), diary()
    a, b, c = make(0, points=2), make(1, do="diverge"), make(2, do="disk")
    go([a, b, c], tmp_path, tracker=told)
    first, second = TrialDir(tmp_path, a).curve()
    assert told.mock_calls == [
        call.open(), call.start(a), call.point(a, first), call.point(a, second), call.end(a, "FINISHED"),
        call.start(b), call.end(b, "FAILED"), call.start(c), call.end(c, "KILLED"), call.close(),
    ]  # fmt: skip
    go([a], tmp_path, tracker=quiet)
    assert not quiet.mock_calls, "nothing ran"


# --- other processes ----------------------------------------------------------------------------


@pytest.mark.parametrize("n", [1, 2])
def test_a_trial_that_a_dying_worker_still_holds_is_waited_for(tmp_path: Path, n: int) -> None:
    """The driver was killed, its last workers let go a moment later, whether or not others were open."""
    trials = [make(i) for i in range(n)]
    with holder(TrialDir(tmp_path, trials[0]), 0.5):
        summary = go(trials, tmp_path)
    assert summary.done == tuple(trials) and summary.ran == n


def test_a_trial_that_somebody_holds_is_reported_and_left_alone(tmp_path: Path) -> None:
    trials = [make(0), make(1)]
    with holder(TrialDir(tmp_path, trials[0])):
        summary = go(trials, tmp_path, grace=0.3)
    assert summary.busy == (trials[0],) and summary.done == (trials[1],)
    assert tries(tmp_path, trials) == [0, 1] and TrialDir(tmp_path, trials[0]).failure() is None


def driver(out: Path, trials: str, **options: Any) -> subprocess.Popen[str]:
    """Another driver, in a session of its own; ``trials`` is Python for the list of them."""
    code = (
        "import sys; from pathlib import Path; from harness.schedule.run import run_trials\n"
        "from harness.schedule.progress import Progress\n"
        "from tests.schedule.noop_trial import *\n"
        f"trials = {trials}\n"
        f"print(run_trials(trials, errand({str(out)!r}), progress=Progress(), **{options!r}))\n"
        "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 'torch' in sys.modules)"
    )
    return python(code)


def python(code: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def test_two_drivers_at_once_run_no_trial_twice(tmp_path: Path) -> None:
    drivers = [driver(tmp_path, "[make(i, nap=0.05) for i in range(8)]", workers=0) for _ in range(2)]
    for process in drivers:
        out, err = process.communicate(timeout=60)
        assert out.startswith("8 done\n"), err
    assert tries(tmp_path, [make(i, nap=0.05) for i in range(8)]) == [1] * 8


def test_ctrl_c_ends_the_run_and_the_next_one_goes_on(tmp_path: Path) -> None:
    trials = [make(0), make(1, do="ctrl-c"), make(2)]
    summary = go(trials, tmp_path)
    assert summary.interrupted and summary.done == (trials[0],) and summary.open == (trials[1], trials[2])
    assert str(summary) == "interrupted: 1 done, 2 to be run again; the same command goes on from here"
    failure = TrialDir(tmp_path, trials[1]).failure()
    assert failure and failure["kind"] == "killed" and "Ctrl-C" in failure["reason"]
    assert TrialDir(tmp_path, trials[2]).failure() is None


# --- before anything starts ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"workers": -1}, "--workers -1"),
        ({"gpus": 1.5}, "--gpus-per-trial 1.5"),
        ({"gpus": -0.5}, "--gpus-per-trial -0.5"),
        ({"workers": 0, "address": "auto"}, "--address auto"),
        ({"workers": 1, "address": "ray://head:10001"}, "Ray Client is not supported"),
        ({"workers": 1, "address": "127.0.0.1:1"}, "--address 127.0.0.1:1: no Ray cluster answers"),
        ({"workers": 1, "address": "nonsense"}, "--address nonsense: no Ray cluster answers"),
        ({"retry": ("faild",)}, "did you mean 'failed'"),
    ],
)
def test_impossible_options_are_refused_in_one_line(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    refused(lambda: go([make(0)], tmp_path, **options), told)
    assert tries(tmp_path, [make(0)]) == [0]


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "room"),
    [
        ([{"CPU": 8}, {"CPU": 3}], 2, 0, 4 + 1),
        ([{"CPU": 16, "GPU": 2}], 1, 0.6, 2),  # a share never spans two GPUs
        ([{"CPU": 16, "GPU": 2}], 1, 1 / 3, 6),
        ([{"CPU": 16, "GPU": 2}], 8, 1 / 3, 2),  # the CPUs are the limit
        ([{"CPU": 16, "GPU": 5}, {"CPU": 16}], 1, 2, 2),
        ([{"CPU": 2}], 1, 1, "--gpus-per-trial 1: this machine has no GPU"),
        ([{"CPU": 2}, {"CPU": 2}], 1, 1, "--gpus-per-trial 1: none of the 2 nodes has a GPU"),
        ([{"CPU": 2, "GPU": 1}], 1, 2, "--gpus-per-trial 2: this machine has 1 GPU"),
        ([{"CPU": 2}, {"CPU": 4}], 5, 0, "cpus_per_trial 5: the largest node has 4 CPUs"),
        ([{"CPU": 8}, {"CPU": 2, "GPU": 1}], 4, 1, "no node has 4 CPUs and 1 GPUs together"),
    ],
)
def test_how_many_trials_fit_or_why_none_does(
    nodes: list[dict[str, float]], cpus: int, gpus: float, room: int | str
) -> None:
    if isinstance(room, int):
        assert preflight.slots(nodes, cpus, gpus) == room
    else:
        with pytest.raises(DfkdError, match=f"^{re.escape(room)}$"):
            preflight.slots(nodes, cpus, gpus)


def test_a_node_that_sees_another_folder_is_named(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    sites, foreign = [Site("--out", here, True)], [Site("--out", there, True)]
    preflight.visible(sites, ["a"], lambda i, token: preflight.seen_from_here(sites, token, str(i)))
    assert not list(here.iterdir())

    def second_elsewhere(i: int, token: str) -> str | None:
        return preflight.seen_from_here(sites if i == 0 else foreign, token, str(i))

    unshared = ("node b does not share the driver's files: --out ", "there: No such")
    refused(lambda: preflight.visible(sites, ["a", "b"], second_elsewhere), *unshared)
    unseen = "what it writes there is not seen here"
    refused(lambda: preflight.visible(sites, ["a"], lambda i, token: None), unseen)
    assert not list(here.iterdir())


def test_workers_get_the_drivers_folders_but_not_its_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    assert import_path()[0] == str(tmp_path)
    assert os.path.dirname(os.__file__) not in import_path()


# --- progress -----------------------------------------------------------------------------------


def test_the_eta_counts_points_of_the_whole_grid() -> None:
    now = [100.0]
    text = io.StringIO()
    progress = Progress(text, clock=lambda: now[0])
    a, b = make(0, points=10), make(1, points=10)
    progress.plan({a.id: 1.0, b.id: 0.5})  # b was half done before
    assert progress.remaining() is None
    progress.begin(a)
    now[0] += 20.0
    progress.point(a, {"point": 5})
    assert progress.remaining() == pytest.approx(40.0)  # half a trial in 20 s, one left
    progress.point(a, {"point": 3})  # points that a kill made it do twice
    assert progress.remaining() == pytest.approx(40.0)
    progress.end(a, "done", "top1 90.00")
    assert progress.remaining() == pytest.approx(10.0)
    assert text.getvalue() == f"[1/2] done    {a.cell}  top1 90.00  (about 10 s left)\n"


def test_the_bar_shows_trials_and_names_those_without_a_number() -> None:
    text = io.StringIO()
    progress = Progress(text, bar=True)
    progress.plan({make(0).id: 1.0, make(1).id: 1.0})
    progress.end(make(0), "done", "top1 90.00")
    progress.end(make(1), "failed", "[bold] is no markup")
    progress.close()
    assert "[bold] is no markup" in text.getvalue() and "top1 90.00" not in text.getvalue()


def test_durations() -> None:
    assert [duration(s) for s in (44.6, 90, 3599, 11100)] == ["45 s", "2 min", "1 h 00 min", "3 h 05 min"]


# --- Ray ----------------------------------------------------------------------------------------


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_ray_runs_a_grid_and_keeps_quiet(
    ray: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    does = ["", "diverge", "skip", "", "die, ", "disk, die"]
    trials = [make(i, do=do, points=2) for i, do in enumerate(does)] + [make(6, teacher="lenet5")]
    tracker = diary()
    summary = go(trials, tmp_path, workers=2, tracker=tracker)
    assert summary.done == (trials[0], trials[3], trials[4]) and summary.open == (trials[5], trials[6])
    assert summary.failed == (trials[1],) and summary.skipped == (trials[2],)
    # the method's own failures are not tried again, the machine's are, twice
    assert tries(tmp_path, trials) == [1, 1, 1, 1, 2, 3, 0]
    pid, _, device, threads = calls(TrialDir(tmp_path, trials[0]))[0].split(" ")
    assert int(pid) != os.getpid() and (device, threads) == ("cpu", "1")
    killed, untaught = TrialDir(tmp_path, trials[5]).failure(), TrialDir(tmp_path, trials[6]).failure()
    assert killed and (killed["kind"], killed["reason"]) == ("killed", "its worker process was killed")
    assert untaught and untaught["reason"].startswith("no teacher: teacher lenet5 on digits: accuracy")
    ends = {end.args[0].seed: end.args[1] for end in tracker.end.mock_calls}
    assert [ends[i] for i in range(6)] == ["FINISHED", "FAILED", "FAILED", "FINISHED", "FINISHED", "KILLED"]
    whole = trials[0]
    assert [each for each in tracker.mock_calls if each.args[:1] == (whole,)] == [
        call.start(whole), *[call.point(whole, row) for row in TrialDir(tmp_path, whole).curve()],
        call.end(whole, "FINISHED"),
    ]  # fmt: skip
    assert sorted(os.listdir(tmp_path)) == ["teachers", "trials"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.ray
@pytest.mark.xdist_group("ray")
def test_ray_is_asked_for_what_it_has_before_anything_starts(ray: None, tmp_path: Path) -> None:
    gpu, cpus = make(0), make(1, cpus=4096)
    told = "--gpus-per-trial 1: this machine has no GPU"
    refused(lambda: go([gpu], tmp_path, workers=None, gpus=1.0), told)
    refused(lambda: go([cpus], tmp_path, workers=None), "cpus_per_trial 4096: this machine has")
    assert tries(tmp_path, [gpu, cpus]) == [0, 0]
    assert not (tmp_path / "teachers" / "trained.txt").exists()


def wait_for(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.xdist_group("ray")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_driver_that_is_stopped_leaves_trials_to_go_on_with(tmp_path: Path, how: int) -> None:
    text = "[make(i, nap=0.3, points=10) for i in range(3)]"
    trials = [make(i, nap=0.3, points=10) for i in range(3)]
    process = driver(tmp_path, text)
    wait_for(lambda: len(TrialDir(tmp_path, trials[0]).curve()) > 3)
    os.killpg(process.pid, how) if how == signal.SIGINT else process.send_signal(how)
    out, err = process.communicate(timeout=60)
    if how != signal.SIGKILL:
        assert out.startswith("interrupted: 3 to be run again; the same command goes on from here\n")
        assert all("interrupted by Ctrl-C or SIGTERM" in line for line in err.splitlines()[1:]), err
    out, err = driver(tmp_path, text).communicate(timeout=120)
    assert out.startswith("3 done\n"), err
    result = TrialDir(tmp_path, trials[0]).result()
    assert result and result["metrics"]["start"] > 3  # went on from its checkpoint
    assert sorted(os.listdir(tmp_path)) == ["teachers", "trials"]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_a_thousand_trials_leave_the_driver_small(tmp_path: Path) -> None:
    out, err = driver(tmp_path, "[make(i) for i in range(1000)]").communicate(timeout=280)
    done, memory = out.splitlines()
    kilobytes, torch_loaded = memory.split()
    assert done == "1000 done", err
    assert int(kilobytes) < 1.5 * 2**20 and torch_loaded == "False"


TWO_NODES = """
import sys, threading, time
from pathlib import Path
from harness.schedule.run import run_trials
from harness.store.directory import TrialDir
from ray.cluster_utils import Cluster
from tests.schedule.noop_trial import calls, errand, make

out = Path(sys.argv[1])
memory = {"object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, **memory})
node = cluster.add_node(num_cpus=1, **memory)
cluster.wait_for_nodes()
trials = [make(i, nap=0.2, points=10) for i in range(4)]
lost = []

def remove():
    while not lost:
        time.sleep(0.05)
        for trial in trials:
            run = TrialDir(out, trial)
            if any(node.node_id in call for call in calls(run)) and len(run.curve()) > 3:
                lost.append(trial)
                cluster.remove_node(node, allow_graceful=False)
                return

threading.Thread(target=remove, daemon=True).start()
summary = run_trials(trials, errand(out), address=cluster.address)
print(summary)
for trial in lost:
    run = TrialDir(out, trial)
    print(len(calls(run)), run.result()["metrics"]["start"] > 3, len(run.curve()))
cluster.shutdown()
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.xdist_group("ray")
def test_the_grid_finishes_when_a_node_is_lost(tmp_path: Path) -> None:
    out, err = python(TWO_NODES, str(tmp_path)).communicate(timeout=200)
    # the trial of the lost node: two tries, the second from its checkpoint, a curve without a gap
    assert out.splitlines()[-2:] == ["4 done", "2 True 10"], err
    assert sorted(os.listdir(tmp_path)) == ["teachers", "trials"]
