"""Splits and the batches that are drawn of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from harness.tasks.images import Loader, Split, data_root, load
from tests.build import a_task

CPU = torch.device("cpu")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_data_root_is_as_given_else_the_variable_else_the_cache(monkeypatch):
    assert data_root(None).name == "data" and data_root(None).parent.name == "dfkd-bench"
    monkeypatch.setenv("DFKD_DATA_ROOT", "/env")
    assert data_root(None) == Path("/env")
    assert data_root(Path("/given")) == Path("/given")


def test_val_is_a_stratified_tenth_of_train():
    got = load("digits")
    known = {(int(y), x.tobytes()) for x, y in zip(got.train.images, got.train.labels, strict=True)}
    held = [(int(y), x.tobytes()) for x, y in zip(got.val.images, got.val.labels, strict=True)]
    assert set(held) <= known and len(set(held)) == len(held)
    assert np.abs(np.bincount(got.val.labels) - np.bincount(got.train.labels) / 10).max() <= 0.5
    again = load("digits")
    assert np.array_equal(again.val.images, got.val.images) and again.digest == got.digest


def counting(n: int) -> Split:
    """Image i is filled with the value i; label i % 2."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 1, 8, 8)).copy()
    return Split(images, np.arange(n) % 2)


def test_a_batch_is_in_unit_range_and_owns_its_memory():
    split = Split(np.array([[[[0, 51]]], [[[255, 102]]]], dtype=np.uint8), np.array([1, 0]))
    x, y = split.batch(slice(0, 2), CPU)
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert torch.allclose(x.flatten(), torch.tensor([0, 0.2, 1, 0.4]))
    x.zero_(), y.zero_()
    assert split.images.max() == 255 and split.labels.tolist() == [1, 0]


def test_a_loader_walks_shuffled_epochs_without_gap_or_repeat():
    loader = Loader(counting(10), a_task(8, 1, 2), rng(), CPU)
    drawn: list[int] = []
    for n in (4, 4, 4, 4, 4, 25, 5):  # the last but one is larger than the set
        x, y = loader.batch(n)
        assert x.shape == (n, 1, 8, 8) and torch.equal((x[:, 0, 0, 0] * 255).round().long() % 2, y)
        drawn += (x[:, 0, 0, 0] * 255).round().long().tolist()
    epochs = [drawn[i : i + 10] for i in range(0, 50, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_a_loader_comes_back_to_an_exact_position():
    split, task = counting(10), a_task(8, 1, 2, ("pad", "flip"))
    stream = rng(3)
    loader = Loader(split, task, stream, CPU)
    loader.batch(7)
    state, position = loader.state(), stream.get_state()
    want = [loader.batch(4) for _ in range(5)]
    other = rng(99)
    fresh = Loader(split, task, other, CPU)
    other.set_state(position)
    fresh.load(state)
    for (x, y), (u, v) in zip(want, [fresh.batch(4) for _ in range(5)], strict=True):
        assert torch.equal(x, u) and torch.equal(y, v)
    assert state["at"] == 7  # the batches after it left the state alone
