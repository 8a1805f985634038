"""The section on published numbers laid out for people."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.numbers.published import Published
from reports.numbers.rows import PAIR, gathered, named, records
from reports.numbers.verdicts import BUDGET, POINTS
from reports.tables.model import Head, Table, number, placed, signed, spread, where

_CAPTION = (
    "Ours is top-1 at the last point, mean over seeds ± half of the 95 % t-interval. Only numbers of the "
    "same task, pair and settings have a gap, and only where the student was not shown fewer or more images, "
    f"to {100 * BUDGET:g} %. The verdict compares student/teacher ratios, since teachers differ: reproduced "
    f"is within the tolerance, which is half of our 95 % interval and no less than {POINTS:g} points."
)
_FOOTNOTES = "None of these has a gap or a verdict: each says what is missing."
_NOTHING = "Nothing is published with the task, pair and settings of any row: no gap and no verdict."
_HEADS = (
    Head("row", words=True),
    Head("published (%)"),
    Head("ours (%)", "last point, mean over seeds ± half of the 95 % t-interval"),
    Head("n", "our seeds"),
    Head("gap (points)", "ours minus published"),
    Head("teacher's gap (points)", "our teacher minus the source's"),
    Head("ratio gap (points)", "student/teacher in percent, ours minus published"),
    Head("± tolerance", "half of the 95 % interval over seeds, at least 0.5"),
    Head("verdict", words=True),
)


def layout(found: pd.DataFrame, table: pd.DataFrame, known: Sequence[Published]) -> list[Table]:
    """The section: a table of what has a gap, and below it every source and why others have none.

    Args:
        found: of `reports.numbers.verdicts.against`.
        table: of `reports.numbers.table.main`, for the rows beside which nothing is published.
        known: every published number; of them the gains that rows of the table could show.
    """
    rows = records(found)
    told = [r for r in rows if not math.isnan(r["gap"])]
    lines = [
        (
            r["label"],
            number(r["published"], 2),
            spread(r["ours"], r["half"]),
            str(int(r["n"])),
            signed(r["gap"]),
            signed(r["teacher_gap"]),
            signed(r["ratio_gap"]),
            number(r["tolerance"], 2),
            r["verdict"] or f"none: {r['why']}",
        )
        for r in told
    ]
    names = [
        r["label"] + (f" ({place})" if place else "") for r, place in zip(rows, where(rows), strict=True)
    ]
    notes = gathered(zip(map(_note, rows), names, strict=True))
    heads, body = placed(list(_HEADS), lines, told)
    caption = _CAPTION if body else _FOOTNOTES if rows else _NOTHING
    said = [f"{', '.join(of)}: {note}" for note, of in notes.items()]
    said += _unpublished(rows, table) if rows else []
    said += _gains(table, known)
    return [Table("Against published numbers", [caption], heads, body, said)] if len(table) else []


def _unpublished(found: Sequence[Mapping[str, Any]], table: pd.DataFrame) -> list[str]:
    """Which rows have no verdict because nobody published a number for their task, pair and settings."""
    places: dict[tuple[str, ...], dict[str, bool]] = {}
    known = {tuple(row[name] for name in (*PAIR, "label")) for row in found}
    for row in records(table):
        place = tuple(row[name] for name in PAIR)
        places.setdefault(place, {})[row["label"]] = (*place, row["label"]) in known
    lacking: dict[str, list[str]] = {}
    for (task, teacher, student), rows in places.items():
        names = [label for label, there in rows.items() if not there]
        who = "any row" if len(names) == len(rows) else ", ".join(names)
        if names:
            lacking.setdefault(who, []).append(f"{task}: {teacher} → {student}")
    return [
        f"Nothing is published with the task, pair and settings of {who} ({'; '.join(where)}): no verdict."
        for who, where in lacking.items()
    ]


def _gains(table: pd.DataFrame, known: Sequence[Published]) -> list[str]:
    """Differences that somebody printed, where rows of the method and task differ in the setting it is of."""
    said = []
    rows = records(table)
    for p in known:
        if p.metric != "top1_gain":
            continue
        values = [named(r["settings"]) for r in rows if (r["method"], r["task"]) == (p.method, p.task)]
        if any(len({str(each.get(name)) for each in values}) > 1 for name in p.settings):
            pair = f"{p.teacher} → {p.student}" if p.pair == "stated" else "pair not stated"
            parts = [f"{signed(p.value)} points, {p.source}, line {p.line} of published.csv", p.note]
            parts.append("a footnote, no verdict")
            said.append(f"{p.printed} on {p.task}, {pair}: {'; '.join(filter(None, parts))}")
    return said


def _note(row: Mapping[str, Any]) -> str:
    """Where a number comes from, what speaks against it, and why there is no gap."""
    source = f"{row['published']:g}, {row['source']}, line {row['line']} of published.csv"
    parts = [source + ("" if row["kind"] == "own" else f" ({_KINDS[row['kind']]})")]
    if not math.isnan(row["published_teacher"]):
        parts.append(f"its teacher {row['published_teacher']:g}")
    if row["pair"] == "inferred" and "pair" not in row["note"]:
        parts.append("pair inferred")
    if math.isnan(row["gap"]):
        parts.append(f"a footnote, no gap: {row['why']}")
    if row["selection"] == "best":
        best = f" (ours, so picked: {signed(row['oracle_gap'])})" if not math.isnan(row["oracle_gap"]) else ""
        parts.append(f"picked as the best on the test set{best}")
    if row["suspect"]:
        parts.append(f"doubted: {row['suspect']}")
    if row["note"]:
        parts.append(row["note"])
    if others := json.loads(row["others"]):
        parts.append(f"also published: {', '.join(others)}")
    return "; ".join(parts)


_KINDS = {
    "rerun": "run by other authors",
    "secondary": "at second hand",
    "copy": "a copy of another source's number",
    "issue": "a user's report",
}
