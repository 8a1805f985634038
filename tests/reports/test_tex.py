from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from reports.numbers.findings import Findings, work_out
from reports.tables import tex
from reports.tables.layout import blocks
from reports.tables.model import Head, Line, Table
from reports.tables.sections import sections
from tests.build import frame_rows
from tests.reports.golden import CURVES, KNOWN, numbers

needs_tex = [
    pytest.mark.tex,
    pytest.mark.skipif(
        not shutil.which("pdflatex"), reason="no pdflatex (Debian: texlive-latex-recommended)"
    ),
]
#: what a row may be called
NAMES = [
    "100 % of R&D_1 #2 {x} $y^2$ ~z \\backslash", "<a|b> \"quoted\" 'single' `back`", "[1] * first",
    "größer Łódź Çağr\u0131 ñ", "αβγ → ∞ ≤ ½ \u00d7 3°", "中文 😀 и",
    "-- --- ?` !` ''", "tab\there \x07\u200b", "Å é ő ś ī ḥ", "-5",
]  # fmt: skip


def test_a_wrapped_line_is_no_argument_of_the_one_before():
    # a bracket or star after \\\\ would be read as the space to leave there, or as "no page break"
    text = tex._stack("cpsc with a rather long row name, [drop3] and more words", 34)
    assert re.findall(r"\\\\ (\S+)", text) == ["{}[drop3]"]


class TestEscape:
    @pytest.mark.parametrize(
        ("text", "want"),
        [
            ("a_b", r"a\_b"),
            ("50 % & #1 ${x}$", r"50 \% \& \#1 \$\{x\}\$"),
            ("a\\b~c^d", r"a\textbackslash{}b\textasciitilde{}c\textasciicircum{}d"),
            ("<β>", r"\textless{}\dfkdchar{03B2}\textgreater{}"),
            ("größer Åé", "größer Åé"),  # LaTeX reads UTF-8
            ("ą þ", r"\dfkdchar{0105} \dfkdchar{00FE}"),  # which the oldest encoding lacks
            ("1 ± 2 → 3", r"1 \ensuremath{\pm} 2 \ensuremath{\to} 3"),
            ("中😀", r"\dfkdchar{4E2D}\dfkdchar{1F600}"),
            ("--- ''", "-{}-{}- '{}'"),
            ("–", r"\textendash{}"),  # noqa: RUF001
            (" a\tb\n c ", "a b c"),
            ("a\x07b\u200bc", "abc"),
        ],
    )
    def test_by_hand(self, text, want):
        assert tex.escape(text) == want

    def test_what_is_composed_and_decomposed_is_one(self):
        assert tex.escape("o\u0308") == tex.escape("\u00f6")

    def test_a_minus_stands_before_a_number_alone(self):
        assert tex.number("-0.60 ± 2") == r"$-$0.60 \ensuremath{\pm} 2"
        assert tex.number("wrn-16-2, a - b") == "wrn-16-2, a - b"


def document(found: Findings, name: str = "g", note: str = "") -> str:
    parts = [blocks(found.table), *sections(found).values()]
    return tex.document(name, note, [table for part in parts for table in part])


def of_rows(rows: list[dict[str, object]], **words: str) -> str:
    return document(work_out(pd.DataFrame(rows), None, ()), **words)


def of_numbers(**words: str) -> str:
    return document(work_out(numbers(), CURVES, KNOWN), **words)


def report() -> str:
    rows = [row for i, name in enumerate(NAMES) for row in frame_rows(50.0 + i, 51.0, None, variant=name)]
    rows = [r | {"reason": "\\oops_{%"} if r["status"] == "failed" else r for r in rows]
    return of_rows(rows, name="a_b", note="50 % & more")


