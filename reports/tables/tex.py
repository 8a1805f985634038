r"""A report's tables as LaTeX: one file that compiles alone, and that a paper can ``\input``.

It needs booktabs and graphicx, any engine, and is plain ASCII. In a paper its head, its notes on the run
and its page breaks vanish and the ``table`` environments remain. A table wider than the line is scaled to it.
What marks a row, and what stands beside a number, becomes a note under the table.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from reports.tables.findings import Findings
from reports.tables.latex import escape
from reports.tables.layout import blocks
from reports.tables.model import WORDS, Block, Row, Table, narrow

_HEAD = r"""% Tables of the grid NAME, written by dfkd report. Compiles alone; a paper that loads booktabs and
% graphicx can \input it.
\expandafter\ifx\csname @notprerr\endcsname\documentclass
  \def\dfkdhead#1{}\let\dfkdbreak\relax\let\dfkdend\relax
\else
  \documentclass[a4paper]{article}
  \usepackage{booktabs,graphicx}
  \usepackage[landscape,margin=12mm]{geometry}
  \def\dfkdhead#1{#1}\def\dfkdbreak{\clearpage}\def\dfkdend{\end{document}}
  \begin{document}
\fi
% A character that TeX's own fonts lack; redefine it where yours have it: {\symbol{"#1}}.
\providecommand{\dfkdchar}[1]{\texttt{U+#1}}
% Shrink what is wider than the line or higher than the page, and nothing else.
\providecommand{\dfkdfit}[1]{\begingroup\setbox0\hbox{#1}%
  \ifdim\wd0>\linewidth\setbox0\hbox{\resizebox{\linewidth}{!}{\box0}}\fi
  \dimen0=\ht0\advance\dimen0 by\dp0
  \ifdim\dimen0>.7\textheight\setbox0\hbox{\resizebox{!}{.7\textheight}{\box0}}\fi
  \leavevmode\box0\endgroup}
"""
#: longer notes leave the float and follow it, since a float cannot break
_LONG = 1500
#: what is said in place of a row's numbers stands in the row up to here, else in a note
_SPAN = 70


def document(name: str, note: str, found: Findings) -> str:
    """The file.

    Args:
        name: of the grid; labels are ``tab:NAME-1`` and so on, of what is ASCII in it.
        note: how settings were found, and how much is done.
        found: what to print.
    """
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "grid"
    labels = (f"tab:{slug}-{i}" for i in range(1, 10**6))
    parts = [_HEAD.replace("NAME", escape(name), 1)]
    parts.append(rf"\dfkdhead{{\section*{{{escape(name)}}}" + "\n" + escape(note) + "}\n")
    parts += [_block(block, next(labels)) for block in blocks(found.table)]
    parts += [_table(table, next(labels)) for part in found.sections.values() for table in part]
    return "\n".join([*parts, r"\dfkdend", ""])


def _block(block: Block, label: str) -> str:
    lines = []
    for i, row in enumerate(block.rows):
        given = row.reference or row.control
        before = block.rows[i - 1] if i else row
        if i and not given and (before.reference or before.control):
            lines.append(r"\midrule")
        lines.append(_row(block, row))
    heads = [_stack(head.text, 10, "b", "r") for head in block.heads]
    caption = f"{block.title}. {'; '.join(block.facts)}."
    notes = [rf"\textsuperscript{{{i}}}~{number(note)}" for i, note in enumerate(block.notes, 1)]
    return _float(caption, label, "rl" + "r" * (len(heads) - 2), heads, lines, notes)


def _row(block: Block, row: Row) -> str:
    told = [_split(mark)[1] or _split(block.note(mark))[1] for mark in row.marks]
    name = _raised(escape(row.label), told, row.best)
    if row.span:
        if len(row.span) <= _SPAN:
            return _line(
                [row.rank, name, rf"\multicolumn{{{len(block.heads) - 2}}}{{l}}{{{escape(row.span)}}}"]
            )
        return _line([row.rank, name, _raised("--", [_split(block.note(f"{row.label}: {row.span}"))[1]])])
    cells = []
    for i, cell in enumerate(row.cells):
        first, _, below = cell.partition("\n")
        text, mark = _split(first)
        more = _split(block.note(f"{row.label}: {below}"))[1] if below else ""
        cells.append(_raised(number(text), [mark, more], row.best and not i))
    return _line([row.rank, name, *cells])


def _split(text: str) -> tuple[str, str]:
    """A cell and the number of the note that closes it, or ""."""
    found = re.fullmatch(r"(.*?) \[(\d+)\]", text, flags=re.DOTALL)
    return (found[1], found[2]) if found else (text, "")


def _raised(text: str, marks: Sequence[str], bold: bool = False) -> str:
    """LaTeX text with the numbers of its notes."""
    told = ",".join(mark for mark in marks if mark)
    return (rf"\textbf{{{text}}}" if bold else text) + (rf"\textsuperscript{{{told}}}" if told else "")


def number(text: str) -> str:
    """A cell: escaped, with a true minus before a digit."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escape(text))


def _table(table: Table, label: str) -> str:
    notes = [number(note) for note in table.notes]
    if not table.rows:
        return _plain(f"{table.title}. {table.caption}", notes)
    words = [head.text in WORDS for head in table.heads]
    heads = [
        _stack(head.text, 12, "b", "l" if word else "r")
        for head, word in zip(table.heads, words, strict=True)
    ]
    lines = [
        _line([_stack(cell, 34) if word else number(cell) for cell, word in zip(row, words, strict=True)])
        for row in table.rows
    ]
    spec = "".join("l" if word else "r" for word in words)
    return _float(f"{table.title}. {table.caption}", label, spec, heads, lines, notes)


def _plain(text: str, notes: Sequence[str]) -> str:
    return "\n".join([rf"\par\noindent {escape(text)}", *_items(notes), r"\dfkdbreak", ""])


def _items(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [r"{\footnotesize\raggedright", *(rf"\par\noindent {note}" for note in notes), r"\par}"]


def _float(
    caption: str, label: str, spec: str, heads: Sequence[str], lines: Sequence[str], notes: Sequence[str]
) -> str:
    short = sum(map(len, notes)) <= _LONG
    inside = [r"\par\smallskip", r"\begin{minipage}{\linewidth}", *_items(notes), r"\end{minipage}"]
    return "\n".join(
        [
            r"\begin{table}[htbp]",
            r"\centering\small",
            rf"\caption{{{escape(caption)}}}",
            rf"\label{{{label}}}",
            rf"\dfkdfit{{\begin{{tabular}}{{{spec}}}",
            r"\toprule",
            _line(heads),
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            *(inside if notes and short else []),
            r"\end{table}",
            *([] if short else _items(notes)),
            r"\dfkdbreak",
            "",
        ]
    )


def _line(cells: Sequence[str]) -> str:
    return _guarded(" & ".join(cells)) + r" \\"


def _guarded(line: str) -> str:
    """A row whose opening bracket or star is not read as an argument of the row before."""
    return ("{}" if line[:1] in ("[", "*") else "") + line


def _stack(text: str, width: int, place: str = "t", side: str = "l") -> str:
    """Text in lines of at most so many characters, its first or its last on the row's line."""
    lines = [number(line) for line in narrow(text, width).split("\n")]
    if len(lines) == 1:
        return lines[0]
    lines = [_guarded(line) for line in lines]
    return rf"\begin{{tabular}}[{place}]{{@{{}}{side}@{{}}}}" + r" \\ ".join(lines) + r"\end{tabular}"
