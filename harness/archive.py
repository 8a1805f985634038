"""Published results: a folder that holds a grid as it was run, its trials, and the report made of them.

``trials.zip`` is all that the report reads, so that `dfkd report FOLDER` makes the same files again without
training, teachers or data: ``grid.json`` (`harness.config.Grid` and the command), ``trials.jsonl`` (a
`harness.config.Trial` a line, in the grid's order, with the row's label) and, per trial, its files out of
`KEPT`, or why there are none. Generated images are kept of each row's first finished seed alone, the first
`PER_CLASS` of each label: no figure shows more. Beside it lie ``trials.csv`` (what `dfkd results --csv`
prints) and the report.
"""

from __future__ import annotations

import io
import json
import random
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.config import Grid, Trial, one_line
from harness.errors import DfkdError
from harness.rundir import Status, load_arrays, narrow, read_rows

if TYPE_CHECKING:
    import numpy as np

    from harness.rundir import Dirs

NAME = "trials.zip"
#: files of a trial's directory that a report can be made of
KEPT = ("result.json", "curve.jsonl", "predictions.npz")
#: images of a label that are kept of a row's first seed
PER_CLASS = 30
#: states that stay: what runs or waits is not published as such
_SETTLED = ("done", "failed", "skipped")
#: the earliest time that a zip can state: the same trials, the same bytes
_WHEN = (1980, 1, 1, 0, 0, 0)


def is_one(path: Path) -> bool:
    """Whether a path is a folder of published results."""
    return (Path(path) / NAME).is_file()


def below(path: Path) -> list[Path]:
    """The folders of published results that a path means: itself, or those right below it.

    Raises:
        DfkdError: where there is none.
    """
    found = [path] if is_one(path) else sorted(file.parent for file in Path(path).glob(f"*/{NAME}"))
    if not found:
        raise DfkdError(
            f"{path} holds no {NAME}: give folders that `dfkd publish` wrote, or one of such folders"
        )
    return found


class Archive:
    """A folder of published results as a source of frames, beside `harness.rundir.Dirs` and MLflow."""

    def __init__(self, folder: Path) -> None:
        """Name the folder; reads nothing yet."""
        self.folder = Path(folder)
        self.file = self.folder / NAME

    @cached_property
    def grid(self) -> Grid:
        """The grid as it was run.

        Raises:
            DfkdError: for a damaged archive, or one of another version of this package.
        """
        return self._checked(Grid, self._about["grid"])

    @property
    def command(self) -> str:
        """What runs it."""
        return str(self._about.get("command", ""))

    @cached_property
    def trials(self) -> list[Trial]:
        """Every trial of the grid, run or not, in its order.

        Raises:
            DfkdError: as `grid`.
        """
        rows = (self._read("trials.jsonl") or b"").splitlines()
        return [self._checked(Trial, json.loads(row)) for row in rows]

    def status(self, trial: Trial) -> Status:
        """As the directory's was: done, failed or skipped; ``missing`` for what had not ended."""
        if self.result(trial) is not None:
            return "done"
        kind = (self.failure(trial) or {}).get("kind")
        return "skipped" if kind == "skip" else "failed" if kind == "method" else "missing"

    def result(self, trial: Trial) -> dict[str, Any] | None:
        """As `harness.rundir.Kept.result`."""
        return self._json(f"{trial.id}/result.json")

    def failure(self, trial: Trial) -> dict[str, Any] | None:
        """As `harness.rundir.Kept.failure`."""
        return self._json(f"{trial.id}/failure.json")

    def curve(self, trial: Trial, keys: Sequence[str] | None = None) -> list[dict[str, Any]]:
        """As `harness.rundir.Dirs.curve`."""
        return narrow(read_rows(self._read(f"{trial.id}/curve.jsonl") or b""), keys)

    def samples(self, id: str) -> dict[str, np.ndarray] | None:
        """Arrays of a trial's ``samples.npz`` as far as they are kept, or None."""
        return self._arrays(f"{id}/samples.npz")

    def predictions(self, id: str) -> dict[str, np.ndarray] | None:
        """Arrays of a trial's ``predictions.npz``, or None."""
        return self._arrays(f"{id}/predictions.npz")

    # --- reading ------------------------------------------------------------------------------------

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        with self._told():
            return zipfile.ZipFile(self.file)

    @cached_property
    def _about(self) -> dict[str, Any]:
        return self._json("grid.json") or {}

    def _read(self, name: str) -> bytes | None:
        """A member's bytes, or None; nothing is ever unpacked to disk."""
        with self._told():
            return self._zip.read(name) if name in self._zip.NameToInfo else None

    def _json(self, name: str) -> dict[str, Any] | None:
        found = self._read(name)
        with self._told():
            value = None if found is None else json.loads(found)
        return value if isinstance(value, dict) else None

    def _arrays(self, name: str) -> dict[str, np.ndarray] | None:
        found = self._read(name)
        return None if found is None else load_arrays(io.BytesIO(found), f"{self.file}: {name}")

    def _checked(self, kind: Any, value: Any) -> Any:
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            raise DfkdError(f"{self.file} is of another version: {one_line(error)}") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise DfkdError(f"{self.file} cannot be read: {error}") from error


