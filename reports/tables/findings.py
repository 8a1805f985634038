"""What a report says beyond its main table: published numbers, paired differences, tests over all cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reports.numbers import contrasts, ranking, verdicts
from reports.numbers.published import Published
from reports.numbers.table import main, to_csv
from reports.tables import across, beside, model, text
from reports.tables.model import Table
from reports.tables.sections import layout


@dataclass(frozen=True)
class Findings:
    """Every number of a report, and its sections.

    Attributes:
        table: of `reports.numbers.table.main`.
        verdicts: of `reports.numbers.verdicts.against`.
        comparisons: of `reports.numbers.ranking.comparisons`.
        ranking: of `reports.numbers.ranking.ranks`, what a critical-difference diagram draws.
        paired: of `reports.numbers.contrasts.paired`, None for a grid without contrasts.
        sections: anchor on the page -> its tables, in the report's order; none is empty.
    """

    table: pd.DataFrame
    verdicts: pd.DataFrame
    comparisons: pd.DataFrame
    ranking: ranking.Ranking
    paired: pd.DataFrame | None
    sections: dict[str, list[Table]]

    def csv(self) -> dict[str, str]:
        """Kind -> the CSV that is exactly its numbers."""
        found = {
            "csv": to_csv(self.table),
            "verdicts": verdicts.to_csv(self.verdicts),
            "comparisons": ranking.to_csv(self.comparisons),
        }
        return found | ({} if self.paired is None else {"contrasts": contrasts.to_csv(self.paired)})

    def text(self) -> str:
        """All of it for a terminal."""
        parts = [text.to_text(self.table), *(model.to_text(part) for part in self.sections.values())]
        return "\n".join(parts)


def find(
    frame: pd.DataFrame,
    curves: pd.DataFrame | None,
    published: Sequence[Published],
    paired: pd.DataFrame | None = None,
) -> Findings:
    """Work out a report's numbers.

    Args:
        frame: one row a trial, as `harness.store.frame.frame` makes it.
        curves: one row a point, as `harness.store.frame.curves` makes it; None examines no row for climbing.
        published: of `reports.numbers.published.load`.
        paired: of `reports.numbers.contrasts.paired`; its rows are then the family of tests.
    """
    table = main(frame, curves)
    family = None if paired is None else list(zip(paired["row"], paired["against"], strict=True))
    beside_ours = verdicts.against(table, published)
    tests, ranked = ranking.comparisons(frame, family), ranking.ranks(table)
    sections = {
        "published": beside.layout(beside_ours, table, published),
        "contrasts": [] if paired is None else layout(paired, table),
        "across": across.layout(ranked, tests),
    }
    kept = {anchor: part for anchor, part in sections.items() if part}
    return Findings(table, beside_ours, tests, ranked, paired, kept)
