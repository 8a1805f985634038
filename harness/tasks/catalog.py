"""The built-in tasks, a row each: what is known without their files. Light: grids are listed from here."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import Recipe, Task
from harness.errors import unknown
from harness.tasks import folders


@dataclass(frozen=True)
class BuiltIn:
    """One row.

    Attributes:
        task: its public description.
        sizes: images of the training and of the test split: what a run will cost is asked before any file
            is there.
        recipe: what ``default`` means for its teachers, of `RECIPES`.
        opener: ``module:function`` of `harness.tasks`, imported when images are wanted: (task, data root,
            ``home``, whether to download) -> images and labels of both splits (`harness.tasks.cache.Arrays`),
            and the files they were read from.
        home: its folder below the data root, where it has files.
    """

    task: Task
    sizes: tuple[int, int]
    recipe: str
    opener: str
    home: str = ""


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
# What the rows of one source share: sizes, recipe, opener.
_SKLEARN = (898, 899), "small", "sources:digits"
_CIFAR = (50_000, 10_000), "cifar", "sources:torchvision"

TASKS: dict[str, BuiltIn] = {
    row.task.name: row
    for row in (
        BuiltIn(Task("digits", 1, 1, 8, _DIGITS, (0.3035,), (0.3743,), _PAD), *_SKLEARN),
        BuiltIn(Task("digits16", 1, 1, 16, _DIGITS, (0.3035,), (0.3171,), _PAD), *_SKLEARN),
        BuiltIn(
            Task("mnist", 1, 1, 28, _DIGITS, (0.1307,), (0.3081,), _PAD),
            *((60_000, 10_000), "mnist", "sources:torchvision", "MNIST/raw"),
        ),
        BuiltIn(Task("cifar10", 1, 3, 32, _CIFAR10, *_C10, _FLIP), *_CIFAR, "cifar-10-batches-py"),
        BuiltIn(Task("cifar100", 1, 3, 32, _CIFAR100, *_C100, _FLIP), *_CIFAR, "cifar-100-python"),
        BuiltIn(
            Task("tiny_imagenet", 1, 3, 64, _TINY, *_IMAGENET, _FLIP),
            *((100_000, 10_000), "cifar", "tiny_imagenet:tiny_imagenet", "tiny-imagenet-200"),
        ),
    )
}

#: "default" is what a task means by it; the id holds the numbers, so a changed recipe is a new teacher.
#: Weight decay 5e-4 with a cosine is the choice that lands near the published CIFAR teachers.
RECIPES: dict[str, Recipe] = {
    "small": Recipe(name="small", epochs=40, lr=0.1, batch=64),
    "mnist": Recipe(name="mnist", epochs=10, lr=0.05, batch=128),
    "mnist_short": Recipe(name="mnist_short", epochs=2, lr=0.05, batch=128),
    "cifar": Recipe(name="cifar", epochs=200, lr=0.1, batch=128),
}


def recipe(name: str, task: str) -> Recipe:
    """A recipe by name; ``default`` is the task's own.

    Raises:
        DfkdError: for an unknown name.
    """
    if name == "default":
        name = TASKS[task].recipe if task in TASKS else "cifar"
    if name not in RECIPES:
        raise unknown("teacher recipe", name, [*RECIPES, "default"])
    return RECIPES[name]


FOLDER = "folder:"


def names() -> list[str]:
    """Built-in tasks; ``folder:/path?side=32`` is a user's own."""
    return list(TASKS)


def built_in(name: str) -> BuiltIn:
    """The row of a built-in task.

    Raises:
        DfkdError: for an unknown task.
    """
    if name not in TASKS:
        raise unknown("task", name, [*TASKS, "folder:/path"])
    return TASKS[name]


def version(name: str) -> int:
    """Version of a task's splits; opens no file.

    Raises:
        DfkdError: for an unknown task.
    """
    return 1 if name.startswith(FOLDER) else built_in(name).task.version


def describe(name: str) -> Task:
    """A task's public description; needs no file for a built-in one, the directory listing for a folder.

    Raises:
        DfkdError: for an unknown task or an unusable folder.
    """
    return folders.user_folder(name)[0] if name.startswith(FOLDER) else built_in(name).task


def sizes(name: str) -> tuple[int, int]:
    """Training and test images of a task; opens no image.

    Raises:
        DfkdError: for an unknown task or a folder that is not there.
    """
    if not name.startswith(FOLDER):
        return built_in(name).sizes
    root = folders.parse(name)[0]
    train, test = (sum(map(len, folders.listing(root, split).values())) for split in ("train", "test"))
    return train, test
