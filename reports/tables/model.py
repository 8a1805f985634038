"""A table, and its text and Markdown."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

DASH = "–"  # noqa: RUF001 - an empty cell, not a minus


@dataclass(frozen=True)
class Head:
    """A column's title, and in one sentence what it holds."""

    text: str
    help: str = ""


@dataclass(frozen=True)
class Row:
    """One line of a block.

    Attributes:
        rank: place among the ranked, or "".
        label: the variant.
        marks: what a reader must know of this row.
        cells: one text per column after rank and method; what stands beside a number is on a second line.
        span: said in place of all cells where nothing ran, else "".
        best: whether it ranks first.
    """

    rank: str
    label: str
    marks: tuple[str, ...]
    cells: tuple[str, ...]
    span: str
    reference: bool
    control: bool
    best: bool
    stale: bool


@dataclass
class Block:
    """The table of one (task, pair)."""

    task: str
    teacher: str
    student: str
    facts: list[str]
    heads: list[Head] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def title(self) -> str:
        """``digits: wrn16_2 → wrn16_1``."""
        return f"{self.task}: {self.teacher} → {self.student}"

    def note(self, text: str) -> str:
        """The mark of a note, " [1]"; the same text is one note."""
        if text not in self.notes:
            self.notes.append(text)
        return f" [{self.notes.index(text) + 1}]"

    def numbered(self) -> list[str]:
        """The notes with their marks."""
        return [f"[{i}] {text}" for i, text in enumerate(self.notes, 1)]


def number(value: float, digits: int) -> str:
    """Fixed digits, thousands separated; a dash for what is not there."""
    return DASH if math.isnan(value) else f"{value:,.{digits}f}"


#: columns that hold words
WORDS = ("where", "row", "measured against", "verdict", "not told apart from", "best")


@dataclass
class Table:
    """A table of a section; `notes` say what its numbers lack. Without rows the notes are all there is."""

    title: str
    caption: str
    heads: list[Head]
    rows: list[tuple[str, ...]]
    notes: list[str] = field(default_factory=list)


def to_text(tables: Sequence[Table]) -> str:
    """The section for a terminal."""
    from tabulate import tabulate

    parts = []
    for table in tables:
        align = ["left" if head.text in WORDS else "right" for head in table.heads]
        body = [[narrow(cell, 28) for cell in row] for row in table.rows]
        heads = [narrow(head.text, 12) for head in table.heads]
        grid = tabulate(body, heads, tablefmt="simple", colalign=align, disable_numparse=True) if body else ""
        caption = textwrap.wrap(table.caption, 100)
        notes = [line for note in table.notes for line in textwrap.wrap(note, 100, subsequent_indent="  ")]
        above = [table.title, *caption, "", *([grid] if body or not notes else [])]
        parts.append("\n".join([*above, *[""] * bool(body and notes), *notes]))
    return "\n\n".join(parts) + "\n"


def to_markdown(tables: Sequence[Table]) -> str:
    """The section as GitHub's Markdown."""
    lines = []
    for i, table in enumerate(tables):
        lines += [f"{'###' if i else '##'} {table.title}", "", escape(table.caption), ""]
        if table.rows:
            lines.append("| " + " | ".join(escape(head.text) for head in table.heads) + " |")
            lines.append("|" + "|".join(" :-- " if h.text in WORDS else " --: " for h in table.heads) + "|")
            lines += ["| " + " | ".join(escape(cell) for cell in row) + " |" for row in table.rows]
            lines.append("")
        lines += [*(f"- {escape(note)}" for note in table.notes), *[""] * bool(table.notes)]
    return "\n".join(lines)


def escape(text: str) -> str:
    """Text that Markdown prints as it stands, inside a table too."""
    for sign in "\\`*|[]~$":
        text = text.replace(sign, "\\" + sign)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)  # inside a word it stands for itself
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def narrow(text: str, width: int) -> str:
    """Text in lines of at most so many characters."""
    return "\n".join(
        part for line in text.split("\n") for part in textwrap.wrap(line, width, break_long_words=False)
    )