def write(folder: Path, grid: Grid, trials: Sequence[Trial], dirs: Dirs, command: str) -> Archive:
    """Write a grid's trials into ``folder/trials.zip``, whole or not at all; the same trials, the same bytes.

    Args:
        folder: made if missing.
        grid: as it was run; its name is the report's title.
        trials: of the grid, each row's with its label.
        dirs: where they lie.
        command: what runs them, for readers.

    Raises:
        DfkdError: where a trial is running, or nothing has ended, or a file cannot be read or written.
    """
    runs = [dirs.run(trial) for trial in trials]
    states = [run.status() for run in runs]
    if "running" in states:
        raise DfkdError(f"trial {runs[states.index('running')].id} is running: publish when it has ended")
    if not set(states) & set(_SETTLED):
        raise DfkdError(f"none of {len(runs)} trials has ended under {dirs.out}: nothing to publish")
    about = {"grid": grid.model_dump(mode="json"), "command": command}
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        _add(file, "grid.json", json.dumps(about, indent=1).encode())
        _add(file, "trials.jsonl", b"".join(t.model_dump_json().encode() + b"\n" for t in trials))
        first = _first(trials, states)
        ended = {run.id: run for run, state in zip(runs, states, strict=True) if state in _SETTLED}
        for id, run in sorted(ended.items()):
            for name in KEPT:
                if (path := run.path / name).is_file():
                    _add(file, f"{id}/{name}", path.read_bytes())
            if failure := run.failure():  # its detail is a traceback, with the folders of one machine
                _add(file, f"{id}/failure.json", json.dumps(failure | {"detail": ""}).encode())
            if id in first and (arrays := dirs.samples(id)) is not None:
                _add(file, f"{id}/samples.npz", _packed(_thinned(arrays)))
    _replace(Path(folder) / NAME, made.getvalue())
    return Archive(folder)


def _first(trials: Sequence[Trial], states: Sequence[str]) -> set[str]:
    """Of each row, in each place, the finished trial with the lowest seed."""
    found: dict[tuple[Any, ...], Trial] = {}
    for trial, state in zip(trials, states, strict=True):
        key = (trial.task, trial.teacher, trial.student, trial.teacher_seed, trial.label)
        if state == "done" and (key not in found or trial.seed < found[key].seed):
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


def _replace(path: Path, data: bytes) -> None:
    new = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        raise DfkdError(f"{path} cannot be written: {error.strerror or error}") from error
    finally:
        new.unlink(missing_ok=True)


def drawn(archives: Sequence[Archive], n: int, seed: int) -> list[tuple[Archive, Trial]]:
    """Finished trials of several archives, each as likely, without doubles: (where it is published, trial).

    Raises:
        DfkdError: where there are fewer than ``n``.
    """
    done = {t.id: (kept, t) for kept in archives for t in kept.trials if kept.status(t) == "done"}
    if len(done) < n:
        raise DfkdError(f"--trials {n}: {len(done)} finished trials are published there")
    return [done[id] for id in random.Random(seed).sample(sorted(done), n)]
