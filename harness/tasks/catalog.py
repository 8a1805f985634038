"""What is known of the built-in tasks without their files. Light: a grid is listed from here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from harness.config import Recipe
from harness.errors import unknown
from harness.tasks import folders

if TYPE_CHECKING:
    from harness.config import Task

from dataclasses import dataclass


@dataclass(frozen=True)
class Known:
    """A built-in task's description; the fields mean what they mean in `harness.config.Task`."""

    version: int
    channels: int
    side: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: frozenset[str]


_DIGITS = tuple("0123456789")
_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = tuple(
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel "
    "can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur "
    "dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea "
    "seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table "
    "tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman "
    "worm".split()
)
#: the archive names its classes by WordNet number; label k is the k-th of them, sorted
_TINY = tuple(f"class{k:03d}" for k in range(200))
_PAD, _FLIP = frozenset({"pad"}), frozenset({"pad", "flip"})
# The constants CIFAR papers normalise with; ImageNet's for Tiny-ImageNet.
_C10 = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)
_C100 = (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)
_IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

KNOWN: dict[str, Known] = {
    "digits": Known(1, 1, 8, _DIGITS, (0.3035,), (0.3743,), _PAD),
    "digits16": Known(1, 1, 16, _DIGITS, (0.3035,), (0.3171,), _PAD),
    "mnist": Known(1, 1, 28, _DIGITS, (0.1307,), (0.3081,), _PAD),
    "cifar10": Known(1, 3, 32, _CIFAR10, *_C10, _FLIP),
    "cifar100": Known(1, 3, 32, _CIFAR100, *_C100, _FLIP),
    "tiny_imagenet": Known(1, 3, 64, _TINY, *_IMAGENET, _FLIP),
}

#: images of the training and of the test split: what a run will cost is asked before any file is there
SIZES: dict[str, tuple[int, int]] = {
    "digits": (898, 899),
    "digits16": (898, 899),
    "mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tiny_imagenet": (100_000, 10_000),
}


#: "default" is what a task means by it; the id holds the numbers, so a changed recipe is a new teacher.
#: Weight decay 5e-4 with a cosine is the choice that lands near the published CIFAR teachers.
RECIPES: dict[str, Recipe] = {
    "small": Recipe(name="small", epochs=40, lr=0.1, batch=64),
    "mnist": Recipe(name="mnist", epochs=10, lr=0.05, batch=128),
    "mnist_short": Recipe(name="mnist_short", epochs=2, lr=0.05, batch=128),
    "cifar": Recipe(name="cifar", epochs=200, lr=0.1, batch=128),
}


_TASK_RECIPES = {"digits": "small", "digits16": "small", "mnist": "mnist"}


def recipe(name: str, task: str) -> Recipe:
    """A recipe by name; ``default`` is the task's own.

    Raises:
        DfkdError: for an unknown name.
    """
    if name == "default":
        name = _TASK_RECIPES.get(task, "cifar")
    if name not in RECIPES:
        raise unknown("teacher recipe", name, [*RECIPES, "default"])
    return RECIPES[name]


FOLDER = "folder:"


def names() -> list[str]:
    """Built-in tasks; ``folder:/path?side=32`` is a user's own."""
    return list(KNOWN)


def version(name: str) -> int:
    """Version of a task's splits; opens no file.

    Raises:
        DfkdError: for an unknown task.
    """
    if name.startswith(FOLDER):
        return 1
    if name not in KNOWN:
        raise unknown("task", name, [*KNOWN, "folder:/path"])
    return KNOWN[name].version


def describe(name: str, root: Path | None = None) -> Task:
    """A task's public description; needs no file for a built-in one, the directory listing for a folder.

    Raises:
        DfkdError: for an unknown task or an unusable folder.
    """
    from harness.config import Task

    if name.startswith(FOLDER):
        return folders.describe_folder(name)
    version(name)  # raises for a name nobody knows
    known = KNOWN[name]
    return Task(
        name, known.version, known.channels, known.side, known.classes, known.mean, known.std, known.augment
    )
