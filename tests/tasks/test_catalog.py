"""What is known of tasks without their files."""

from __future__ import annotations

from functools import partial

import pytest

from harness.config import Task
from harness.tasks import catalog, images
from tests.build import refused


@pytest.mark.parametrize(
    ("name", "shape", "classes", "augment"),
    [
        ("digits", (1, 8, 8), 10, {"pad"}),
        ("digits16", (1, 16, 16), 10, {"pad"}),
        ("mnist", (1, 28, 28), 10, {"pad"}),
        ("cifar10", (3, 32, 32), 10, {"pad", "flip"}),
        ("cifar100", (3, 32, 32), 100, {"pad", "flip"}),
        ("tiny_imagenet", (3, 64, 64), 200, {"pad", "flip"}),
    ],
)
def test_a_built_in_task_is_described_without_a_file(name, shape, classes, augment):
    task = catalog.describe(name)
    assert (task.name, task.shape, task.K, task.augment) == (name, shape, classes, augment)
    assert len(set(task.classes)) == classes and len(task.mean) == len(task.std) == shape[0]
    assert hash(task) == hash(catalog.describe(name))


def test_the_tasks_are_listed_and_an_unknown_one_gets_the_nearest_name():
    assert catalog.names() == ["digits", "digits16", "mnist", "cifar10", "cifar100", "tiny_imagenet"]
    for call in (catalog.version, catalog.describe, images.load):
        refused(partial(call, "cifar11"), "unknown task 'cifar11'", "did you mean 'cifar10'")


def test_the_constants_of_cifar():
    # As the published code normalises; CIFAR-100 has its own.
    ten, hundred = catalog.describe("cifar10"), catalog.describe("cifar100")
    assert ten.mean == (0.4914, 0.4822, 0.4465) and ten.std == (0.2023, 0.1994, 0.2010)
    assert hundred.mean == (0.5071, 0.4867, 0.4408) and hundred.std == (0.2675, 0.2565, 0.2761)
    assert (ten.classes[0], ten.classes[9]) == ("airplane", "truck")
    assert (hundred.classes[0], hundred.classes[99]) == ("apple", "worm")


def test_a_task_is_one_row(monkeypatch):
    mine = Task("mine", 3, 1, 8, tuple("0123456789"), (0.3,), (0.4,))
    row = catalog.BuiltIn(mine, sizes=(898, 899), recipe="mnist", opener="sources:digits")
    monkeypatch.setitem(catalog.TASKS, "mine", row)
    assert "mine" in catalog.names() and catalog.version("mine") == 3 and catalog.describe("mine") is mine
    assert catalog.sizes("mine") == (898, 899) and catalog.recipe("default", "mine").name == "mnist"
    got = images.load("mine")
    assert got.task is mine and (len(got.train), len(got.test)) == (898, 899)


@pytest.mark.parametrize("name", ["digits", "digits16"])
def test_the_sizes_of_a_row_are_those_of_its_images(name):
    got = images.load(name)
    assert catalog.sizes(name) == (len(got.train), len(got.test))
