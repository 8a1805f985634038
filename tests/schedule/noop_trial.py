"""Stands in for `harness.trials.trial.run_trial` and the teacher job; imported by workers by its name.

What a trial does is told by its settings: ``{"do": "disk, die", "nap": seconds}``, a word for each try, the
last one for all that follow. Every call leaves a line in ``calls.txt`` of its directory: a file survives
whatever happens to the process.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.config import Trial
from harness.errors import DfkdError, Diverged, Skipped
from harness.schedule.attempt import Errand
from harness.store.directory import TrialDir
from tests.build import trial

HERE = "tests.schedule.noop_trial:run_trial"
TEACHER = "tests.schedule.noop_trial:have_teacher"


def make(
    seed: int = 0, *, teacher: str = "wrn16_2", cpus: int = 1, points: int = 4, **settings: Any
) -> Trial:
    return trial(seed, teacher=teacher, cpus=cpus, points=points, settings=settings)


def errand(out: Path, gpus: float = 0.0) -> Errand:
    return Errand(out, Path(out) / "teachers", gpus=gpus, run_trial=HERE, have_teacher=TEACHER)


def calls(run: TrialDir) -> list[str]:
    path = run.path / "calls.txt"
    return path.read_text().splitlines() if path.exists() else []


def called(run: TrialDir, line: str) -> None:
    with (run.path / "calls.txt").open("a") as file:
        file.write(f"{line}\n")


def run_trial(
    trial: Trial,
    run: TrialDir,
    *,
    data_root: Path | None,
    device: str,
    on_point: Callable[[dict[str, Any]], None],
    on: str,
    **given: Any,
) -> None:
    assert on == "test"
    run.prepare()
    tries = len(calls(run)) + 1
    ray = sys.modules.get("ray")
    node = ray.get_runtime_context().get_node_id() if ray and ray.is_initialized() else ""
    called(run, f"{os.getpid()} {node} {device} {os.environ.get('OMP_NUM_THREADS', '')}")
    words = trial.settings.get("do", "").split(", ")
    do = words[min(tries, len(words)) - 1]
    errors = {
        "diverge": Diverged("loss of 'G' is not finite in round 3: bn"),
        "bug": KeyError("no such thing"),
        "skip": Skipped("the teacher has no BatchNorm"),
        "disk": OSError(28, "No space left on device"),
        "missing data": DfkdError(f"cifar10 is not in {data_root}"),
        "ctrl-c": KeyboardInterrupt(),
    }
    if do in errors:
        raise errors[do]
    if do == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    checkpoint = run.path / "checkpoint" / "at.json"
    start = json.loads(checkpoint.read_text()) if checkpoint.exists() else 0
    run.cut(start)
    for point in range(start + 1, trial.points + 1):
        time.sleep(trial.settings.get("nap", 0.0))
        row = {"point": point, "top1": 10.0 * point}
        run.append(row)
        on_point(row)
        if trial.settings.get("nap"):
            checkpoint.parent.mkdir(exist_ok=True)
            checkpoint.write_text(str(point))
    run.finish({"id": trial.id, "metrics": {"top1": 90.0, "start": float(start)}, "warnings": []})


def have_teacher(trial: Trial, *, data_root: Path | None, teachers_dir: Path, device: str) -> str:
    """One line in ``<teachers_dir>/trained.txt`` for each job; a net called lenet5 has no teacher."""
    if trial.teacher == "lenet5":
        raise DfkdError("teacher lenet5 on digits: accuracy 10.00 is not the recorded 99.00")
    with (teachers_dir / "trained.txt").open("a") as file:
        file.write(f"{trial.teacher} {os.getpid()}\n")
    return "top1 99.00, trained in 1 s"
