"""The bench compares like with like: the wasteful rounds do waste, and give our numbers."""

import pytest
import torch

from harness.compute import own_globals
from tests.build import a_task
from tests.methods.bench_released import wastes
from tests.methods.bench_round import ROWS, apart, make, problem

TOY = a_task(8, 3, 3, ("pad", "flip"))
PAIR = ("wrn16_2", "wrn16_1")
SMALL = {"nz": 8, "g_steps": 2, "s_steps": 2}


def _method(name, released):
    row = ROWS[name]
    row = row._replace(settings={k: v for k, v in row.settings.items() if k not in (*SMALL, "batch")})
    return make(row, problem(TOY, PAIR), released, batch=8, **SMALL)


@pytest.mark.parametrize("name", ROWS)
def test_the_released_way_gives_our_terms_and_wastes(name):
    kinds = wastes(ROWS[name].method, ROWS[name].settings)
    with own_globals(0, 1):
        ours, theirs = _method(name, False), _method(name, True)
        for _ in range(2):  # the second round starts from what the first one trained
            a, b = ours.round(), theirs.round()
            assert apart({k: float(v) for k, v in a.items()}, {k: float(v) for k, v in b.items()}) < 1e-4
    assert all(p.grad is None for p in ours.T.parameters())
    assert all(p.grad is not None for p in theirs.T.parameters()), "T's weight gradients are computed"
    layers = sum(isinstance(m, torch.nn.BatchNorm2d) for m in theirs.T.modules())
    if "hooks" in kinds:
        assert len(theirs.seen) == layers, "every layer's statistics are taken where nobody asks for them"
    if "files" in kinds:
        assert len(theirs.pool.files) == len(ours.pool) == 16 and theirs.pool.files[-1].stat().st_size > 0
    if "through" in kinds:
        assert ours.updates == theirs.updates
        assert ours.problem.compute.meter.passes["G"][0] < theirs.problem.compute.meter.passes["G"][0]
