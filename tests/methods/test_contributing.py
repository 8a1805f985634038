"""The example of CONTRIBUTING.md works as written: it passes the checks and joins the demo's rows."""

import re
import sys
from pathlib import Path

import pytest

from harness import registry
from harness.grids import expand, load, override
from harness.trials import check

ROOT = Path(__file__).parents[2]


CODE = re.search(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.S).group(1)


@pytest.fixture
def balanced(tmp_path, monkeypatch):
    (tmp_path / "balanced.py").write_text(CODE)
    import methods

    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(tmp_path)])
    yield "balanced"
    registry.methods.get.cache_clear()
    sys.modules.pop("methods.balanced", None)


def test_the_example_passes_every_check(balanced):
    assert [v for v in check.check(balanced) if v.error] == []


def test_the_example_joins_the_demo_without_an_edit(balanced):
    grid = load.load(str(ROOT / "benchmarks/digits.py"))
    assert balanced in expand.rows_of(grid)
    mine = [t for t in expand.trials_of(grid) if t.method == balanced]
    assert [t.seed for t in mine] == [0]
    full = override.override(grid, seeds=[0, 1, 2])
    assert [t.seed for t in expand.trials_of(full) if t.method == balanced] == [0, 1, 2]
    assert mine[0].settings["batch"] == 128  # the grid's common settings reach it


def test_the_example_is_short():
    assert len(CODE[CODE.index("from dataclasses") :].splitlines()) < 40
