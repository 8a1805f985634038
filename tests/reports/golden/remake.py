"""Remake the golden report from the stored frame: ``python -m tests.reports.golden.remake``."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from reports.numbers import table
from reports.page import page
from reports.tables.text import to_text
from tests.reports import test_golden_numbers as n
from tests.reports import test_reports as t


def main() -> None:
    frame, curves = t.stored("trials"), t.stored("curves")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        files = page.write("digits", "Authors' settings & <ours>.", frame, curves, t.images, Path(folder))
        for kind in ("md", "csv"):
            (t.GOLDEN / t.NAMES[kind]).write_bytes(files[kind].read_bytes())
        for kind, path in n.write(Path(folder) / "numbers").items():
            if kind in n.NAMES:
                (n.GOLDEN / n.NAMES[kind]).write_bytes(path.read_bytes())
    text = to_text(table.main(frame, curves))
    (t.GOLDEN / "report.txt").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
