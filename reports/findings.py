"""What a report says beyond its main table: published numbers, paired differences, tests over all cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reports import across, beside, contrasts, ranking, section, tables, verdicts
from reports.published import Published
from reports.section import Table


@dataclass(frozen=True)
class Findings:
    """Every number of a report, and its sections.

    Attributes:
        table: of `reports.tables.main`.
        verdicts: of `reports.verdicts.against`.
        comparisons: of `reports.ranking.comparisons`.
        ranking: of `reports.ranking.ranks`, what a critical-difference diagram draws.
        paired: of `reports.contrasts.paired`, None for a grid without contrasts.
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
            "csv": tables.to_csv(self.table),
            "verdicts": verdicts.to_csv(self.verdicts),
            "comparisons": ranking.to_csv(self.comparisons),
        }
        return found | ({} if self.paired is None else {"contrasts": contrasts.to_csv(self.paired)})

    def text(self) -> str:
        """All of it for a terminal."""
        parts = [tables.to_text(self.table), *(section.to_text(part) for part in self.sections.values())]
        return "\n".join(parts)


def find(
    frame: pd.DataFrame,
    curves: pd.DataFrame | None,
    published: Sequence[Published],
    paired: pd.DataFrame | None = None,
) -> Findings:
    """Work out a report's numbers.

    Args:
        frame: one row a trial, as `harness.frames.frame` makes it.
        curves: one row a point, as `harness.frames.curves` makes it; None examines no row for climbing.
        published: of `reports.published.load`.
        paired: of `reports.contrasts.paired`; its rows are then the family of tests.
    """
    table = tables.main(frame, curves)
    family = None if paired is None else list(zip(paired["row"], paired["against"], strict=True))
    beside_ours = verdicts.against(table, published)
    tests, ranked = ranking.comparisons(frame, family), ranking.ranks(table)
    sections = {
        "published": beside.layout(beside_ours, table, published),
        "contrasts": [] if paired is None else section.layout(paired, table),
        "across": across.layout(ranked, tests),
    }
    kept = {anchor: part for anchor, part in sections.items() if part}
    return Findings(table, beside_ours, tests, ranked, paired, kept)
