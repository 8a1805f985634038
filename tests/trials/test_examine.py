"""Looks at the test images: in batches that suit the machine, and of the teacher once a process."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.compute import Compute
from harness.nets.catalog import build
from harness.tasks.catalog import describe
from harness.trials import examine


def net(seed: int = 0, task: str = "mnist", name: str = "lenet5_bn") -> torch.nn.Module:
    torch.manual_seed(seed)
    made = build(name, describe(task))
    return made.to(memory_format=torch.channels_last).eval()


def images(n: int, side: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 1, side, side), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examine, "answers", examine.Answers())


@pytest.mark.parametrize(
    ("task", "name", "side"),
    [("mnist", "lenet5_bn", 28), ("mnist", "lenet5_half_bn", 28), ("digits", "wrn16_1", 8)],
)
def test_batches_change_no_bit(task: str, name: str, side: int):
    taught, x = net(0, task, name), images(600, side)
    logits, features = examine.logits_and_features(taught, x, Compute())
    with torch.no_grad():
        whole = taught(torch.from_numpy(x).float().div_(255), taps=("h",))
    assert torch.equal(logits, whole.logits)
    assert torch.equal(features, whole.h)


def test_a_teacher_is_asked_once_and_others_for_themselves(monkeypatch: pytest.MonkeyPatch):
    asked, look = [], examine.logits_and_features

    def counted(*given):
        asked.append(given)
        return look(*given)

    monkeypatch.setattr(examine, "logits_and_features", counted)
    first, x = net(0), images(20)
    said = examine.answers(first, x, Compute())
    assert examine.answers(net(0), x.copy(), Compute())[0] is said[0], "the same weights and images"
    assert len(asked) == 1
    examine.answers(net(1), x, Compute())  # other weights
    examine.answers(first, images(20, seed=1), Compute())  # other images
    examine.answers(first, x, Compute(channels_last=False))  # another layout
    with torch.no_grad():
        next(b for n, b in first.named_buffers() if n.endswith("running_mean")).add_(1.0)
    moved = examine.answers(first, x, Compute())  # other statistics
    assert len(asked) == 5
    assert not torch.equal(moved[0], said[0])
    assert len(examine.answers.kept) == examine.answers.most, "the oldest go"
