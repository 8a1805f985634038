"""Stored trials and the report they give: the layout word for word, the numbers as CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from reports.numbers import published
from reports.numbers.findings import work_out
from reports.page import page
from reports.tables import sections
from tests.reports.golden.numbers_frame import trials

HERE = Path(__file__).parent
#: kind of file -> its golden one
NAMES = {
    "md": "numbers.md", "csv": "numbers.csv", "tex": "numbers.tex", "verdicts": "numbers_verdicts.csv",
    "comparisons": "numbers_comparisons.csv", "txt": "numbers.txt",
}  # fmt: skip
KNOWN = published.load(HERE / "numbers_published.csv")
_POINT = ("id", "variant", "seed", "point", "round", "student_updates", "flops", "seconds", "top1")
#: curves of nobody
CURVES = pd.DataFrame({name: pd.Series(dtype=float) for name in _POINT})


def stored(name: str) -> pd.DataFrame:
    """``report_trials`` or ``report_curves``, of the same trials.

    Made up once: every kind of row a page can meet, on forty points.
    """
    lines = (HERE / f"{name}.jsonl").read_text("utf-8").splitlines()
    return pd.DataFrame([json.loads(line) for line in lines])


def numbers() -> pd.DataFrame:
    """The trials of `numbers_frame`, which the golden report is of."""
    return pd.DataFrame(trials())


def images(id: str) -> dict[str, np.ndarray]:
    """18 pictures whose grey is ten times their class; class 3 never appears; nobody asked for labels."""
    t = np.array([k for k in range(10) if k != 3] * 2)
    return {
        "images": np.broadcast_to((10 * t).astype(np.uint8)[:, None, None, None], (18, 1, 8, 8)),
        "y": np.full(18, -1),
        "t": t,
    }


def write_digits(
    out: Path, formats: Sequence[str] = ("html", "md", "csv"), frame: pd.DataFrame | None = None
) -> dict[str, Path]:
    """The report of the stored trials, or of a frame."""
    frame = stored("report_trials") if frame is None else frame
    note = "Authors' settings & <ours>."
    return page.write("digits", note, frame, stored("report_curves"), images, out, formats)


def write(out: Path) -> dict[str, Path]:
    """The report of `numbers` in every format, and what a terminal shows of it."""
    frame, formats = numbers(), ("md", "csv", "tex")
    files = page.write(
        "Nümbers", "A note & <more>.", frame, CURVES, lambda id: None, out, formats, known=KNOWN
    )
    (out / "report.txt").write_text(sections.text(work_out(frame, CURVES, KNOWN)), encoding="utf-8")
    return files | {"txt": out / "report.txt"}
