"""Results of a grid read back from a store, as tables and as a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import files
from reports.numbers import contrasts, published
from reports.numbers.findings import work_out
from reports.tables import sections

if TYPE_CHECKING:
    import pandas as pd

    from harness.config import Grid, Trial
    from harness.store.directory import Store


@dataclass
class Results:
    """What is known of a grid's trials; each table is read once.

    Attributes:
        stale: why a result no longer stands, or "": `harness.store.stale.Staleness` by today's teachers, or
            what published results say of themselves.
        command: what runs them, told on top of the report where it is known.
    """

    grid: Grid
    trials: Sequence[Trial]
    source: Store
    out: Path
    stale: Callable[[Trial, Mapping[str, Any]], str]
    command: str = ""

    @cached_property
    def frame(self) -> pd.DataFrame:
        """`harness.store.frame.frame`, results that went stale marked."""
        from harness.store.frame import frame

        return frame(self.trials, self.source, self.stale, self.grid.metrics)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """`harness.store.frame.curves`."""
        from harness.store.frame import curves

        return curves(self.trials, self.source)

    @cached_property
    def paired(self) -> pd.DataFrame | None:
        """`reports.numbers.contrasts.paired`; None for a grid without contrasts."""
        if not self.grid.contrasts:
            return None
        return contrasts.paired(self.frame, self.grid.contrasts, self.source.predictions)

    def text(self) -> str:
        """The main table for a terminal, and what `reports.tables.sections` says beyond it."""
        return sections.text(work_out(self.frame, self.curves, published.load(), self.paired))

    def _note(self) -> str:
        grid, label = self.grid, self.grid.equal_cost
        told = [f"Command: {self.command}." if self.command else ""]
        if label is not None:
            own = dict.fromkeys(str(grid.budget_of(label, t, p)) for t in grid.tasks for p in grid.pairs)
            told.append(f"Equal cost: every row may spend what {label} spends in {' or '.join(own)}.")
        silent = "The grid states nothing on how its settings were found."
        return " ".join(filter(None, [*told, grid.notes() or silent]))

    def report(
        self, formats: Sequence[str] = ("html", "md", "csv"), folder: Path | None = None
    ) -> dict[str, Path]:
        """Write the report.

        Args:
            formats: which files.
            folder: where; ``<out>/reports/<grid>/`` by default.

        Returns:
            Format -> file, and further CSVs by their names (`reports.page.page.write`).

        Raises:
            DfkdError: for an unknown format, or a folder that cannot be written.
        """
        from reports.page import page

        folder = folder or Path(self.out) / "reports" / self.grid.name
        samples = self.source.samples
        with files.saying(f"--out: {folder} cannot be written"):
            return page.write(
                self.grid.name, self._note(), self.frame, self.curves, samples, folder, formats, self.paired,
                predictions=self.source.predictions,
            )  # fmt: skip


def index(made: Sequence[tuple[Results, Mapping[str, Path]]]) -> list[Path]:
    """Write the index of several grids' reports, ``<out>/reports/index.html`` and ``index.md``.

    Args:
        made: the results and the files that `Results.report` gave, of each; one ``out`` for all.

    Raises:
        DfkdError: for a folder that cannot be written.
    """
    from reports.page import index

    folder = Path(made[0][0].out) / "reports"
    entries = [
        index.Entry(found.grid.name, found._note(), found.frame, written, found.paired)
        for found, written in made
    ]
    with files.saying(f"--out: {folder} cannot be written"):
        return index.write(entries, folder)
