"""The trials behind every row of the main table: each seed's number, and where it was made.

What all trials of a block share is said once a block, what those of a row share once a row; only the rest
stands beside each trial.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.numbers.rows import PAIR, gathered, records, rows_of, says
from reports.tables.model import number

#: column of the frame -> how a report calls it
_FACTS = {
    "commit": "commit",
    "torch": "torch",
    "python": "python",
    "machine": "machine",
    "kernels": "kernels",
    "device": "device",
    "threads": "threads",
    "teacher_digest": "teacher file",
    "data_digest": "data file",
}
#: digits of a digest; the section on provenance has them all
_DIGEST = 16


@dataclass(frozen=True)
class Seeds:
    """The trials of one row.

    Attributes:
        facts: (what, value) that these trials share and the block's do not.
        heads: of `lines`: seed, top-1, trial, seconds, then what the trials do not share.
        lines: one a trial, done or not, by seed; a trial without a result says why in place of its top-1.
    """

    facts: list[tuple[str, str]]
    heads: list[str]
    lines: list[tuple[str, ...]]


@dataclass(frozen=True)
class Made:
    """The trials of one block.

    Attributes:
        facts: (what, value) that all its results share.
        rows: in the order of the block's rows.
    """

    facts: list[tuple[str, str]]
    rows: list[Seeds]

    @property
    def trials(self) -> int:
        """How many there are, done or not; those of two rows count once."""
        return len({line[2] for row in self.rows for line in row.lines})


def made(frame: pd.DataFrame) -> list[Made]:
    """One entry a (task, pair), in the order of `reports.tables.layout.blocks` of the same frame's table."""
    groups = gathered((tuple(map(row.of, PAIR)), row) for row in rows_of(frame))
    return [
        _block([records(row.trials.sort_values(["teacher_seed", "seed"])) for row in rows])
        for rows in groups.values()
    ]


def _block(rows: Sequence[list[dict[str, Any]]]) -> Made:
    shared = _shared([row for trials in rows for row in trials])
    return Made(_told(shared), [_row(trials, shared) for trials in rows])


def _shared(trials: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Column -> the one value that all results among the trials have."""
    done = [row for row in trials if row["status"] == "done"]
    found = {column: {_text(column, row) for row in done} for column in _FACTS}
    return {column: next(iter(values)) for column, values in found.items() if len(values) == 1}


def _row(trials: Sequence[dict[str, Any]], above: Mapping[str, str]) -> Seeds:
    shared = _shared(trials)
    own = [c for c in _FACTS if c not in shared and any(_text(c, row) for row in trials)]
    teachers = len({row["teacher_seed"] for row in trials}) > 1
    heads = ["seed", *(["teacher seed"] if teachers else []), "top-1 (%)", "trial", "seconds"]
    lines = []
    for row in trials:
        done = row["status"] == "done"
        top1 = number(row["top1"], 2) if done else says(str(row["status"]), str(row["reason"]))
        seconds = number(row.get("seconds", math.nan), 0)
        seeds = [str(row["seed"]), *([str(row["teacher_seed"])] if teachers else [])]
        lines.append((*seeds, top1, str(row["id"]), seconds, *(_text(c, row) for c in own)))
    facts = {c: value for c, value in shared.items() if c not in above}
    return Seeds(_told(facts), heads + [_FACTS[c] for c in own], lines)


def _told(facts: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(_FACTS[column], value) for column, value in facts.items() if value]


def _text(column: str, row: Mapping[str, Any]) -> str:
    """A value in words, "" where a result does not tell it."""
    value = row.get(column, "")
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:g}"
    return str(value)[:_DIGEST] if column.endswith("_digest") else str(value)
