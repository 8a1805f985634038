"""The index of several grids' reports: what each holds, and the methods over all their cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from reports.figures import draw, places
from reports.numbers import ranking
from reports.numbers import rows as numbers_rows
from reports.numbers.table import main
from reports.page import page
from reports.tables import across, model
from reports.tables.model import DASH, Head, Table, number

_CAPTION = (
    "Best: first among the ranked rows of the cell, top-1 at its last point, ± half of the 95 % t-interval."
)


@dataclass(frozen=True)
class Entry:
    """One grid of the index.

    Attributes:
        name: the grid's.
        note: how its settings were found.
        frame: its trials, as `harness.store.frame.frame` makes it.
        files: kind -> file, as `reports.page.page.write` gave them.
        family: (row, the row it is measured against) where the grid says what it compares, else None.
    """

    name: str
    note: str
    frame: pd.DataFrame
    files: Mapping[str, Path]
    family: Sequence[tuple[str, str]] | None = None


def write(entries: Sequence[Entry], out: Path) -> list[Path]:
    """Write ``index.html``, ``index.md`` and the figure that this shows; the same input gives the same bytes.

    Args:
        entries: in the order of the index; names differ, files lie under ``out``.
        out: directory of the grids' own folders.
    """
    every, families = _together(entries)
    cells = [(entry, _cells(entry)) for entry in entries]
    tests, ranked = ranking.comparisons(every, families), ranking.ranks(main(every))
    words: dict[str, Any] = {
        "grids": [
            {
                "name": entry.name,
                "note": entry.note,
                "counts": page.counts(entry.frame),
                "links": [(kind, path.relative_to(out).as_posix()) for kind, path in entry.files.items()],
                "table": table,
            }
            for entry, table in cells
        ],
        "across": across.layout(ranked, tests),
        "pictures": list(draw.ranks(ranked, places.styles_of(numbers_rows.cells(every)))),
    }
    written = [out / "index.html", out / "index.md"]
    page.replace(written[0], page.render("index.html.j2", words))
    page.replace(written[1], _markdown(words))
    for picture in words["pictures"]:
        page.replace(out / "figures" / f"{picture.name}.svg", picture.svg)
    return written


def _together(entries: Sequence[Entry]) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
    """The rows of all grids, and which two of them are compared: what each grid compares, no more.

    Rows of one name but not of one method also bear the method's.
    """
    every = pd.concat([entry.frame for entry in entries], ignore_index=True)
    methods = every.groupby("variant")["method"].nunique()
    several = set(methods.index[methods > 1])
    both = every["variant"].astype(str) + " (" + every["method"].astype(str) + ")"
    every = every.assign(variant=every["variant"].where(~every["variant"].isin(several), both))
    cells = numbers_rows.cells(every)
    told = {_row(cell): name for cell, name in zip(cells, ranking.names(cells), strict=True)}
    family: dict[tuple[str, str], None] = {}
    first = 0
    for entry in entries:
        own = every.iloc[first : first + len(entry.frame)]
        first += len(own)
        mine = numbers_rows.cells(own)
        named = [told[_row(cell)] for cell in mine]
        if entry.family is None:
            pairs = ranking.every_two(mine, named)
        else:
            now: dict[str, dict[str, None]] = {}
            for before, name in zip(numbers_rows.cells(entry.frame), named, strict=True):
                now.setdefault(str(before.trials["variant"].iloc[0]), {})[name] = None
            declared = [(now.get(row, {}), now.get(base, {})) for row, base in entry.family]
            pairs = [two for both_ends in declared for two in product(*both_ends)]
        family |= dict.fromkeys(two for two in pairs if two[::-1] not in family)
    return every, list(family)


def _row(cell: numbers_rows.Cell) -> tuple[str, ...]:
    return tuple(str(cell.trials[name].iloc[0]) for name in numbers_rows.SAME)


def _cells(entry: Entry) -> Table:
    """Each (task, pair, teacher file) of a grid with its best row."""
    lines: list[tuple[str, ...]] = []
    known = numbers_rows.records(main(entry.frame))
    for place in dict.fromkeys(_place(row) for row in known):
        rows = [row for row in known if _place(row) == place]
        ranked = [row for row in rows if not math.isnan(row["rank"])]
        best = [row for row in ranked if row["rank"] == 1]
        ran = [row for row in rows if row["ran"]]
        top1 = f"{best[0]['top1']:.2f}" if best else DASH
        half = f" ± {best[0]['top1_half']:.2f}" if best and not math.isnan(best[0]["top1_half"]) else ""
        teacher = next((row["teacher_top1"] for row in ran), math.nan)
        lines.append(
            (
                f"{place[0]}: {place[1]} → {place[2]}"
                + (f", teacher file {place[3][:8]}" if place[3] else ""),
                number(teacher, 2),
                f"{len(ran)} of {len(rows)}",
                str(len(ranked)),
                ", ".join(row["label"] for row in best) or DASH,
                top1 + half,
            )
        )
    heads = [
        Head("where"),
        Head("teacher (%)"),
        Head("rows with results"),
        Head("ranked"),
        Head("best"),
        Head("top-1 (%)"),
    ]
    return Table(entry.name, _CAPTION, heads, lines)


def _place(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in numbers_rows.CELL)


def _markdown(words: Mapping[str, Any]) -> str:
    escape = model.escape
    lines = ["# Reports", ""]
    for grid in words["grids"]:
        links = ", ".join(f"[{kind}](<{link}>)" for kind, link in grid["links"])
        lines += [
            f"## {escape(grid['name'])}",
            "",
            escape(grid["note"]),
            "",
            f"{grid['counts']}. {links}",
            "",
        ]
        lines += model.to_markdown([grid["table"]]).splitlines()[2:]  # its title stands above
        lines.append("")
    text = "\n".join(lines) + model.to_markdown(words["across"])
    return text + "".join("\n".join(page.figure(picture)) for picture in words["pictures"])
