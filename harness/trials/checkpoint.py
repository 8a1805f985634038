"""What of a trial crosses a kill."""

from __future__ import annotations

from pathlib import Path

from harness.store.directory import TrialDir


def pools_of(run: TrialDir) -> Path:
    """Where a trial's pools lie beside its checkpoint, to be dropped with it."""
    return run.path / "checkpoint" / "pools"
