"""What a row may spend: equal updates, equal cost, seeds of its own."""

from pathlib import Path

import pytest

from harness.config import Budget, Grid
from harness.grids import expand, override
from harness.store.directory import Store
from harness.store.stale import Staleness
from harness.tasks import catalog
from harness.trials.costs import flops_per_update
from reports.report import Results
from tests.build import refused

PAIR = ("lenet5_bn", "lenet5_half_bn")
SMALL = {"batch": 32, "g_steps": 2, "s_steps": 5}


def grid(**more) -> Grid:
    rows = {"cpsc": ("cpsc", SMALL), "dfad": ("dfad", {"batch": 64})}
    given = {"variants": rows, "budget": Budget(amount=100, unit="student_updates"), "seeds": (0,)} | more
    return Grid(tasks=("digits",), pairs=(PAIR,), **given)


def test_equal_cost_is_what_the_named_row_spends():
    spent = flops_per_update("cpsc", SMALL, catalog.describe("digits"), PAIR) * 100
    found = {t.label: t.budget for t in expand.trials_of(grid(equal_cost="cpsc"))}
    assert {b.unit for b in found.values()} == {"flops"} and len(set(found.values())) == 1
    amount = found["dfad"].amount
    assert amount == pytest.approx(spent, rel=1e-3)
    assert amount == float(f"{amount:.4g}")  # four digits, whatever torch's last bit


def test_equal_cost_takes_the_rows_own_budget():
    more = Budget(amount=200, unit="student_updates")
    once, twice = (
        expand.trials_of(g)[0].budget.amount
        for g in (grid(equal_cost="cpsc"), grid(equal_cost="cpsc", budgets={"cpsc": more}))
    )
    assert twice == pytest.approx(2 * once, rel=1e-3)
    flops = Budget(amount=1e9, unit="flops")
    assert expand.trials_of(grid(equal_cost="cpsc", budgets={"cpsc": flops}))[1].budget == flops


def test_equal_cost_is_the_same_when_the_named_row_is_not_run():
    whole = {t.label: t.id for t in expand.trials_of(grid(equal_cost="cpsc"))}
    own = Budget(amount=300, unit="student_updates")
    part = expand.trials_of(override.override(grid(), methods=["dfad"], equal_cost="cpsc"))
    assert [t.id for t in part] == [whole["dfad"]]
    richer = override.override(grid(budgets={"cpsc": own}), methods=["dfad"], equal_cost="cpsc")
    kept = expand.trials_of(richer)
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
    refused(lambda: expand.trials_of(grid(**more)), words)


def test_a_row_may_have_seeds_of_its_own_until_seeds_are_asked_for():
    g = grid(row_seeds={"cpsc": (0, 1, 2)})
    told = [(t.label, t.seed) for t in expand.trials_of(g)]
    assert told == [("cpsc", 0), ("cpsc", 1), ("cpsc", 2), ("dfad", 0)]
    asked = expand.trials_of(override.override(g, seeds=[4]))
    assert [(t.label, t.seed) for t in asked] == [("cpsc", 4), ("dfad", 4)]
    kept = expand.trials_of(override.override(g, sets=[override.parse_set("cpsc.beta=0,1")]))
    assert [t.seed for t in kept if t.label.startswith("cpsc beta=1")] == [0, 1, 2]


def test_the_report_says_what_equal_cost_means(tmp_path: Path):
    g = grid(equal_cost="cpsc", note="Hand-tuned.").model_copy(update={"name": "toy"})
    found = Results(g, expand.trials_of(g), Store(tmp_path), tmp_path, Staleness(tmp_path))
    text = found.report(("md",))["md"].read_text()
    assert "every row may spend what cpsc spends in 100:student_updates. Hand-tuned." in text
    assert "budget of every trial" in text and "TFLOP" in text
