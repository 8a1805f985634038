"""Which trials make one row, which points of their curves count, which images stand for a class."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.store.warnings import alike

Key = TypeVar("Key")
Value = TypeVar("Value")
#: trial id -> arrays of one of its files, or None
Arrays = Callable[[str], Mapping[str, NDArray[Any]] | None]
PAIR = ("task", "teacher", "student")
#: rows meet in a cell if they have the same student and the same teacher file
CELL = (*PAIR, "teacher_digest")
#: trials that agree in these may be averaged, given that teacher and data are the same files as well
SAME = ("task", "teacher", "student", "variant", "method", "budget", "precision", "settings")
_TEXTS = ("reason", "warnings", "unavailable", "settings", "stale", "teacher_digest", "data_digest")


@dataclass(frozen=True)
class Row:
    """One row of the table: trials that differ in their seeds alone.

    Attributes:
        label: the variant, told apart from others of its name in the same (task, pair).
        trials: rows of the frame that belong here, done or not.
        declared: how many the grid asks for; more than ``len(trials)`` when the row had to be split.
        digest: of the teacher file, "" where nobody knows it.
        stale: why the results no longer stand, or "".
    """

    label: str
    trials: pd.DataFrame
    declared: int
    digest: str
    stale: str

    @property
    def done(self) -> pd.DataFrame:
        """The trials with a result."""
        return self.trials[self.trials["status"] == "done"]

    @property
    def ids(self) -> list[str]:
        """Ids of the trials with a result."""
        return [str(i) for i in self.done["id"]]

    def of(self, name: str) -> str:
        """The text of a column in which its trials agree."""
        return str(self.trials[name].iloc[0])

    def flag(self, name: str) -> bool:
        """``reference`` or ``control``, of its method; False in a frame without that column."""
        return name in self.trials and bool(self.trials[name].iloc[0])


def rows_of(frame: pd.DataFrame) -> list[Row]:
    """Group trials into the rows of a table, in the frame's order, references first, then controls.

    Two teacher digests, two data digests or two reasons to be stale never share a row. A trial without a
    result has no digest: it goes where most results of its own row and teacher seed are, the standing ones
    before the stale.
    """
    frame = once(frame)
    rows = records(frame)
    declared = Counter((*_key(row), row["teacher_seed"]) for row in rows)
    keys = [(*_key(row), *home) for row, home in zip(rows, homes(rows), strict=True)]
    groups = gathered(zip(keys, range(len(keys)), strict=True))
    made = []
    for key, index in groups.items():
        trials = frame.loc[index]
        asked = sum(declared[(*key[: len(SAME)], seed)] for seed in trials["teacher_seed"].unique())
        digest, _, stale = key[len(SAME) :]
        made.append(Row(str(trials["variant"].iloc[0]), trials, asked, digest, stale))
    made.sort(key=lambda row: (not row.flag("reference"), not row.flag("control")))  # stable
    return _told_apart(made)


def once(frame: pd.DataFrame) -> pd.DataFrame:
    """Each trial once a row of the grid, its texts empty where there is none."""
    frame = frame.drop_duplicates(["id", "variant"]).reset_index(drop=True)
    return frame.assign(**{c: frame[c].fillna("").astype(str) if c in frame else "" for c in _TEXTS})


def _key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in SAME)


def cell_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """The `CELL` of a row of a table or frame."""
    return tuple(str(row[name]) for name in CELL)


def named(text: str) -> dict[str, Any]:
    """What a text of a frame holds by name, as JSON; an empty one holds nothing."""
    found: dict[str, Any] = json.loads(text) if text else {}
    return found


def gathered(pairs: Iterable[tuple[Key, Value]]) -> dict[Key, list[Value]]:
    """Key -> its values, both in the order they come."""
    found: dict[Key, list[Value]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dictionaries by column name."""
    return [{str(k): v for k, v in row.items()} for row in frame.to_dict("records")]


