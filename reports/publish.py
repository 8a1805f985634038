"""A folder of results made to be committed: report, figures, trials."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import Grid, Trial
from harness.errors import DfkdError
from harness.files import read_bytes
from harness.store.published import NAME, Archive, is_one, pack

if TYPE_CHECKING:
    from harness.store.directory import Store
    from harness.store.stale import Staleness


#: what a folder of published results may hold besides the figures; what is not made anew is removed
_OWN = ("*.csv", "report.md", "figures/*.svg")


def publish(
    folder: Path, grid: Grid, trials: Sequence[Trial], dirs: Store, stale: Staleness, command: str
) -> dict[str, Path]:
    """Write the archive of a grid, its tidy table and its report.

    Args:
        folder: made if missing; its name is the report's title. Of published results, what is there is
            replaced.
        grid: as it was run.
        trials: of the grid, each row's with its label.
        dirs: where they lie.
        stale: which results no longer stand; the archive keeps the reasons.
        command: what runs them, for readers.

    Returns:
        What -> file.

    Raises:
        DfkdError: where a trial is running, or nothing has ended, or a task is a folder of this machine, or
            ``folder`` holds something else or finished trials that would be lost, or a file cannot be read
            or written. Then nothing has changed.
    """
    folder = folder.resolve()
    _check(folder, trials, {trial.id for trial in trials if dirs.look(trial).result is not None})
    return _replaced(folder, pack(grid, trials, dirs, stale, command))


def again(folder: Path) -> dict[str, Path]:
    """Write the tidy table and the report of published results anew, of what is published.

    Returns:
        What -> file.

    Raises:
        DfkdError: for a damaged archive, or a folder that cannot be written.
    """
    folder = folder.resolve()
    return _replaced(folder, read_bytes(folder / NAME))


def _check(folder: Path, trials: Sequence[Trial], done: set[str]) -> None:
    local = next((t.task for t in trials if t.task.startswith("folder:")), None)
    if local:
        raise DfkdError(f"task {local} is a folder of this machine: nobody else could read what is published")
    if is_one(folder):
        old = Archive(folder)
        if lost := {t.id for t in old.done} - done:
            raise DfkdError(
                f"--to {folder}: {len(lost)} of the finished trials that are published there would be lost: "
                "remove the folder, or name another"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DfkdError(f"--to {folder}: something else is there; name a new folder, or published results")


def _replaced(folder: Path, data: bytes) -> dict[str, Path]:
    """Make everything in a folder beside, then put it in place, the archive last."""
    from reports.report import Results

    new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp") / folder.name
    try:
        new.mkdir(parents=True)
        (new / NAME).write_bytes(data)
        kept = Archive(new)
        found = Results(kept.grid, kept.trials, kept.store, new, kept.stale, kept.command)
        (new / "trials.csv").write_text(found.frame.to_csv(index=False, lineterminator="\n"))
        written = {"trials": new / "trials.csv"} | found.report(("md", "csv"), new)
        made = [path.relative_to(new) for path in sorted(new.rglob("*")) if path.is_file()]
        (folder / "figures").mkdir(parents=True, exist_ok=True)
        for old in {path for pattern in _OWN for path in folder.glob(pattern)} - {folder / m for m in made}:
            old.unlink()
        for path in sorted(made, key=lambda path: path.name == NAME):
            (new / path).replace(folder / path)
    except OSError as error:
        raise DfkdError(f"--to {folder} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(new.parent, ignore_errors=True)
    return {what: folder / path.relative_to(new) for what, path in written.items()} | {
        "archive": folder / NAME
    }
