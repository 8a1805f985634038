"""Which figures a report has: per (task, pair, teacher file) two learning curves and a sample grid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup
from numpy.typing import NDArray

from reports import figures, look, select

#: a sample grid shows at most so many classes, spread evenly, and of each so many images
COLUMNS = 20
PER_CLASS = 2

Samples = Callable[[str], Mapping[str, NDArray[Any]] | None]
_AXES = {
    "updates": ("student_updates", 1.0, "student updates"),
    "cost": ("flops", 1e-12, "cost (TFLOP)"),
}


@dataclass(frozen=True)
class Picture:
    """A figure and its words.

    Attributes:
        name: stem of its file.
        block: title of the block it belongs to.
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
        return Markup(figures.themed(self.svg, self.title))


def draw(frame: pd.DataFrame, curves: pd.DataFrame, samples: Samples) -> Iterator[Picture]:
    """Every figure of a report: per (task, pair, teacher file) two learning curves and a sample grid."""
    every = select.cells(frame)
    styles = look.styles({c.label: bool(c.trials["reference"].iloc[0]) for c in every})
    known, runs = select.classes(frame), select.Runs(curves)
    groups: dict[tuple[str, ...], list[select.Cell]] = {}
    for cell in every:
        if cell.ids and not cell.stale:
            groups.setdefault((*_pair(cell), cell.digest), []).append(cell)
    files = Counter(key[:3] for key in groups)
    for i, (key, cells) in enumerate(groups.items(), 1):
        task, teacher, student, digest = key
        place = (f"{task}: {teacher} → {student}", "")
        if files[key[:3]] > 1:
            place = (place[0], f"teacher file {digest[:8] or 'unknown'}")
        caption = "Line: mean over seeds; band: lowest to highest seed. References grey and dashed."
        if old := [c.label for c in every if c.ids and c.stale and _pair(c) == key[:3]]:
            caption += f" Stale results are left out: {', '.join(old)}."
        top1 = float(cells[0].done["teacher_top1"].mean()) if "teacher_top1" in frame else float("nan")
        for kind, (column, scale, axis) in _AXES.items():
            data = _long(cells, runs, column, scale)
            if not data.empty:
                yield Picture(
                    f"curves-{kind}-{i}",
                    *place,
                    f"Learning curves against {axis}",
                    caption,
                    figures.svg(figures.learning_curves(data, styles, axis, top1), f"curves-{kind}-{i}"),
                )
        if picture := _samples(cells, samples, known[task], place, f"samples-{i}"):
            yield picture


def _pair(cell: select.Cell) -> tuple[str, ...]:
    return tuple(str(cell.trials[c].iloc[0]) for c in ("task", "teacher", "student"))


def _long(cells: Sequence[select.Cell], curves: select.Runs, column: str, scale: float) -> pd.DataFrame:
    parts = []
    for cell in cells:
        found = select.together(curves, cell.ids, [column, "top1"])
        if found:
            runs, points = found["top1"].shape
            x = scale * found[column].mean(axis=0)
            parts.append(
                pd.DataFrame(
                    {
                        "label": cell.label,
                        "seed": np.repeat(np.arange(runs), points),
                        "x": np.tile(x, runs),
                        "top1": found["top1"].ravel(),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _samples(
    cells: Sequence[select.Cell], samples: Samples, classes: float, place: tuple[str, str], name: str
) -> Picture | None:
    """The sample grid: of each method, the images of its first seed that has any."""
    found, without = {}, []
    for cell in cells:
        ids = cell.done.sort_values("seed")["id"]
        arrays = next((a for id in ids if (a := samples(str(id))) is not None and len(a["images"])), None)
        if arrays is None:
            without.append(cell.label)
        else:
            found[cell.label] = arrays
    if not found:
        return None
    k = int(max(select.labels(a).max() for a in found.values())) + 1 if np.isnan(classes) else int(classes)
    wanted = sorted({round(i) for i in np.linspace(0, k - 1, min(k, COLUMNS))})
    strips = [
        figures.Strip(
            label,
            "by label asked" if (a["y"] >= 0).any() else "by the teacher's label",
            select.tiles(a, wanted, PER_CLASS),
        )
        for label, a in found.items()
    ]
    strips = [s for s in strips if any(s.tiles)]
    caption = (
        "What the student was trained on at the end, first seed. Columns are classes: the label asked for, "
        "or the teacher's decision where a method asks for none; “none”: no such image among the samples."
    )
    if k > len(wanted):
        caption += f" {len(wanted)} of {k} classes."
    if without:
        caption += f" No images of its own: {', '.join(without)}."
    figure = figures.sample_grid(strips, wanted, PER_CLASS)
    return Picture(name, *place, "Samples, same labels for all", caption, figures.svg(figure, name))
