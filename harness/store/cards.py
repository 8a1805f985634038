"""Cards of teacher files: where a teacher lies, what is known of it, whether the file is still the same.

Reads names, JSON and digests alone: no weights, no torch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from harness.config import Frozen, Recipe, Trial, digest, one_line
from harness.errors import DfkdError
from harness.files import saying


class Card(Frozen):
    """What is known of a teacher file.

    Attributes:
        recipe, seed: None for an imported one.
        mean, std: its normaliser, one value a channel, [0, 1] units.
        top1: percent of test images right, measured when it was made.
        digest: SHA-256 of the ``.safetensors`` file.
        origin: for an imported one, the name of the file it was read from.
    """

    task: str
    task_version: int
    net: str
    recipe: Recipe | None
    seed: int | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top1: float
    data_digest: str
    digest: str
    source: str
    origin: str = ""
    seconds: float = 0.0
    machine: str = ""


def slug(task: str) -> str:
    """A task's name as a folder name."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", task).strip("-")
    return plain if plain == task else f"{plain[:60]}-{digest(task)[:6]}"


def path_for(dir: Path, task: str, net: str, recipe: Recipe, seed: int) -> Path:
    """Where a trained teacher lies."""
    key = digest(recipe.model_dump(mode="json"))[:6]
    return Path(dir) / slug(task) / f"{net}-{recipe.name}-{key}-s{seed}.safetensors"


def path_of(dir: Path, trial: Trial) -> Path:
    """Where a trial's teacher lies."""
    if trial.teacher_digest:
        return (
            Path(dir) / slug(trial.task) / f"{trial.teacher}-import-{trial.teacher_digest[:12]}.safetensors"
        )
    return path_for(dir, trial.task, trial.teacher, trial.recipe, trial.teacher_seed)


def find(dir: Path, trial: Trial) -> Card | None:
    """The card of a trial's teacher, or None where there is none yet for this version of the task.

    Raises:
        DfkdError: for a damaged card.
    """
    return made(path_of(dir, trial), trial.task_version)


def made(path: Path, task_version: int) -> Card | None:
    """The card of a teacher file that is there and belongs to this version of the task, else None."""
    # Splits belong to the version: a teacher of another one may have been trained on today's test images.
    if not (path.exists() and path.with_suffix(".json").exists()):
        return None
    card = read_card(path)
    return card if card.task_version == task_version else None


def read_card(path: Path) -> Card:
    """The card beside a teacher file.

    Raises:
        DfkdError: for a missing or damaged card.
    """
    card = path.with_suffix(".json")
    if not card.exists():
        raise DfkdError(f"teacher {path} has no card {card.name}: train or import it again")
    try:
        with saying(f"teacher card {card} cannot be read"):
            return Card.model_validate_json(card.read_bytes())
    except ValidationError as error:
        raise DfkdError(
            f"teacher card {card} is damaged: {one_line(error)}; delete it, then train or import again"
        ) from None


def every(dir: Path) -> Iterator[tuple[Path, Card | DfkdError]]:
    """Each teacher file under a folder with its card, or with what is wrong with that."""
    for path in sorted(Path(dir).glob("*/*.safetensors")):
        try:
            yield path, read_card(path)
        except DfkdError as error:
            yield path, error


def cards(dir: Path) -> list[Card]:
    """Cards of every teacher under a folder; a damaged one is left out (see `damaged`)."""
    return [card for _, card in every(dir) if isinstance(card, Card)]


def damaged(dir: Path) -> list[str]:
    """One line about each teacher file under a folder whose card is missing or damaged."""
    return [str(error) for _, error in every(dir) if isinstance(error, DfkdError)]


def by_digest(dir: Path, prefix: str) -> tuple[Path, Card]:
    """The one teacher whose digest begins so.

    Raises:
        DfkdError: for none or several.
    """
    found = [(p, c) for p, c in every(dir) if isinstance(c, Card) and c.digest.startswith(prefix)]
    if len(found) != 1:
        raise DfkdError(f"{len(found)} teachers under {dir} have a digest that begins with {prefix!r}")
    return found[0]


def check_digest(path: Path, card: Card) -> None:
    """Hold a teacher file against its card.

    Raises:
        DfkdError: when the file is not the one the card was written for, or cannot be read.
    """
    with saying(f"teacher {path} cannot be read"):
        found = file_digest(path)
    if found != card.digest:
        again = "import" if card.source == "imported" else "train"
        raise DfkdError(
            f"teacher {path} has digest {found[:12]}, its card says {card.digest[:12]}: changed or damaged; "
            f"delete both and {again} it again"
        )


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
