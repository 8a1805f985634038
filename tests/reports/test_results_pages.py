"""The tables of README.md and benchmarks/results/README.md against the published CSVs."""

from __future__ import annotations

import csv
import math
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results"
#: heading of a column -> (column of report.csv, decimals)
PLAIN = {"best, oracle (%)": ("top1_oracle", 2), "seconds": ("seconds", 0), "rank": ("rank", 0)}
SPREAD = {
    "top-1 (%)": ("top1", 2),
    "agreement (%)": ("agreement", 2),
    "labels met (%)": ("label_match", 0),
    "fd_teacher": ("fd_teacher", 1),
}


def tables(mark: str = "table") -> list[tuple[str, str, list[dict[str, str]]]]:
    """(page, folder, rows by heading) of each table below a mark ``<!-- table: FOLDER -->``."""
    found = []
    for page in (ROOT / "README.md", RESULTS / "README.md"):
        for folder, text in re.findall(rf"<!-- {mark}: (\S+) -->\n((?:\|.*\n)+)", page.read_text()):
            lines = [[cell.strip(" *") for cell in line[1:-1].split("|")] for line in text.splitlines()]
            rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
            found.append((str(page.relative_to(ROOT)), folder, rows))
    return found


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def number(text: str, decimals: int) -> str:
    value = float(text or "nan")
    return "" if math.isnan(value) else f"{value:.{decimals}f}"


def test_there_are_tables():
    assert {"digits", "ablation_cfe", "ablation_losses"} <= {folder for _, folder, _ in tables()}
    assert {folder for _, folder, _ in tables("audit")} >= {"defects"}


@pytest.mark.parametrize(
    ("page", "folder", "rows"), [pytest.param(*t, id=f"{t[0]}:{t[1]}") for t in tables()]
)
def test_a_table_says_what_the_csv_says(page: str, folder: str, rows: list[dict[str, str]]):
    report = {row["label"]: row for row in read(RESULTS / folder / "report.csv")}
    seen = []
    for row in rows:
        label = row.get("method") or row["row"]
        label = label.split(" (")[0] if label.split(" (")[0] in report else label
        seen.append(label)
        for heading, (column, decimals) in PLAIN.items():
            if heading in row:
                assert row[heading].strip("-") == number(report[label][column], decimals), (label, heading)
        for heading, (column, decimals) in SPREAD.items():
            if heading in row:
                mean, half = (number(report[label][c], decimals) for c in (column, f"{column}_half"))
                assert row[heading].strip("-") == " ± ".join(filter(None, [mean, half])), (label, heading)
    assert sorted(seen) == sorted(report), "a row of the report is missing, or twice"


@pytest.mark.parametrize(
    ("folder", "rows"),
    [pytest.param(f, rows, id=f"{p}:{f}") for p, f, rows in tables() if "verdict" in rows[0]],
)
def test_differences_are_those_of_the_csv(folder: str, rows: list[dict[str, str]]):
    contrasts = {(row["row"], row["against"]): row for row in read(RESULTS / folder / "contrasts.csv")}
    told = {(row["row"], row["against"]): row for row in rows if row["against"]}
    assert told.keys() == contrasts.keys()
    for pair, row in told.items():
        found = contrasts[pair]
        difference = f"{float(found['difference']):+.2f} ± {float(found['half_seeds']):.2f}"
        assert (row["difference (points)"], row["verdict"]) == (difference, found["verdict"]), pair


@pytest.mark.parametrize(
    ("folder", "rows"), [pytest.param(f, rows, id=f"{p}:{f}") for p, f, rows in tables("audit")]
)
def test_an_audit_says_what_the_csv_says(folder: str, rows: list[dict[str, str]]):
    found = {row["row"]: row for row in read(RESULTS / folder / "contrasts.csv")}
    assert sorted(row["defect"] for row in rows) == sorted(found), "a defect is missing, or twice"
    for told in rows:
        row = found[told["defect"]]
        assert told == {
            "defect": row["row"],
            "n": row["pairs"],
            "with it (%)": number(row["top1_row"], 2),
            "without (%)": number(row["top1_against"], 2),
            "difference (points)": f"{float(row['difference']):+.2f} ± {number(row['half_seeds'], 2)}",
            "seeds and images ±": number(row["half_joint"], 2),
            "images alone ±": number(row["resolution"], 2),
            "verdict": row["verdict"],
        }
