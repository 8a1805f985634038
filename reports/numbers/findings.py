"""Every number of a report, worked out once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from reports.numbers import ranking, verdicts
from reports.numbers.published import Published
from reports.numbers.table import main, to_csv


@dataclass(frozen=True)
class Findings:
    """What tables and figures are made from.

    Attributes:
        table: of `reports.numbers.table.main`.
        published: of `reports.numbers.published.load`, what the verdicts are on.
        verdicts: of `reports.numbers.verdicts.against`.
        comparisons: of `reports.numbers.ranking.comparisons`.
        ranking: of `reports.numbers.ranking.ranks`, what a critical-difference diagram draws.
        paired: of `reports.numbers.contrasts.paired`, None for a grid without contrasts.
    """

    table: pd.DataFrame
    published: Sequence[Published]
    verdicts: pd.DataFrame
    comparisons: pd.DataFrame
    ranking: ranking.Ranking
    paired: pd.DataFrame | None

    def csv(self) -> dict[str, str]:
        """Kind -> the CSV that is exactly its numbers."""
        found = {"csv": self.table, "verdicts": self.verdicts, "comparisons": self.comparisons}
        if self.paired is not None:
            found["contrasts"] = self.paired
        return {kind: to_csv(numbers) for kind, numbers in found.items()}


def work_out(
    frame: pd.DataFrame,
    curves: pd.DataFrame | None,
    published: Sequence[Published],
    paired: pd.DataFrame | None = None,
) -> Findings:
    """A report's numbers.

    Args:
        frame: one row a trial, as `harness.store.frame.frame` makes it.
        curves: one row a point, as `harness.store.frame.curves` makes it; None examines no row for climbing.
        published: of `reports.numbers.published.load`.
        paired: of `reports.numbers.contrasts.paired`; its rows are then the family of tests.
    """
    table = main(frame, curves)
    family = None if paired is None else list(zip(paired["row"], paired["against"], strict=True))
    judged = verdicts.against(table, published)
    tests, ranked = ranking.comparisons(frame, family), ranking.ranks(table)
    return Findings(table, published, judged, tests, ranked, paired)
