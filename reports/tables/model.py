"""A table laid out for people, and its text and Markdown.

The page prints tables by its own template, `reports.tables.tex` by its own writer.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.numbers.rows import PAIR

DASH = "–"  # noqa: RUF001 - an empty cell, not a minus


@dataclass(frozen=True)
class Head:
    """A column's title, in one sentence what it holds, and whether that is words, which stand on the left."""

    text: str
    help: str = ""
    words: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        cells: one text a column; what stands beside a number is on a second line of it.
        marks: what a reader must know of this line, below its name.
        span: said in place of all cells after the name, else "".
        kinds: out of "reference", "control", "best" and "stale".
    """

    cells: tuple[str, ...]
    marks: tuple[str, ...] = ()
    span: str = ""
    kinds: tuple[str, ...] = ()

    @property
    def given(self) -> bool:
        """Whether it is of a reference or a control, which stand above the others."""
        return "reference" in self.kinds or "control" in self.kinds


@dataclass
class Table:
    """A table.

    Attributes:
        title: what it is of.
        facts: sentences above it.
        heads: its columns; the first one of words names a line.
        lines: may be none, then facts and notes are all there is.
        notes: sentences below it; `note` makes one that a cell refers to.
        numbered: whether cells and marks refer to notes by their number.
    """

    title: str
    facts: list[str]
    heads: list[Head] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    numbered: bool = False

    @property
    def name(self) -> int:
        """Which column names a line."""
        return next((i for i, head in enumerate(self.heads) if head.words), 0)

    def refer(self, text: str) -> int:
        """The number of a note, from 1; the same text is one note."""
        self.numbered = True
        if text not in self.notes:
            self.notes.append(text)
        return self.notes.index(text) + 1

    def note(self, text: str) -> str:
        """The mark of a note at the end of a cell or a mark, " [1]"."""
        return f" [{self.refer(text)}]"

    def told(self) -> list[str]:
        """The notes, with their numbers where cells refer to them."""
        return [f"[{i}] {text}" for i, text in enumerate(self.notes, 1)] if self.numbered else self.notes


def to_text(tables: Iterable[Table]) -> str:
    """Tables for a terminal."""
    return "\n\n".join(map(_text, tables)) + "\n"


def _text(table: Table) -> str:
    from tabulate import tabulate

    body = []
    for line in table.lines:
        filled = [*line.cells, *[DASH] * (len(table.heads) - len(line.cells))]
        wide = [28 if head.words else 16 for head in table.heads]
        cells = list(map(narrow, filled, wide))
        below = [f"  {part}" for text in (*line.marks, line.span) for part in textwrap.wrap(text, 40)]
        cells[table.name] = "\n".join([cells[table.name], *below])
        body.append(cells)
    align = ["left" if head.words else "right" for head in table.heads]
    heads = [narrow(head.text, 10) for head in table.heads]
    facts = [part for fact in table.facts for part in textwrap.wrap(fact, 100)]
    notes = [part for note in table.told() for part in textwrap.wrap(note, 100, subsequent_indent="  ")]
    parts = ["\n".join([table.title, *facts])]
    if body:
        parts.append(tabulate(body, heads, tablefmt="simple", colalign=align, disable_numparse=True))
    return "\n\n".join([*parts, *(["\n".join(notes)] if notes else [])])


def to_markdown(tables: Iterable[Table]) -> str:
    """Tables of one section as GitHub's Markdown: the first one's title heads it."""
    lines: list[str] = []
    for i, table in enumerate(tables):
        lines += [f"{'###' if i else '##'} {escape(table.title)}", ""]
        bullet = "- " if len(table.facts) > 1 else ""
        lines += [*(f"{bullet}{escape(fact)}" for fact in table.facts), ""]
        if table.lines:
            lines.append("| " + " | ".join(escape(head.text) for head in table.heads) + " |")
            lines.append("|" + "|".join(" :-- " if head.words else " --: " for head in table.heads) + "|")
            lines += [_markdown(table, line) for line in table.lines]
            lines.append("")
        lines += [*(f"- {escape(note)}" for note in table.told()), *[""] * bool(table.notes)]
    return "\n".join(lines)


def _markdown(table: Table, line: Line) -> str:
    cells = [escape(cell).replace("\n", "<br>") for cell in line.cells]
    if line.span:
        cells += [escape(line.span), *[""] * (len(table.heads) - len(cells) - 1)]
    if "best" in line.kinds:  # its name, and the number that makes it so
        cells[table.name : table.name + 2] = [f"**{cell}**" for cell in cells[table.name : table.name + 2]]
    cells[table.name] += "".join(f"<br>*{escape(mark)}*" for mark in line.marks)
    return "| " + " | ".join(cells) + " |"


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


# --- what cells hold ----------------------------------------------------------------------------


def number(value: float, digits: int) -> str:
    """Fixed digits, thousands separated; a dash for what is not there."""
    return DASH if math.isnan(value) else f"{value:,.{digits}f}"


def signed(value: float) -> str:
    """Two digits and a sign, a dash for what is not there."""
    return DASH if math.isnan(value) else f"{value:+.2f}"


def spread(mean: float, half: float, digits: int = 2) -> str:
    """A mean with half of its interval, where it has one."""
    return number(mean, digits) + ("" if math.isnan(half) else f" ± {number(half, digits)}")


#: first columns of a table of rows that are measured against one another; their cells: `versus`
VERSUS = (
    Head("row", words=True),
    Head("measured against", words=True),
    Head("n", "pairs of equal seeds, both done and not stale"),
)


def versus(row: Mapping[str, Any]) -> tuple[str, str, str]:
    """The two rows, and the pairs out of those asked for."""
    short = row["pairs"] < row["asked"]
    return row["row"], row["against"], f"{row['pairs']}" + (f" of {row['asked']}" if short else "")


def placed(
    heads: list[Head], lines: Sequence[tuple[str, ...]], rows: Sequence[Mapping[str, Any]]
) -> tuple[list[Head], list[Line]]:
    """Columns and lines, with a first column that says where, if rows differ in that.

    Args:
        heads: of the lines.
        lines: the cells of each.
        rows: what each line is of, as `where` takes them.
    """
    places = where(rows)
    if any(places):
        heads = [Head("where", words=True), *heads]
        lines = [(place, *line) for place, line in zip(places, lines, strict=True)]
    return heads, [Line(line) for line in lines]


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
