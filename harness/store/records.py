"""Two sides of a comparison, as records."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from harness.config import Trial, digest, one_line
from harness.errors import DfkdError
from harness.store import published
from harness.store.directory import Store

if TYPE_CHECKING:
    from harness.config import Grid

import re
from dataclasses import dataclass, field

from harness.store.directory import Kept

pass

#: what a trial declares that changes no number of its last point, and what has a place of its own
_APART = frozenset({"id", "label", "points", "cpus", "metrics"})


_ID = re.compile(r"[0-9a-f]{12}")


@dataclass
class Side:
    """One of the two.

    Attributes:
        kind: ``folder``, ``trial``, ``published``, ``results`` (a table of trials) or ``report`` (a table of
            rows).
        notes: what could not be read, a line each.
    """

    path: Path
    kind: str
    records: list[dict[str, Any]]
    notes: list[str] = field(default_factory=list)


def read(path: Path) -> Side:
    """Read a folder of `dfkd run --out`, one trial's directory, published results, or a CSV.

    Raises:
        DfkdError: for anything else, and for one without a trial.
    """
    if path.is_file():
        side = _table(path)
    elif published.is_one(path):
        side = _archive(path)
    elif (path / "trial.json").is_file():
        side = Side(path, "trial", [record_of(path)])
    elif (path / "trials").is_dir():
        side = _folder(path)
    else:
        what = "has no trials/" if path.is_dir() else "does not exist"
        raise DfkdError(
            f"{path} {what}: give a folder of `dfkd run --out`, a trial's directory in one, published "
            "results, a report.csv or what `dfkd results --csv` printed"
        )
    if not side.records:
        raise DfkdError("; ".join([f"{path} holds no trial", *side.notes]))
    return side


def _folder(path: Path) -> Side:
    side = Side(path, "folder", [])
    for place in sorted((path / "trials").iterdir()):
        if _ID.fullmatch(place.name) and place.is_dir():
            try:
                side.records.append(record_of(place))
            except DfkdError as error:
                side.notes.append(str(error))
    return side


def record_of(path: Path) -> dict[str, Any]:
    """The record of a trial's directory.

    Raises:
        DfkdError: for one whose ``trial.json`` is missing or cannot be read.
    """
    try:
        told = json.loads((path / "trial.json").read_bytes())
        names = {k: told[k] for k in ("task", "teacher", "student", "method", "seed", "teacher_seed")}
    except FileNotFoundError:
        raise DfkdError(f"{path} has no trial.json: nobody ran there") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DfkdError(f"{path / 'trial.json'} cannot be read: {type(error).__name__}: {error}") from None
    kept = Kept(path)
    result, status = kept.result() or {}, kept.status()
    failure = None if status in ("done", "running") else kept.failure()
    own = {"id": path.name, "told_id": told.get("id"), "status": status, "curve": kept.curve}
    return names | own | _told(told, result, failure) | {"images": _images(path) or _named(result)}


def _told(
    told: Mapping[str, Any], result: Mapping[str, Any], failure: Mapping[str, Any] | None
) -> dict[str, Any]:
    """What a record says by a trial's declaration and its result."""
    return {
        "row": told.get("label") or told["method"],
        "reason": failure["reason"] if failure else "",
        "declared": dict(_flat({k: v for k, v in told.items() if k not in _APART})),
        "whole": True,
        **{part: result.get(part, {}) for part in ("metrics", "spend", "provenance")},
        "points": told.get("points"),
        "digits": None,
    }


