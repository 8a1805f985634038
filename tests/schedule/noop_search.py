"""Stands in for `harness.trials.trial.run_trial` on ``val``: a curve that its settings alone decide.

A trial of the method ``dfad``, good where ``lr_s`` is near 0.03. ``lr_g`` above 0.005 diverges; a file
``disk`` or ``ctrl-c`` in the search's folder lets the trial whose label it holds fail once, half-way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from harness.config import Trial
from harness.errors import Diverged
from harness.store.directory import TrialDir
from tests.schedule import noop_trial

HERE = "tests.schedule.noop_search:run_trial"


def top1(lr_s: float, share: float) -> float:
    """Percent, to three decimals."""
    return round(90.0 * share**0.2 - 20.0 * abs(math.log10(lr_s / 0.03)), 3)


def run_trial(
    trial: Trial, run: TrialDir, *, on_point: Callable[[dict[str, Any]], None], on: str, **given: Any
) -> None:
    assert on == "val"
    run.prepare()
    noop_trial.called(run, "here")
    if trial.settings["lr_g"] > 0.005:
        raise Diverged("loss of 'G' is not finite in round 3: l1")
    seen = {}
    for row in run.curve():
        on_point(row)
    for point in range(len(run.curve()) + 1, trial.points + 1):
        for word, error in (
            ("disk", OSError(28, "No space left on device")),
            ("ctrl-c", KeyboardInterrupt()),
        ):
            trap = run.path.parents[1] / word
            if trap.exists() and trap.read_text() == trial.label and point == 2:
                trap.unlink()
                raise error
        value = top1(trial.settings["lr_s"], point / trial.points)
        seen = {"val_top1": value, "val_nll": round(3 - value / 50, 5)}
        row = {"point": point, **seen}
        run.append(row)
        on_point(row)
    run.finish({"id": trial.id, "metrics": seen, "warnings": []})
