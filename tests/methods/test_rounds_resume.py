"""A run that goes on from a checkpoint equals one that was never stopped, pools and banks included."""

import io
import random
import shutil

import pytest
import torch

from harness.trials.check import same
from harness.trials.checkpoint import final_of, restore, restore_final, state_of
from harness.trials.toy import toy_method, toy_problem
from tests.methods.by_hand import rows_of

#: rings that wrap in the third round of 8 images; a bank larger and one smaller than the pool
SMALL = {"pool": 20, "g_steps": 2, "s_steps": 1}
METHODS = {
    "deepinversion": {},
    "adi": {"pool_dtype": "uint8"},
    "cmi": {"bank": 12, "bank_draw": 10},
    "fast": {"warmup_rounds": 5},
}
ROUNDS = 3


def _start(name, seed, scratch):
    problem = toy_problem(seed)
    problem.scratch = scratch
    return toy_method(name, SMALL | METHODS[name], seed, problem)


def _go(m, first, last):
    """Rounds as the harness counts them, from the toy clock's third; fast resets in the last."""
    for i in range(first, last):
        m.problem.clock.round, m.problem.clock.progress = 3 + i, 0.5 + 0.05 * i
        m.round()


def _file(state):
    """A state as a file gives it back."""
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_its_scratch_has_the_same_bits(name, tmp_path):
    stop = random.Random(name).randint(1, ROUNDS - 1)
    whole = _start(name, 0, tmp_path / "whole")
    _go(whole, 0, stop)
    state = _file(state_of(whole))
    assert not any("rows" in pool for pool in state["pools"].values())
    assert any((tmp_path / "whole").rglob("*"))
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    _go(whole, stop, ROUNDS)

    torch.manual_seed(99)  # nothing of a run hangs on torch's own stream
    again = _start(name, 1, tmp_path / "again")
    again.T.load_state_dict(whole.T.state_dict())
    restore(again, state)
    _go(again, stop, ROUNDS)

    assert whole.pool.total == 24 > whole.pool.capacity, "the ring has wrapped"
    for key, pool in whole.pools.items():
        assert same(rows_of(pool), rows_of(again.pools[key])), key
    assert same(state_of(whole), state_of(again))
    index = torch.arange(20)
    assert same(whole.pool.rows(index), again.pool.rows(index))


@pytest.mark.parametrize("name", METHODS)
def test_every_boundary_is_a_good_place_to_stop(name):
    """Stopped after each round, as on a machine that is taken away all the time."""
    whole, m = (_start(name, 0, None) for _ in range(2))
    _go(whole, 0, ROUNDS)
    for i in range(ROUNDS):
        _go(m, i, i + 1)
        state, m = _file(state_of(m)), _start(name, i + 1, None)
        assert all("rows" in pool for pool in state["pools"].values())
        m.T.load_state_dict(whole.T.state_dict())
        restore(m, state)
    assert same(state_of(whole), state_of(m))


@pytest.mark.parametrize("name", ["adi", "cmi"])
def test_the_last_file_of_a_run_samples_without_its_scratch(name, tmp_path):
    m = _start(name, 0, tmp_path / "run")
    _go(m, 0, ROUNDS)
    final = _file(final_of(m))
    expected = m.sample(10, None, torch.Generator().manual_seed(4))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    later = _start(name, 5, None)
    restore_final(later, final)
    assert same(list(later.sample(10, None, torch.Generator().manual_seed(4))), list(expected))