class TestDocument:
    def test_every_row_fills_its_columns(self):
        for first in of_numbers().split(r"\end{table}")[:4]:
            heads, body = first[first.index(r"\toprule") :].split(r"\midrule", 1)
            columns = len(re.findall(r"(?<!\\)&", heads)) + 1
            assert rf"\begin{{tabular}}{{rl{'r' * (columns - 2)}}}" in first
            for line in body[: body.index(r"\bottomrule")].splitlines():
                if line.endswith(r"\\"):
                    wide = re.findall(r"\\multicolumn\{(\d+)\}", line)
                    cells = len(re.findall(r"(?<!\\)&", line)) + 1 + sum(int(n) - 1 for n in wide)
                    assert cells == columns, line

    def test_a_long_reason_becomes_a_note(self):
        rows = frame_rows(0.0, variant="x", status="skipped", reason="because " * 20)
        text = of_rows(rows)
        assert r" & x & --\textsuperscript{1} \\" in text
        assert r"\textsuperscript{1}~x: skipped: because" in text

    def test_labels_are_unique_and_ascii(self):
        text = of_numbers(name="größe 1")
        labels = re.findall(r"\\label\{(.*?)\}", text)
        assert len(labels) == len(set(labels)) == text.count(r"\begin{table}") and labels[0] == "tab:gr-e-1-1"

    def test_braces_and_environments_are_balanced(self):
        text = report()
        bare = re.sub(r"\\[{}\\]", "", text)
        assert bare.count("{") == bare.count("}")
        for name in ("table", "tabular", "minipage"):
            assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}")

    def test_a_label_in_brackets_is_no_argument(self):
        heads, lines = [Head("row", words=True), Head("n")], [Line(("[1] x", "1")), Line(("*", "2"))]
        text = tex.document("g", "", [Table("T", ["c"], heads, lines)])
        assert "{}[1] x & 1 \\\\\n{}* & 2 \\\\" in text

    def test_long_notes_leave_the_float(self):
        shown = ["c"], [Head("row", words=True)], [Line(("x",))]
        short, long = (tex.document("g", "", [Table("T", *shown, [n])]) for n in ("a", "a" * 2000))
        assert short.index("minipage") < short.index(r"\end{table}") and r"\begin{minipage}" not in long
        assert long.index("aaaa") > long.index(r"\end{table}")


def compiled(folder: Path, name: str) -> tuple[str, str]:
    """Run pdflatex twice; its log and the words of the pages, "" where no pdftotext is there."""
    for _ in range(2):
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name],
            cwd=folder, capture_output=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout.decode("latin-1")[-3000:]
    log = (folder / f"{name}.log").read_text("latin-1")
    assert "Missing character" not in log and "Overfull" not in log and "undefined" not in log
    if not shutil.which("pdftotext"):
        return log, ""
    words = subprocess.run(["pdftotext", "-layout", f"{name}.pdf", "-"], cwd=folder, capture_output=True)
    return log, words.stdout.decode("utf-8")


class TestCompiles:
    pytestmark = needs_tex

    def test_alone(self, tmp_path):
        (tmp_path / "report.tex").write_text(of_numbers(name="Nümbers", note="50 %"))
        log, words = compiled(tmp_path, "report")
        assert "Output written on report.pdf" in log and "Float too large" not in log
        if words:
            assert re.search(r"50 % of.cpsc", words) and "reproduced" in words and "U+4E2D" in words

    def test_any_name(self, tmp_path):
        (tmp_path / "report.tex").write_text(report())
        _, words = compiled(tmp_path, "report")
        if words:
            plain = re.sub(r"\s+", " ", words)
            for shown in ("100 % of R&D 1 #2 {x} $y^2$ ~z \\backslash", "[1] * first", "U+1F600"):
                assert shown in plain or shown in plain.replace("˜", "~").replace("ˆ", "^"), shown  # noqa: RUF001

    def test_in_a_paper(self, tmp_path):
        (tmp_path / "report.tex").write_text(of_numbers(name="digits", note="HEADLINE"))
        (tmp_path / "paper.tex").write_text(
            "\\documentclass[twocolumn]{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
            "BEFORE table~\\ref{tab:digits-1}\n\\input{report}\nAFTER\\typeout{went on}\n\\end{document}\n"
        )
        log, words = compiled(tmp_path, "paper")
        assert "went on" in log
        if words:
            assert "AFTER" in words and "HEADLINE" not in words and "BEFORE table 1" in words
