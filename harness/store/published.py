"""Published results: a folder that holds a grid as it was run, its trials, and the report made of them.

``trials.zip`` is all that the report reads, so that `dfkd report FOLDER` makes the same files again without
training, teachers or data: ``grid.json`` (`harness.config.Grid`, the command, which results were stale),
``trials.jsonl`` (a `harness.config.Trial` a line, in the grid's order, with the row's label) and, per trial,
its files or why there are none. Beside it lie ``trials.csv`` (what `dfkd results --csv` prints) and the
report. `pack` makes the archive, `Archive` reads it: unpacked, it is a `harness.store.directory.Store`.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.config import PROTOCOL, Grid, Trial, one_line
from harness.errors import DfkdError
from harness.files import read_bytes, saying
from harness.store.directory import Store, TrialDir

if TYPE_CHECKING:
    import numpy as np

    from harness.store.stale import Staleness

NAME = "trials.zip"
#: files of a trial's directory that a report is made of, as they are
KEPT = ("result.json", "curve.jsonl", "predictions.npz")
#: all that may be kept of a trial
_OF_TRIAL = (*KEPT, "failure.json", "samples.npz")
#: images of a label that are kept of a row's first seed: a strip of samples shows two, a map all (some older
#: archives keep 30 of the rows whose silhouette their report states)
PER_CLASS = 10
#: states that stay: what runs or waits is not published as such
_SETTLED = ("done", "failed", "skipped")
#: the earliest time that a zip can state: the same trials, the same bytes
_WHEN = (1980, 1, 1, 0, 0, 0)
#: what a damaged file may make its readers raise
_DAMAGE = (OSError, ValueError, EOFError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


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
    """A folder of published results.

    Whatever is read raises `DfkdError` for a damaged file, and for one of another version of this package.
    """

    def __init__(self, folder: Path) -> None:
        """Name the folder; reads nothing yet."""
        self.folder = Path(folder)
        self.file = self.folder / NAME

    @cached_property
    def grid(self) -> Grid:
        """The grid as it was run, under the folder's name."""
        with self._told():
            grid: Grid = self._checked(Grid, self._about["grid"])
        return grid.model_copy(update={"name": self.folder.resolve().name})

    @property
    def command(self) -> str:
        """What runs it."""
        return str(self._about.get("command", ""))

    @cached_property
    def trials(self) -> list[Trial]:
        """Every trial of the grid, run or not, in its order."""
        with self._told():
            return [
                self._checked(Trial, json.loads(row)) for row in self._needed("trials.jsonl").splitlines()
            ]

    @property
    def done(self) -> list[Trial]:
        """Those that have a result."""
        return [trial for trial in self.trials if f"{trial.id}/result.json" in self._zip.NameToInfo]

    def stale(self, trial: Trial, provenance: Mapping[str, Any]) -> str:
        """Why the result was stale when it was published, or ""; as `harness.store.stale.Staleness`."""
        return str(self._about.get("stale", {}).get(trial.id, ""))

    @cached_property
    def store(self) -> Store:
        """The trials, unpacked in a temporary folder that is there as long as this store is."""
        with saying("published results cannot be unpacked"):
            place = Path(tempfile.mkdtemp(prefix="dfkd-published-"))
        store = Store(place)
        weakref.finalize(store, shutil.rmtree, place, ignore_errors=True)
        self.unpack(place)
        return store

    def unpack(self, out: Path) -> None:
        """Write what is kept of its trials as directories under ``out``, an empty or missing folder.

        A trial of several rows bears the first one's label. They lack what a report does not read:
        ``final/``, and images but for the first seed's excerpt.

        Raises:
            DfkdError: for a damaged archive, or a folder that cannot be written.
        """
        for trial in {t.id: t for t in reversed(self.trials)}.values():
            found = {name: self._read(f"{trial.id}/{name}") for name in _OF_TRIAL}
            told = {"id": trial.id, **trial.model_dump(mode="json")}
            found["trial.json"] = (json.dumps(told, indent=1) + "\n").encode()
            home = Path(out) / "trials" / trial.id
            with saying(f"{out} cannot be written"):
                home.mkdir(parents=True)
                for name, data in found.items():
                    if data is not None:
                        (home / name).write_bytes(data)
            if found["result.json"] is not None and TrialDir.at(home).result() is None:
                raise DfkdError(f"{self.file} cannot be read: the result of {trial.id} is damaged")

    # --- reading ------------------------------------------------------------------------------------

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        with self._told():
            return zipfile.ZipFile(self.file)

    @cached_property
    def _about(self) -> dict[str, Any]:
        with self._told():
            found = json.loads(self._needed("grid.json"))
            return {"grid": found["grid"]} | found

    def _needed(self, name: str) -> bytes:
        found = self._read(name)
        if found is None:
            raise DfkdError(f"{self.file} cannot be read: it has no {name}")
        return found

    def _read(self, name: str) -> bytes | None:
        """A member's bytes, or None; where they are written to is never the archive's word."""
        with self._told():
            return self._zip.read(name) if name in self._zip.NameToInfo else None

    def _checked(self, kind: Any, value: Any) -> Any:
        try:
            return kind.model_validate(value)
        except ValidationError as error:
            raise DfkdError(f"{self.file} is of another version: {one_line(error)}") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except _DAMAGE as error:
            raise DfkdError(f"{self.file} cannot be read: {type(error).__name__}: {error}") from error


