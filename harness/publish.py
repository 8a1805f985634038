"""Writes a folder of published results (`harness.archive`): whole, or what was there before stays."""

from __future__ import annotations

import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.archive import NAME, Archive, is_one
from harness.config import Grid, Trial
from harness.errors import DfkdError
from harness.rundir import read_bytes

if TYPE_CHECKING:
    import numpy as np

    from harness.rundir import Dirs, Run
    from harness.stale import Staleness

#: files of a trial's directory that a report is made of, as they are
KEPT = ("result.json", "curve.jsonl", "predictions.npz")
#: images of a label that are kept of a row's first seed: no figure shows more
#: (`reports.separation.EACH`, `reports.pictures.PER_CLASS`)
PER_CLASS = 30
#: states that stay: what runs or waits is not published as such
_SETTLED = ("done", "failed", "skipped")
#: the earliest time that a zip can state: the same trials, the same bytes
_WHEN = (1980, 1, 1, 0, 0, 0)
#: what a folder of published results may hold besides the figures; what is not made anew is removed
_OWN = ("*.csv", "report.md", "figures/*.svg")


def publish(
    folder: Path, grid: Grid, trials: Sequence[Trial], dirs: Dirs, stale: Staleness, command: str
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
    _check(folder, trials, {trial.id for trial in trials if dirs.result(trial) is not None})
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
        if lost := {t.id for t in old.trials if old.status(t) == "done"} - done:
            raise DfkdError(
                f"--to {folder}: {len(lost)} of the finished trials that are published there would be lost: "
                "remove the folder, or name another"
            )
    elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise DfkdError(f"--to {folder}: something else is there; name a new folder, or published results")


def _replaced(folder: Path, data: bytes) -> dict[str, Path]:
    """Make everything in a folder beside, then put it in place, the archive last."""
    from harness.results import Results

    new = folder.with_name(f".{folder.name}.{os.getpid()}.tmp") / folder.name
    try:
        new.mkdir(parents=True)
        (new / NAME).write_bytes(data)
        kept = Archive(new)
        found = Results(kept.grid, kept.trials, kept, new, None, kept.command)
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


def pack(grid: Grid, trials: Sequence[Trial], dirs: Dirs, stale: Staleness, command: str) -> bytes:
    """The archive of a grid's trials as `harness.archive.Archive` reads it; the same trials, the same bytes.

    Raises:
        DfkdError: where a trial is running, or nothing has ended, or a file cannot be read.
    """
    runs = [dirs.run(trial) for trial in trials]
    states = [run.status() for run in runs]
    if "running" in states:
        raise DfkdError(f"trial {runs[states.index('running')].id} is running: publish when it has ended")
    if not set(states) & set(_SETTLED):
        raise DfkdError(f"none of {len(runs)} trials has ended under {dirs.out}: nothing to publish")
    ended = {run.id: run for run, state in zip(runs, states, strict=True) if state in _SETTLED}
    results = {id: run.result() or {} for id, run in ended.items()}
    why = {
        id: stale(run.trial, results[id].get("provenance", {})) for id, run in ended.items() if results[id]
    }
    about = {
        "grid": grid.model_dump(mode="json"),
        "command": command,
        "stale": {id: reason for id, reason in sorted(why.items()) if reason},
    }
    shown = _shown(trials, results, ended)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        _add(file, "grid.json", json.dumps(about, indent=1).encode())
        _add(file, "trials.jsonl", b"".join(t.model_dump_json().encode() + b"\n" for t in trials))
        for id, run in sorted(ended.items()):
            for name in KEPT:
                if (path := run.path / name).is_file():
                    _add(file, f"{id}/{name}", read_bytes(path))
            if failure := run.failure():  # its detail is a traceback, with the folders of one machine
                _add(file, f"{id}/failure.json", json.dumps(failure | {"detail": ""}).encode())
            if id in shown and (arrays := dirs.samples(id)) is not None:
                _add(file, f"{id}/samples.npz", _packed(_thinned(arrays)))
    return made.getvalue()


def _shown(
    trials: Sequence[Trial], results: Mapping[str, Mapping[str, Any]], runs: Mapping[str, Run]
) -> set[str]:
    """Of each row a report may have, the finished trial with the lowest seed that has images."""
    found: dict[tuple[Any, ...], Trial] = {}
    for trial in trials:
        made_with = results.get(trial.id, {}).get("provenance", {})
        digests = (made_with.get("teacher_digest"), made_with.get("data_digest"))
        key = (trial.task, trial.teacher, trial.student, trial.teacher_seed, trial.label, *digests)
        if not results.get(trial.id) or not (runs[trial.id].path / "samples.npz").is_file():
            continue
        if key not in found or trial.seed < found[key].seed:
            found[key] = trial
    return {trial.id for trial in found.values()}


def _thinned(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The first images of each label asked, of the teacher's where none was."""
    import numpy as np

    label = np.where(arrays["y"] >= 0, arrays["y"], arrays["t"])
    kept = np.zeros(len(label), dtype=bool)
    for k in np.unique(label):
        kept[np.flatnonzero(label == k)[:PER_CLASS]] = True
    return {name: values[kept] for name, values in arrays.items()}


def _packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An npz of fixed times."""
    import numpy as np

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as file:
        for name, values in sorted(arrays.items()):
            one = io.BytesIO()
            np.save(one, values, allow_pickle=False)
            _add(file, f"{name}.npy", one.getvalue())
    return made.getvalue()


def _add(file: zipfile.ZipFile, name: str, data: bytes) -> None:
    member = zipfile.ZipInfo(name, _WHEN)
    member.compress_type = file.compression
    member.external_attr = 0o644 << 16
    file.writestr(member, data)