def homes(rows: Sequence[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """(teacher digest, data digest, stale) of each trial, guessed for one that has no result."""
    own: dict[tuple[Any, ...], Counter[tuple[str, str, str]]] = {}
    near: dict[tuple[Any, ...], Counter[tuple[str, str, str]]] = {}
    for row in rows:
        if row["status"] != "done":
            continue
        home = (row["teacher_digest"], row["data_digest"], row["stale"])
        own.setdefault((*_key(row), row["teacher_seed"]), Counter())[home] += 1
        near.setdefault((row["task"], row["teacher"], row["teacher_seed"]), Counter())[home] += 1

    def home_of(row: dict[str, Any]) -> tuple[str, str, str]:
        if row["status"] == "done":
            return (row["teacher_digest"], row["data_digest"], row["stale"])
        seen = own.get((*_key(row), row["teacher_seed"]))
        if seen:
            return _usual(seen)
        seen = near.get((row["task"], row["teacher"], row["teacher_seed"]))
        return (*_usual(seen)[:2], "") if seen else ("", "", "")

    return [home_of(row) for row in rows]


def _usual(seen: Counter[tuple[str, str, str]]) -> tuple[str, str, str]:
    return min(seen, key=lambda home: (bool(home[2]), -seen[home], home))


def _told_apart(made: list[Row]) -> list[Row]:
    """Add to labels that would meet in one (task, pair, teacher) what their rows differ in."""
    for column in ("method", "budget", "precision", "settings", "data_digest"):
        places = [(*map(row.of, PAIR), row.digest, row.stale, row.label) for row in made]
        for index in gathered(zip(places, range(len(made)), strict=True)).values():
            hints = _hints(column, [made[i].of(column) for i in index])
            for i, hint in zip(index, hints, strict=True):
                made[i] = replace(made[i], label=made[i].label + (f" ({hint})" if hint else ""))
    return made


def _hints(column: str, values: list[str]) -> list[str]:
    """What tells each value from the others, "" where nothing does."""
    if len(set(values)) == 1:
        return [""] * len(values)
    if column == "data_digest":
        return [f"data {v[:8] or 'unknown'}" for v in values]
    if column != "settings":
        return values
    read = list(map(named, values))
    names = sorted({k for r in read for k in r if any(o.get(k) != r[k] for o in read)})
    return [", ".join(f"{k}={r[k]}" for k in names if k in r) for r in read]


_SAYS: dict[str, Callable[[str], str]] = {
    "failed": lambda reason: f"failed: {reason or 'no reason recorded'}",
    "skipped": lambda reason: f"skipped: {reason or 'no reason recorded'}",
    "running": lambda reason: "still running",
    "partial": lambda reason: f"interrupted{': ' if reason else ''}{reason}",
    "missing": lambda reason: f"not run yet{': ' if reason else ''}{reason}",
}


def says(status: str, reason: str) -> str:
    """Why a trial has no result, in words."""
    line = " ".join(reason.split())
    return _SAYS[status](line) if status in _SAYS else f"{status}: {line}"


def by_seed(said: Iterable[tuple[str, str]]) -> str:
    """(text, seed) -> each text once, with its seeds; of texts that differ in measured numbers, their range.

    ``blur: 43 %`` of seed 0 and ``blur: 48 %`` of seed 2 are ``blur: 43 to 48 % (seeds 0, 2)``.
    """
    return "; ".join(
        f"{text} (seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)})"
        for text, seeds in alike(said).items()
    )


def classes(frame: pd.DataFrame) -> dict[str, float]:
    """Task -> number of classes, NaN where no trial says; column ``classes``, which may be absent."""
    found = dict.fromkeys((str(task) for task in frame["task"]), math.nan)
    if "classes" in frame:
        known = frame.dropna(subset=["classes"])
        found |= {str(t): float(k) for t, k in zip(known["task"], known["classes"], strict=True)}
    return found


class Runs:
    """Curves of many trials, found by id without a search through all of them."""

    def __init__(self, curves: pd.DataFrame) -> None:
        """Note where each trial's points are.

        Args:
            curves: long, with ``id``, ``round`` and more.
        """
        self._curves = curves
        self._at = curves.groupby("id", sort=False).indices
        self._columns: dict[str, NDArray[np.float64]] = {}

    def of(self, id: str, columns: Sequence[str]) -> NDArray[np.float64]:
        """(columns, points) of a trial: whole points, each round once and in order; maybe none."""
        at = self._at.get(id, np.zeros(0, np.int64))
        found = np.stack([self._column(name)[at] for name in ("round", *columns)])
        found = found[:, ~np.isnan(found).any(axis=0)]
        first = np.unique(found[0], return_index=True)[1]  # two rows of a grid may share a trial
        return found[1:, first]

    def _column(self, name: str) -> NDArray[np.float64]:
        if name not in self._columns:
            self._columns[name] = self._curves[name].to_numpy(dtype=np.float64)
        return self._columns[name]


def together(
    curves: pd.DataFrame | Runs, ids: Sequence[str], columns: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """Curves of several runs on common points.

    Args:
        curves: long, with ``id``, ``round`` and the columns; `Runs` where there is more than one question.
        ids: the runs; one without a curve is left out.
        columns: what to take.

    Returns:
        Column -> (runs, points), read at the rounds of the run with the fewest points (between points by
        a straight line; where all runs have the same rounds nothing is changed). Empty without a curve.
    """
    known = curves if isinstance(curves, Runs) else Runs(curves)
    runs = [run for id in ids if (run := known.of(id, ("round", *columns))).size]
    if not runs:
        return {}
    grid = min(runs, key=lambda run: run.shape[1])[0]
    return {c: np.stack([np.interp(grid, run[0], run[i]) for run in runs]) for i, c in enumerate(columns, 1)}


def tiles(
    samples: Mapping[str, NDArray[Any]], wanted: Sequence[int], per_class: int
) -> list[list[NDArray[np.uint8]]]:
    """The first images of each class.

    Args:
        samples: ``images`` uint8 (n, C, H, W), ``y`` the label asked or -1, ``t`` the teacher's arg-max.
        wanted: classes.
        per_class: at most so many each.

    Returns:
        For each class its images (C, H, W), by the label asked, or by the teacher's where none was asked.
    """
    label = labels(samples)
    return [[samples["images"][i] for i in np.flatnonzero(label == k)[:per_class]] for k in wanted]


def labels(samples: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """(n,) the label asked of each image, the teacher's arg-max where none was."""
    return np.where(samples["y"] >= 0, samples["y"], samples["t"]).astype(np.int64)


def seeds(row: Mapping[str, Any]) -> str:
    """``2 of 3 ran``; ``2 of 3 here`` where others ran too and stand in a row of their own."""
    return f"{row['ran']} of {row['seeds']} {'here' if row['elsewhere'] else 'ran'}"
