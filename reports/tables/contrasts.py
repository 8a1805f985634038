"""The section on paired differences laid out for people."""

from __future__ import annotations

import math

import pandas as pd

from reports.numbers.rows import records
from reports.tables.model import VERSUS, Head, Table, number, placed, signed, versus, where


def layout(found: pd.DataFrame, table: pd.DataFrame) -> list[Table]:
    """The section's tables.

    Args:
        found: of `reports.numbers.contrasts.paired`.
        table: of `reports.numbers.table.main`, for best on test against last.
    """
    rows = records(found)
    notes = []
    for row, place in zip(rows, where(rows), strict=True):
        missing = row["missing"] and f"{row['pairs']} of {row['asked']} pairs: {row['missing']}"
        name = f"{row['row']} against {row['against']}" + (f" ({place})" if place else "")
        notes += [f"{name}: {why}" for why in (missing, row["unavailable"]) if why]
    heads = [
        *VERSUS,
        Head("top-1 (%)", "of the row, mean over the pairs"),
        Head("against (%)", "top-1 of the row it is measured against"),
        Head("difference (points)", "row minus the row it is measured against"),
        Head("± over seeds", "half of the 95 % t-interval over the paired seeds"),
        Head("± over seeds and images", "half of the 95 % interval with the test images a sample too"),
        Head("resolution", "half of the 95 % interval over the test images, for these very students"),
        Head("verdict", words=True),
    ]
    lines = [
        (
            *versus(row),
            number(row["top1_row"], 2),
            number(row["top1_against"], 2),
            signed(row["difference"]),
            *(number(row[name], 2) for name in ("half_seeds", "half_joint", "resolution")),
            row["verdict"],
        )
        for row in rows
    ]
    return [Table("Paired differences", [_CAPTION], *placed(heads, lines, rows), notes), _gaps(table)]


_CAPTION = (
    "Top-1 at the last point, row minus the row it is measured against, over trials of equal seeds: ± half "
    "of the 95 % interval over seeds alone, then with the test images a sample too, which decides; below "
    "resolution: another draw of test images would move the very same students by as much. "
    "Each verdict stands alone; the tests over all cells are the ones corrected for their number."
)


def _gaps(table: pd.DataFrame) -> Table:
    """What picking by test accuracy would have added, of every data-free row with results."""
    rows = [r for r in records(table) if not r["reference"] and not math.isnan(r["oracle_gap"])]
    heads = [
        Head("row", words=True),
        Head("n", "seeds"),
        Head("best minus last (points)"),
        Head("± over seeds"),
    ]
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
    return Table("Best on test against last", [caption], *placed(heads, lines, rows))
