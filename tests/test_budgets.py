"""What a row may spend: equal updates, equal cost, seeds of its own."""

from pathlib import Path

import pytest

from harness import data, grids
from harness.config import Budget, Grid
from harness.costs import flops_per_update
from harness.errors import DfkdError
from harness.results import Results
from harness.rundir import Dirs

PAIR = ("wrn16_2", "wrn16_1")
SMALL = {"batch": 32, "g_steps": 2, "s_steps": 5}


def grid(**more) -> Grid:
    rows = {"cpsc": ("cpsc", SMALL), "dfad": ("dfad", {"batch": 64})}
    given = {"variants": rows, "budget": Budget(amount=100, unit="student_updates"), "seeds": (0,)} | more
    return Grid(tasks=("digits",), pairs=(PAIR,), **given)


def test_equal_cost_is_what_the_named_row_spends():
    spent = flops_per_update("cpsc", SMALL, data.describe("digits"), PAIR) * 100
    found = {t.label: t.budget for t in grid(equal_cost="cpsc").trials()}
    assert {b.unit for b in found.values()} == {"flops"} and len(set(found.values())) == 1
    assert found["dfad"].amount == pytest.approx(spent, rel=1e-3)
    assert found["dfad"].amount == float(
        f"{found['dfad'].amount:.4g}"
    )  # four digits, whatever torch's last bit


def test_equal_cost_takes_the_rows_own_budget():
    more = Budget(amount=200, unit="student_updates")
    once, twice = (
        g.trials()[0].budget.amount
        for g in (grid(equal_cost="cpsc"), grid(equal_cost="cpsc", budgets={"cpsc": more}))
    )
    assert twice == pytest.approx(2 * once, rel=1e-3)
    flops = Budget(amount=1e9, unit="flops")
    assert grid(equal_cost="cpsc", budgets={"cpsc": flops}).trials()[1].budget == flops


def test_equal_cost_is_the_same_when_the_named_row_is_not_run():
    whole = {t.label: t.id for t in grid(equal_cost="cpsc").trials()}
    own = Budget(amount=300, unit="student_updates")
    part = grids.override(grid(), methods=["dfad"], equal_cost="cpsc").trials()
    assert [t.id for t in part] == [whole["dfad"]]
    kept = grids.override(grid(budgets={"cpsc": own}), methods=["dfad"], equal_cost="cpsc").trials()
    assert kept[0].budget.amount > 2 * part[0].budget.amount


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"equal_cost": "cpcs"}, "unknown row in equal_cost 'cpcs'; did you mean 'cpsc'"),
        ({"equal_cost": "cpsc", "budget": Budget(amount=9)}, "equal_cost = 'cpsc': its budget 9:rounds"),
        ({"row_seeds": {"dfda": (1,)}}, "unknown row in row_seeds 'dfda'; did you mean 'dfad'"),
    ],
)
def test_what_cannot_be_is_said(more, words):
    with pytest.raises(DfkdError, match=words):
        grid(**more).trials()


def test_a_row_may_have_seeds_of_its_own_until_seeds_are_asked_for():
    g = grid(row_seeds={"cpsc": (0, 1, 2)})
    assert [(t.label, t.seed) for t in g.trials()] == [("cpsc", 0), ("cpsc", 1), ("cpsc", 2), ("dfad", 0)]
    asked = grids.override(g, seeds=[4]).trials()
    assert [(t.label, t.seed) for t in asked] == [("cpsc", 4), ("dfad", 4)]
    kept = grids.override(g, sets=[grids.parse_set("cpsc.beta=0,1")]).trials()
    assert [t.seed for t in kept if t.label.startswith("cpsc beta=1")] == [0, 1, 2]


def test_the_report_says_what_equal_cost_means(tmp_path: Path):
    g = grid(equal_cost="cpsc", note="Hand-tuned.").model_copy(update={"name": "toy"})
    text = Results(g, g.trials(), Dirs(tmp_path), tmp_path, tmp_path).report(("md",))["md"].read_text()
    assert "every row may spend what cpsc spends in 100:student_updates. Hand-tuned." in text
    assert "budget of every trial" in text and "TFLOP" in text
