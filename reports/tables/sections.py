"""What a report says beyond its main table: published numbers, paired differences, tests over all cells."""

from __future__ import annotations

from reports.numbers.findings import Findings
from reports.tables import contrasts, ranking, verdicts
from reports.tables.layout import blocks
from reports.tables.model import Table, to_text


def sections(found: Findings) -> dict[str, list[Table]]:
    """Anchor on the page -> its tables, in the report's order; none is empty."""
    made = {
        "published": verdicts.layout(found.verdicts, found.table, found.published),
        "contrasts": [] if found.paired is None else contrasts.layout(found.paired, found.table),
        "across": ranking.layout(found.ranking, found.comparisons),
    }
    return {anchor: part for anchor, part in made.items() if part}


def text(found: Findings) -> str:
    """A whole report for a terminal."""
    main = to_text(blocks(found.table)) if len(found.table) else "no trial\n"
    return "\n".join([main, *(to_text(part) for part in sections(found).values())])
