r"""A report's tables as LaTeX: one file that compiles alone, and that a paper can ``\input``.

It needs booktabs and graphicx, and any engine of today reads it (it is UTF-8). In a paper its head, its notes
on the run and its page breaks vanish and the ``table`` environments remain. A table wider than the line is
scaled to it. What marks a row, and what stands beside a number, becomes a note under the table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace

from reports.tables.model import Head, Line, Table, narrow

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
% A character beyond Latin: LuaLaTeX and XeLaTeX print it in a font that has it, other engines its code.
\providecommand{\dfkdchar}[1]{\ifdefined\Uchar\Uchar"#1 \else\texttt{U+#1}\fi}
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


#: what TeX reads as its own, or shows as another sign
_SPECIAL = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%",
    "_": r"\_", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}",
    ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedblright{}", "`": r"\textasciigrave{}",
    "±": r"\ensuremath{\pm}", "\u00d7": r"\ensuremath{\times}", "→": r"\ensuremath{\to}",
    "²": r"\ensuremath{^2}", "\u2212": r"\ensuremath{-}", "\u2013": r"\textendash{}",
}  # fmt: skip


def document(name: str, note: str, tables: Iterable[Table]) -> str:
    """The file.

    Args:
        name: of the grid; labels are ``tab:NAME-1`` and so on, of what is ASCII in it.
        note: how settings were found, and how much is done.
        tables: what to print.
    """
    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "grid"
    parts = [_HEAD.replace("NAME", escape(name), 1)]
    parts.append(rf"\dfkdhead{{\section*{{{escape(name)}}}" + "\n" + escape(note) + "}\n")
    parts += [_table(table, f"tab:{slug}-{i}") for i, table in enumerate(tables, 1)]
    return "\n".join([*parts, r"\dfkdend", ""])


def _table(table: Table, label: str) -> str:
    table = replace(table, notes=list(table.notes))  # its marks are notes here alone
    caption = f"{table.title}. {'; '.join(fact.rstrip('.') for fact in table.facts)}."
    lines = []
    for i, line in enumerate(table.lines):
        if i and table.lines[i - 1].given and not line.given:
            lines.append(r"\midrule")
        lines.append(_line(_cells(table, line)))
    notes = [number(note) for note in table.notes]
    if table.numbered:
        notes = [rf"\textsuperscript{{{i}}}~{note}" for i, note in enumerate(notes, 1)]
    if not lines:
        return "\n".join([rf"\par\noindent {escape(caption)}", *_items(notes), r"\dfkdbreak", ""])
    heads = [_stack(head.text, 10, "b", "l" if head.words else "r") for head in table.heads]
    return _float(caption, label, table.heads, [_line(heads), r"\midrule", *lines], notes)


def _cells(table: Table, line: Line) -> list[str]:
    """A line's cells; its marks and what stands beside its numbers become notes of the table."""
    name, label = table.name, line.cells[table.name]
    cells = []
    for i, (head, cell) in enumerate(zip(table.heads, line.cells, strict=False)):
        if i == name:
            text, told = cell, [_split(mark)[1] or table.refer(mark) for mark in line.marks]
        else:
            first, _, below = cell.partition("\n")
            text, mark = _split(first) if table.numbered else (first, 0)
            told = [mark, table.refer(f"{label}: {below}") if below else 0]
        shown = _stack(text, 34) if head.words else number(text)
        cells.append(_raised(shown, told, "best" in line.kinds and i in (name, name + 1)))
    if len(line.span) > _SPAN:
        cells.append(_raised("--", [table.refer(f"{label}: {line.span}")]))
    elif line.span:
        cells.append(rf"\multicolumn{{{len(table.heads) - len(cells)}}}{{l}}{{{escape(line.span)}}}")
    return cells


def _split(text: str) -> tuple[str, int]:
    """A cell and the number of the note that closes it, or 0."""
    found = re.fullmatch(r"(.*?) \[(\d+)\]", text, flags=re.DOTALL)
    return (found[1], int(found[2])) if found else (text, 0)


def _raised(text: str, notes: Sequence[int], bold: bool = False) -> str:
    """LaTeX text with the numbers of its notes."""
    told = ",".join(str(note) for note in notes if note)
    return (rf"\textbf{{{text}}}" if bold else text) + (rf"\textsuperscript{{{told}}}" if told else "")


def escape(text: str) -> str:
    """Text as LaTeX that prints it as it stands.

    White space of any kind is one blank, characters that cannot be seen are dropped, and nothing becomes a
    ligature (``--`` stays two hyphens).
    """
    plain = " ".join(unicodedata.normalize("NFC", text).split())
    made = "".join(_sign(c) for c in plain if c == " " or not unicodedata.category(c).startswith("C"))
    return re.sub(r"-(?=-)|'(?=')|(?<=[?!])(?=`)", lambda found: found[0] + "{}", made)


def _sign(c: str) -> str:
    if c in _SPECIAL:
        return _SPECIAL[c]
    # the letters of Latin-1 that the oldest font encoding has or composes; UTF-8 is LaTeX's default
    known = c.isascii() or ("À" <= c <= "ÿ" and c not in "ÐÞðþ÷")
    return c if known else rf"\dfkdchar{{{ord(c):04X}}}"


def number(text: str) -> str:
    """A cell: escaped, with a true minus before a digit."""
    return re.sub(r"(?<![\w.])-(?=\d)", "$-$", escape(text))


def _items(notes: Sequence[str]) -> list[str]:
    if not notes:
        return []
    return [r"{\footnotesize\raggedright", *(rf"\par\noindent {note}" for note in notes), r"\par}"]


def _float(
    caption: str, label: str, heads: Sequence[Head], lines: Sequence[str], notes: Sequence[str]
) -> str:
    spec = "".join("l" if head.words else "r" for head in heads)
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
