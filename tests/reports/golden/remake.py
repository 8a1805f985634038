"""Remake the golden files from the stored trials: ``python -m tests.reports.golden.remake``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from reports.numbers.table import main, to_csv
from tests.reports.golden import HERE, NAMES, stored, write

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        files = write(Path(folder))
        for kind, name in NAMES.items():
            (HERE / name).write_bytes(files[kind].read_bytes())
    table = main(stored("report_trials"), stored("report_curves"))
    (HERE / "report.csv").write_text(to_csv(table), encoding="utf-8")
