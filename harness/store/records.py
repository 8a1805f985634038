"""What is compared and merged: a trial's directory as one record, and all those of a place."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import DfkdError
from harness.store import published
from harness.store.directory import Status, Store, TrialDir

#: what a trial declares that changes no number of its last point, and what has a place of its own
_APART = frozenset({"id", "label", "points", "cpus", "metrics"})
_ID = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class Record:
    """A trial's directory, as far as it is compared.

    Attributes:
        row: its label, or its method's name.
        reason: why it has no number, "" where it has or nobody knows.
        declared: setting -> value, nested ones by dotted names; what differs here has another id.
        points: how many its curve was to have.
        metrics, spend, provenance: those parts of its result.
        images: how many test images it was judged on, None where that is not known.
    """

    path: Path
    id: str
    task: str
    teacher: str
    student: str
    method: str
    row: str
    teacher_seed: int
    seed: int
    status: Status
    reason: str
    declared: Mapping[str, Any]
    points: int | None
    metrics: Mapping[str, float]
    spend: Mapping[str, float]
    provenance: Mapping[str, Any]
    images: int | None

    @property
    def cell(self) -> str:
        """``cpsc on digits wrn16_2->wrn16_1``, with the teacher's seed unless that is 0."""
        name = f"{self.row} on {self.task} {self.teacher}->{self.student}"
        return name + (f" of teacher {self.teacher_seed}" if self.teacher_seed else "")

    @property
    def name(self) -> str:
        """``cpsc on digits wrn16_2->wrn16_1 seed 0``."""
        return f"{self.cell} seed {self.seed}"

    @property
    def stands(self) -> str:
        """``failed: loss of 'G' is not finite``, or the status alone."""
        return self.status + (f": {self.reason}" if self.reason else "")

    def curve(self) -> list[dict[str, Any]]:
        """Its rows, read now."""
        return TrialDir.at(self.path).curve()


@dataclass
class Side:
    """All records of one place.

    Attributes:
        path: as it was given.
        store: where they lie, None for a single trial's directory; of published results a temporary one,
            there as long as this side is.
        notes: what could not be read, a line each.
    """

    path: Path
    store: Store | None = None
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read(path: Path) -> Side:
    """Read a folder of `dfkd run --out`, published results, or one trial's directory.

    Raises:
        DfkdError: for anything else.
    """
    path = Path(path)
    if (path / "trial.json").is_file():
        return Side(path, records=[record_of(path)])
    if not published.is_one(path) and not (path / "trials").is_dir():
        what = "has no trials/" if path.is_dir() else "does not exist"
        raise DfkdError(
            f"{path} {what}: give a folder of `dfkd run --out`, published results, or a trial's directory"
        )
    store = published.Archive(path).store if published.is_one(path) else Store(path)
    side = Side(path, store)
    for place in sorted((store.out / "trials").iterdir()):
        if _ID.fullmatch(place.name) and place.is_dir():
            try:
                side.records.append(record_of(place))
            except DfkdError as error:
                side.notes.append(str(error))
    return side


def record_of(path: Path) -> Record:
    """The record of a trial's directory, another version's too.

    Raises:
        DfkdError: for one whose ``trial.json`` is missing, cannot be read or is another trial's.
    """
    file = path / "trial.json"
    try:
        told = json.loads(file.read_bytes())
        names = {k: told[k] for k in ("task", "teacher", "student", "method", "teacher_seed", "seed")}
        declared = dict(_flat({k: v for k, v in told.items() if k not in _APART}))
    except FileNotFoundError:
        raise DfkdError(f"{path} has no trial.json: nobody ran there") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DfkdError(f"{file} cannot be read: {type(error).__name__}: {error}") from None
    if told.get("id") != path.name:
        raise DfkdError(f"{file} is of trial {told.get('id')}: damaged or moved")
    found = TrialDir.at(path).look()
    result = found.result or {}
    return Record(
        path=path,
        id=path.name,
        **names,
        **{part: result.get(part, {}) for part in ("metrics", "spend", "provenance")},
        row=told.get("label") or told["method"],
        status=found.status,
        reason=found.failure["reason"] if found.failure else "",
        declared=declared,
        points=told.get("points"),
        images=_images(path, result),
    )


def _flat(declared: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in declared.items():
        if name == "budget" and isinstance(value, dict):
            yield name, f"{value['amount']:.15g}:{value['unit']}"
        elif isinstance(value, dict):
            yield from ((f"{name}.{k}", v) for k, v in value.items())
        else:
            yield name, value


def _images(path: Path, result: Mapping[str, Any]) -> int | None:
    """By the predictions, which are younger than some trials, or a metric's name, which stops at 10,000."""
    import numpy as np

    damage = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile)
    with suppress(*damage), np.load(path / "predictions.npz", allow_pickle=False) as found:
        return len(found["y"])
    told = [*result.get("metrics", ()), *result.get("unavailable", ())]
    named = [m for name in told if (m := re.fullmatch(r"(?:fid|kid)_(\d+)_test", name))]
    return int(named[0][1]) if named else None