def _flat(declared: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in declared.items():
        if name == "budget" and isinstance(value, dict):
            yield name, f"{value['amount']:.15g}:{value['unit']}"
        elif isinstance(value, dict):
            yield from ((f"{name}.{k}", v) for k, v in value.items())
        else:
            yield name, value


def _images(path: Path) -> int | None:
    """How many test images a trial was judged on, by its confusion table."""
    import numpy as np

    try:
        return int(np.load(path / "confusion.npy", allow_pickle=False).sum()) or None
    except (OSError, ValueError, EOFError):
        return None


def _named(result: Mapping[str, Any]) -> int | None:
    """The same by a column's name, which stops at 10,000."""
    told = [*result.get("metrics", ()), *result.get("unavailable", ())]
    found = [m for name in told if (m := re.fullmatch(r"(?:fid|kid)_(\d+)_test", name))]
    return int(found[0][1]) if found else None


#: a report's CSV, and what `dfkd results --csv` prints, by columns that only they have
_REPORT, _RESULTS = {"label", "seeds", "ran", "top1_half"}, {"id", "seed", "status", "top1"}


_SPEND = ("rounds", "student_updates", "flops")


#: significant digits of a report's CSV (`reports.numbers.table.to_csv`)
_DIGITS = 10


def as_rows(side: Side, grid: Grid | None) -> Side:
    """A side as the rows of its report, to be held against another report.

    Args:
        side: a report already, or a folder.
        grid: whose trials; None takes all that are there.

    Raises:
        DfkdError: for a side of which no report can be made.
    """
    if side.kind == "report":
        return side
    if side.kind not in ("folder", "published"):
        raise DfkdError(
            f"{side.path} holds single trials, which a report of rows cannot be held against: give the "
            "folder of `dfkd run --out` that they are from"
        )
    from harness.grids import expand
    from harness.store.frame import curves, frame

    notes = list(side.notes)
    source: Store | published.Archive = Store(side.path)
    declared: Iterable[Trial] = _declared(side, notes)
    if side.kind == "published":
        source = published.Archive(side.path)
        declared = source.trials
    trials = expand.remembered(grid) if grid else list(declared)
    from reports.numbers import table

    text = table.to_csv(table.main(frame(trials, source), curves(trials, source)))
    rows = [_row(row) for row in csv.DictReader(text.splitlines())]
    return Side(side.path, "report", rows, notes)


def _declared(side: Side, notes: list[str]) -> Iterator[Trial]:
    for path in (side.path / "trials" / record["id"] for record in side.records):
        try:
            found = json.loads((path / "trial.json").read_bytes())
            yield Trial.model_validate({k: v for k, v in found.items() if k != "id"})
        except ValidationError as error:
            notes.append(f"{path.name} is of another version and in no row: {one_line(error)}")


def _archive(path: Path) -> Side:
    """Published results: every trial once, under the first of its rows' names."""
    found, side = published.Archive(path), Side(path, "published", [])
    for trial in {t.id: t for t in reversed(found.trials)}.values():
        told, result = trial.model_dump(mode="json"), found.result(trial) or {}
        names = {k: told[k] for k in ("task", "teacher", "student", "method", "seed", "teacher_seed")}
        decided = found.predictions(trial.id)
        own: dict[str, Any] = {"id": trial.id, "told_id": trial.id, "status": found.status(trial)}
        own |= {"curve": partial(found.curve, trial)}
        own |= {"images": len(decided["y"]) if decided else _named(result)}
        side.records.append(names | own | _told(told, result, found.failure(trial)))
    return side


def _table(path: Path) -> Side:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            names = set(reader.fieldnames or ())
            if names >= _REPORT:
                return Side(path, "report", [_row(row) for row in reader])
            if names >= _RESULTS:
                return Side(path, "results", [_result(row, list(reader.fieldnames or ())) for row in reader])
    except (OSError, ValueError, KeyError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise DfkdError(f"{path} cannot be read as a table: {reason}") from None
    raise DfkdError(f"{path} is neither a report.csv nor what `dfkd results --csv` printed")


def _numbers(row: Mapping[str, str], names: Any) -> dict[str, float]:
    found = {name: float(row[name]) for name in names if row.get(name)}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _settings(row: Mapping[str, str]) -> dict[str, Any]:
    named = {name: row[name] for name in ("budget", "precision") if row.get(name)}
    return named | {f"settings.{k}": v for k, v in json.loads(row.get("settings") or "{}").items()}


def _result(row: Mapping[str, str], columns: list[str]) -> dict[str, Any]:
    """A line of what `dfkd results --csv` printed; between reason and top1_tail stand the metrics."""
    from harness.store.frame import PROVENANCE

    metrics = columns[columns.index("reason") + 1 : columns.index("top1_tail")]
    why = json.loads(row.get("unavailable") or "{}")
    provenance: dict[str, Any] = {
        k: row[k] if kind is str else float(row[k]) for k, kind in PROVENANCE.items() if row.get(k)
    }
    return {
        name: row[name] for name in ("id", "task", "teacher", "student", "method", "status", "reason")
    } | {
        "row": row["variant"],
        "seed": int(row["seed"]),
        "teacher_seed": int(row["teacher_seed"]),
        "declared": _settings(row),
        "whole": False,
        "metrics": _numbers(row, metrics),
        "spend": _numbers(row, _SPEND),
        "provenance": provenance,
        "curve": None,
        "points": None,
        "images": _named({"metrics": metrics, "unavailable": why}),
        "digits": None,
    }


def _row(row: Mapping[str, str]) -> dict[str, Any]:
    """A line of a report's CSV: means over seeds, ``n`` among what it declares."""
    metrics = [name for name in row if f"{name}_half" in row and name != "oracle_gap"]
    names = {name: row[name] for name in ("task", "teacher", "student", "method")}
    declared = _settings(row)
    ran = int(row["ran"])
    return names | {
        "id": digest([*names.values(), row["label"], declared]),
        "row": row["label"],
        "seed": None,
        "teacher_seed": None,
        "status": "done" if ran else "missing",
        "reason": row["reason"],
        "declared": declared | {"n": ran},
        "whole": False,
        "metrics": _numbers(row, metrics),
        "spend": _numbers(row, _SPEND),
        "provenance": {"teacher_digest": row["teacher_digest"]} if row["teacher_digest"] else {},
        "curve": None,
        "points": None,
        "images": _named({"metrics": metrics}),
        "digits": _DIGITS,
    }
