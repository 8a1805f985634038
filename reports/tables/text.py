"""The main table: one row per (task, pair, teacher file, variant), as numbers and as text.

`main` gives the numbers (the CSV is exactly that); `reports.tables.layout` lays them out for people, and
`to_text`, `to_markdown` and the page print what it laid out.
"""

from __future__ import annotations

import textwrap

import pandas as pd

from reports.tables.layout import blocks
from reports.tables.model import DASH, Block, escape, narrow


def to_text(table: pd.DataFrame) -> str:
    """The table for a terminal: a block per (task, pair), each with its notes."""
    from tabulate import tabulate

    parts = []
    for block in blocks(table):
        body = []
        for row in block.rows:
            below = [line for text in (*row.marks, row.span) for line in textwrap.wrap(text, 40)]
            cells = [narrow(c, 16) for c in row.cells] or [DASH] * (len(block.heads) - 2)
            body.append([row.rank, "\n".join([row.label, *(f"  {line}" for line in below)]), *cells])
        heads = [narrow(h.text, 9) for h in block.heads]
        align = ["right", "left", *("right" for _ in block.heads[2:])]
        grid = tabulate(body, heads, tablefmt="simple", colalign=align, disable_numparse=True)
        parts.append("\n".join([block.title, *block.facts, "", grid, *block.numbered()]))
    return "\n\n".join(parts) + "\n" if parts else "no trial\n"


def to_markdown(table: pd.DataFrame, heading: str = "##") -> str:
    """The table as GitHub's Markdown: a heading, facts, table and notes per (task, pair)."""
    return "\n".join(_markdown(block, heading) for block in blocks(table))


def _markdown(block: Block, heading: str) -> str:
    lines = [f"{heading} {escape(block.title)}", "", *(f"- {escape(fact)}" for fact in block.facts), ""]
    lines.append("| " + " | ".join(escape(h.text) for h in block.heads) + " |")
    lines.append("|" + "|".join([" --: ", " :-- ", *(" --: " for _ in block.heads[2:])]) + "|")
    for row in block.rows:
        name = f"**{escape(row.label)}**" if row.best else escape(row.label)
        cells = [escape(c).replace("\n", "<br>") for c in row.cells]
        cells = cells or [escape(row.span), *[""] * (len(block.heads) - 3)]
        if row.best:
            cells[0] = f"**{cells[0]}**"
        marks = "".join(f"<br>*{escape(mark)}*" for mark in row.marks)
        lines.append("| " + " | ".join([row.rank, name + marks, *cells]) + " |")
    if block.notes:
        lines += ["", *(f"- {escape(note)}" for note in block.numbered())]
    return "\n".join([*lines, ""])
