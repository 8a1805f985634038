"""Where a report's figures belong, its (task, pair, teacher file) places, and what a figure carries."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from reports.figures import canvas, style
from reports.numbers.rows import Row, classes, gathered, rows_of


@dataclass(frozen=True)
class Picture:
    """A figure and its words.

    Attributes:
        name: stem of its file.
        block: title of the block it belongs to, or the anchor of the section.
        file: which teacher file it is about, "" where the block knows one.
        svg: a whole document, in light colours.
    """

    name: str
    block: str
    file: str
    title: str
    caption: str
    svg: str

    @property
    def themed(self) -> Markup:
        """For the page: in the page's colours."""
        return Markup(canvas.themed(self.svg, self.title))


@dataclass(frozen=True)
class Place:
    """Results of one task, pair and teacher file.

    Attributes:
        key: task, teacher, student, digest of the teacher file.
        number: of the place in the report, from 1; ends the names of its files.
        block, file: as a `Picture` has them.
        rows: those with results that stand, references first, then controls.
        stale: labels of rows left out because their results no longer stand.
        styles: of every row of the report.
        teacher: top-1 in percent, NaN where nobody knows it.
        classes: of the task, NaN likewise.
    """

    key: tuple[str, str, str, str]
    number: int
    block: str
    file: str
    rows: Sequence[Row]
    stale: Sequence[str]
    styles: Mapping[str, style.Style]
    teacher: float
    classes: float

    def picture(self, name: str, title: str, caption: str, figure: Figure) -> Picture:
        """A figure of this place."""
        stem = f"{name}-{self.number}"
        if self.stale:
            caption += f" Stale results are left out: {', '.join(self.stale)}."
        return Picture(stem, self.block, self.file, title, caption, canvas.svg(figure, stem))


def kind(row: Row) -> str:
    """Whether a row is a "method", a "control" or a "reference"."""
    return next((flag for flag in ("reference", "control") if row.flag(flag)), "method")


def styles_of(rows: Sequence[Row]) -> dict[str, style.Style]:
    """How each row of a report is drawn; rows of one method are neighbours, so that their colours differ."""
    names = [row.of("method") for row in rows]
    methods = {name: i for i, name in enumerate(dict.fromkeys(names))}
    ordered = sorted(zip(names, rows, strict=True), key=lambda each: methods[each[0]])  # stable
    return style.styles({row.label: (name, kind(row)) for name, row in ordered})


def places_of(frame: pd.DataFrame) -> list[Place]:
    """The places of a report that have results, in the frame's order."""
    every = rows_of(frame)
    styles = styles_of(every)
    known = classes(frame)
    groups = gathered(((*_pair(row), row.digest), row) for row in every if row.ids and not row.stale)
    files = Counter(key[:3] for key in groups)
    made = []
    for i, (key, rows) in enumerate(groups.items(), 1):
        tops = [float(v) for c in rows for v in c.done.get("teacher_top1", ())]
        made.append(
            Place(
                key,
                i,
                f"{key[0]}: {key[1]} → {key[2]}",
                f"teacher file {key[3][:8] or 'unknown'}" if files[key[:3]] > 1 else "",
                rows,
                [c.label for c in every if c.ids and c.stale and _pair(c) == key[:3]],
                styles,
                next((v for v in tops if not math.isnan(v)), math.nan),
                known[key[0]],
            )
        )
    return made


def _pair(row: Row) -> tuple[str, str, str]:
    return row.of("task"), row.of("teacher"), row.of("student")