def drawn(archives: Sequence[Archive], n: int, seed: int) -> list[tuple[Archive, Trial]]:
    """Finished trials of several archives, each as likely, without doubles: (where it is published, trial).

    Raises:
        DfkdError: where there are fewer than ``n``.
    """
    done = {t.id: (kept, t) for kept in archives for t in kept.done}
    if len(done) < n:
        raise DfkdError(f"--trials {n}: {len(done)} finished trials are published there")
    return [done[id] for id in random.Random(seed).sample(sorted(done), n)]


def check_versions(trials: Sequence[Trial]) -> None:
    """Refuse to run published trials that today's code would compute otherwise, under their old ids.

    Raises:
        DfkdError: naming the first whose method, task or protocol has another version here.
    """
    from harness import registry
    from harness.tasks import catalog

    for t in trials:
        versions = (
            (t.method, t.method_version, registry.methods.get(t.method).VERSION),
            (t.task, t.task_version, catalog.version(t.task)),
            ("the protocol", t.protocol, PROTOCOL),
        )
        for what, was, now in versions:
            if was != now:
                raise DfkdError(
                    f"trial {t.id} ({t.cell}) is of version {was} of {what}; here is version {now}"
                )


def pack(grid: Grid, trials: Sequence[Trial], dirs: Store, stale: Staleness, command: str) -> bytes:
    """The archive of a grid's trials, as `Archive` reads it; the same trials, the same bytes.

    Raises:
        DfkdError: where a trial is running, or nothing has ended, or a file cannot be read.
    """
    runs = {trial.id: dirs.run(trial) for trial in trials}
    looks = {id: run.look() for id, run in runs.items()}
    if running := [id for id, look in looks.items() if look.status == "running"]:
        raise DfkdError(f"trial {running[0]} is running: publish when it has ended")
    ended = {id: look for id, look in looks.items() if look.status in _SETTLED}
    if not ended:
        raise DfkdError(f"none of {len(trials)} trials has ended under {dirs.out}: nothing to publish")
    results = {id: look.result for id, look in ended.items() if look.result}
    why = {id: stale(runs[id].trial, result.get("provenance", {})) for id, result in results.items()}
    about = {
        "grid": grid.model_dump(mode="json"),
        "command": command,
        "stale": {id: reason for id, reason in sorted(why.items()) if reason},
    }
    shown = _shown(trials, results, runs)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        _add(file, "grid.json", json.dumps(about, indent=1).encode())
        _add(file, "trials.jsonl", b"".join(t.model_dump_json().encode() + b"\n" for t in trials))
        for id, look in sorted(ended.items()):
            for name in KEPT:
                if (path := runs[id].path / name).is_file():
                    _add(file, f"{id}/{name}", read_bytes(path))
            if look.failure:  # its detail is a traceback, with the folders of one machine
                _add(file, f"{id}/failure.json", json.dumps(look.failure | {"detail": ""}).encode())
            if id in shown and (arrays := dirs.samples(id)) is not None:
                _add(file, f"{id}/samples.npz", _packed(_thinned(arrays)))
    return made.getvalue()


def _shown(
    trials: Sequence[Trial], results: Mapping[str, Mapping[str, Any]], runs: Mapping[str, TrialDir]
) -> set[str]:
    """Of each row a report may have, the finished trial with the lowest seed that has images."""
    found: dict[tuple[Any, ...], str] = {}
    for t in sorted(trials, key=lambda t: t.seed):
        if t.id in results and (runs[t.id].path / "samples.npz").is_file():
            made_with = results[t.id].get("provenance", {})
            digests = (made_with.get("teacher_digest"), made_with.get("data_digest"))
            found.setdefault((t.task, t.teacher, t.student, t.teacher_seed, t.label, *digests), t.id)
    return set(found.values())


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
