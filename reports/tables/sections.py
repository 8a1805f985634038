"""Sections of small tables, as text and as Markdown, and the one on paired differences laid out for people.

The page prints the tables by its own template, `reports.tables.tex` by its own writer.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.numbers.rows import PAIR, records
from reports.tables.model import DASH, Head, Table, number


def layout(found: pd.DataFrame, table: pd.DataFrame) -> list[Table]:
    """The section's tables.

    Args:
        found: of `paired`.
        table: of `reports.numbers.table.main`, for best on test against last.
    """
    rows = records(found)
    said = where(rows)
    notes = []
    for row, place in zip(rows, said, strict=True):
        name = f"{row['row']} against {row['against']}" + (f" ({place})" if place else "")
        if row["missing"]:
            notes.append(f"{name}: {row['pairs']} of {row['asked']} pairs: {row['missing']}")
        if row["unavailable"]:
            notes.append(f"{name}: {row['unavailable']}")
    heads = [
        Head("row"),
        Head("measured against"),
        Head("n", "pairs of equal seeds, both done and not stale"),
        Head("top-1 (%)", "of the row, mean over the pairs"),
        Head("against (%)", "top-1 of the row it is measured against"),
        Head("difference (points)", "row minus the row it is measured against"),
        Head("± over seeds", "half of the 95 % t-interval over the paired seeds"),
        Head("± over seeds and images", "half of the 95 % interval with the test images a sample too"),
        Head("resolution", "half of the 95 % interval over the test images, for these very students"),
        Head("verdict"),
    ]
    lines = [
        (
            row["row"],
            row["against"],
            str(row["pairs"]) if row["pairs"] == row["asked"] else f"{row['pairs']} of {row['asked']}",
            number(row["top1_row"], 2),
            number(row["top1_against"], 2),
            signed(row["difference"]),
            *(number(row[name], 2) for name in ("half_seeds", "half_joint", "resolution")),
            row["verdict"],
        )
        for row in rows
    ]
    return [Table("Paired differences", _CAPTION, *placed(heads, lines, said), notes), _gaps(table)]


_CAPTION = (
    "Top-1 at the last point, row minus the row it is measured against, over trials of equal seeds: ± half "
    "of the 95 % interval over seeds alone, then with the test images a sample too, which decides; below "
    "resolution: another draw of test images would move the very same students by as much. "
    "Each verdict stands alone; the tests over all cells are the ones corrected for their number."
)


def _gaps(table: pd.DataFrame) -> Table:
    """What picking by test accuracy would have added, of every data-free row with results."""
    rows = [r for r in records(table) if not r["reference"] and not math.isnan(r["oracle_gap"])]
    heads = [Head("row"), Head("n", "seeds"), Head("best minus last (points)"), Head("± over seeds")]
    lines = [
        (
            row["label"] + (" (stale)" if row["stale"] else ""),
            str(int(row["oracle_gap_n"])),
            signed(row["oracle_gap"]),
            number(row["oracle_gap_half"], 2),
        )
        for row in rows
    ]
    caption = "What picking each seed's best point on the test set would have added to its last point."
    return Table("Best on test against last", caption, *placed(heads, lines, where(rows)))


def placed(
    heads: list[Head], lines: Sequence[tuple[str, ...]], places: Sequence[str]
) -> tuple[list[Head], list[tuple[str, ...]]]:
    """With a first column that says where, if there is anything to say."""
    if not any(places):
        return heads, list(lines)
    return [Head("where"), *heads], [(place, *line) for place, line in zip(places, lines, strict=True)]


def where(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Task, pair and teacher file of each row, as far as rows differ in them."""
    pairs = [tuple(row[name] for name in PAIR) for row in rows]
    files = {(pair, row["teacher_digest"]) for pair, row in zip(pairs, rows, strict=True)}
    said = []
    for pair, row in zip(pairs, rows, strict=True):
        place = f"{pair[0]}: {pair[1]} → {pair[2]}" if len(set(pairs)) > 1 else ""
        if sum(known == pair for known, _ in files) > 1:
            place += (", " if place else "") + f"teacher file {row['teacher_digest'][:8] or 'unknown'}"
        said.append(place)
    return said


def signed(value: float) -> str:
    """Two digits and a sign, a dash for what is not there."""
    return DASH if math.isnan(value) else f"{value:+.2f}"
