"""Garbage collection is put off for a while, and afterwards as it was."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from harness.store.mlflow_runs import uncollected


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    was = gc.isenabled()
    yield
    gc.enable() if was else gc.disable()
    gc.unfreeze()


@pytest.mark.parametrize("before", [True, False])
def test_it_is_off_inside_and_as_before_outside(before: bool) -> None:
    gc.enable() if before else gc.disable()
    with uncollected():
        assert not gc.isenabled()
    assert gc.isenabled() == before
    with pytest.raises(KeyError), uncollected():
        raise KeyError
    assert gc.isenabled() == before


def test_what_is_kept_is_never_looked_at_again() -> None:
    gc.enable()
    gc.unfreeze()
    with uncollected():
        pass
    assert gc.get_freeze_count() == 0
    with uncollected(keep=True):
        made = [[] for _ in range(1000)]
    assert gc.get_freeze_count() >= len(made)
