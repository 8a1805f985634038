"""The index of several grids' reports: what each holds, and the methods over all their cells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from reports.figures.draw import ranks
from reports.figures.places import styles_of
from reports.numbers.ranking import comparisons, every_two, names
from reports.numbers.ranking import ranks as rank
from reports.numbers.rows import SAME, Row, cell_of, gathered, records, rows_of
from reports.numbers.table import main
from reports.page.page import counts, figure, render, save
from reports.tables.model import DASH, Head, Line, Table, escape, number, spread, to_markdown
from reports.tables.ranking import layout

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
        paired: of `reports.numbers.contrasts.paired` where the grid says what it compares, else None.
    """

    name: str
    note: str
    frame: pd.DataFrame
    files: Mapping[str, Path]
    paired: pd.DataFrame | None = None


def write(entries: Sequence[Entry], out: Path) -> list[Path]:
    """Write ``index.html``, ``index.md`` and the figure that this shows; the same input gives the same bytes.

    Args:
        entries: in the order of the index; names differ, files lie under ``out``.
        out: directory of the grids' own folders.
    """
    every, families = _together(entries)
    ranked = rank(main(every))
    words: dict[str, Any] = {
        "grids": [
            {
                "name": entry.name,
                "note": entry.note,
                "counts": counts(entry.frame),
                "links": [(kind, path.relative_to(out).as_posix()) for kind, path in entry.files.items()],
                "table": _cells(entry),
            }
            for entry in entries
        ],
        "across": layout(ranked, comparisons(every, families)),
        "pictures": list(ranks(ranked, styles_of(rows_of(every)))),
    }
    written = [out / "index.html", out / "index.md"]
    save(written[0], render("index.html.j2", words))
    save(written[1], _markdown(words))
    for picture in words["pictures"]:
        save(out / "figures" / f"{picture.name}.svg", picture.svg)
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
    rows = rows_of(every)
    told = {_key(row): name for row, name in zip(rows, names(rows), strict=True)}
    family: dict[tuple[str, str], None] = {}
    first = 0
    for entry in entries:
        own = every.iloc[first : first + len(entry.frame)]
        first += len(own)
        mine = rows_of(own)
        named = [told[_key(row)] for row in mine]
        if entry.paired is None:
            pairs = every_two(mine, named)
        else:
            now: dict[str, dict[str, None]] = {}
            for before, name in zip(rows_of(entry.frame), named, strict=True):
                now.setdefault(before.of("variant"), {})[name] = None
            declared = zip(entry.paired["row"], entry.paired["against"], strict=True)
            pairs = [two for row, base in declared for two in product(now.get(row, {}), now.get(base, {}))]
        family |= dict.fromkeys(two for two in pairs if two[::-1] not in family)
    return every, list(family)


def _key(row: Row) -> tuple[str, ...]:
    return tuple(map(row.of, SAME))


def _cells(entry: Entry) -> Table:
    """Each (task, pair, teacher file) of a grid with its best row."""
    lines: list[Line] = []
    known = records(main(entry.frame))
    for place, rows in gathered((cell_of(row), row) for row in known).items():
        ranked = [row for row in rows if not math.isnan(row["rank"])]
        best = [row for row in ranked if row["rank"] == 1]
        ran = [row for row in rows if row["ran"]]
        where = f"{place[0]}: {place[1]} → {place[2]}"
        where += f", teacher file {place[3][:8]}" if place[3] else ""
        cells = (
            where,
            number(next((row["teacher_top1"] for row in ran), math.nan), 2),
            f"{len(ran)} of {len(rows)}",
            str(len(ranked)),
            ", ".join(row["label"] for row in best) or DASH,
            spread(best[0]["top1"], best[0]["top1_half"]) if best else DASH,
        )
        lines.append(Line(cells))
    heads = [
        Head("where", words=True),
        Head("teacher (%)"),
        Head("rows with results"),
        Head("ranked"),
        Head("best", words=True),
        Head("top-1 (%)"),
    ]
    return Table(entry.name, [_CAPTION], heads, lines)


def _markdown(words: Mapping[str, Any]) -> str:
    lines = ["# Reports", ""]
    for grid in words["grids"]:
        links = ", ".join(f"[{kind}](<{link}>)" for kind, link in grid["links"])
        told = [f"## {escape(grid['name'])}", escape(grid["note"]), f"{grid['counts']}. {links}"]
        lines += "\n\n".join([*told, ""]).splitlines()
        lines += to_markdown([grid["table"]]).splitlines()[2:]  # its title stands above
        lines.append("")
    text = "\n".join(lines) + to_markdown(words["across"])
    return text + "".join("\n".join(figure(picture)) for picture in words["pictures"])
