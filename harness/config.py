"""What is declared: tasks, budgets, recipes, trials and their ids, grids. Opens no file, loads no torch.

Data only: `harness.grids.expand` makes trials of a grid.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.errors import DfkdError

#: Raised when the harness itself changes what a trial computes; part of every trial's id.
PROTOCOL = 1


class Frozen(BaseModel):
    """A frozen record that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


@dataclass(frozen=True)
class Task:
    """The public description of a data set; holds no image.

    Attributes:
        name: as the user writes it (``digits``, ``folder:/path?side=32``).
        version: the splits belong to it; part of every trial's id.
        channels, side: images are ``channels x side x side``, float in [0, 1].
        classes: class names, in label order.
        mean, std: the normaliser, one value per channel, in [0, 1] units.
        augment: what the task bears, out of ``pad``, ``flip``, ``rotation``.
    """

    name: str
    version: int
    channels: int
    side: int
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: frozenset[str] = frozenset()

    @property
    def K(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(C, H, W)``."""
        return (self.channels, self.side, self.side)


class Budget(Frozen):
    """How long a trial runs. ``flops`` counts floating point operations (2 per multiply-add)."""

    amount: float = Field(gt=0, allow_inf_nan=False)
    unit: Literal["rounds", "student_updates", "flops"] = "rounds"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``300``, ``300:rounds``, ``5e12:flops``.

        Raises:
            DfkdError: for anything else.
        """
        amount, _, unit = text.partition(":")
        try:
            return cls(amount=float(amount), unit=unit or "rounds")  # type: ignore[arg-type]
        except (ValueError, ValidationError):
            raise DfkdError(
                f"budget {text!r} is not AMOUNT[:UNIT] with a positive amount and a unit out of "
                "rounds, student_updates, flops (say 300:rounds)"
            ) from None

    def __str__(self) -> str:
        """As `parse` reads it."""
        return f"{self.amount:.15g}:{self.unit}"


class Recipe(Frozen):
    """How a teacher is trained: SGD with momentum 0.9, cosine to zero over ``epochs``."""

    name: str
    epochs: int = Field(gt=0)
    lr: float = Field(gt=0)
    batch: int = Field(gt=0)
    weight_decay: float = 5e-4


def digest(value: Any) -> str:
    """Twelve hex digits of the SHA-256 of a JSON value, whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


class Trial(Frozen):
    """One run: a method with resolved settings on one task, pair and seed.

    ``cpus``, ``points``, ``label`` and ``metrics`` do not enter the id: they change no number of the last
    point.
    """

    task: str
    task_version: int
    teacher: str
    student: str
    method: str
    method_version: int
    settings: dict[str, Any]
    recipe: Recipe
    teacher_seed: int
    teacher_digest: str | None = None  # of an imported teacher, which has no recipe to name it
    budget: Budget
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    seed: int
    protocol: int = PROTOCOL
    label: str = ""
    points: int = Field(default=100, gt=0)
    cpus: int = Field(default=1, gt=0)
    metrics: tuple[str, ...] = ()

    @cached_property
    def id(self) -> str:
        """Hash of all that is declared and can change a number; needs no file."""
        return digest(self.model_dump(mode="json", exclude={"label", "points", "cpus", "metrics"}))

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, the copy's id still to be found."""
        copied = super().model_copy(update=update, deep=deep)
        copied.__dict__.pop("id", None)
        return copied

    @property
    def cell(self) -> str:
        """For people: ``cpsc on digits wrn16_2->wrn16_1 seed 0``."""
        return f"{self.label or self.method} on {self.task} {self.teacher}->{self.student} seed {self.seed}"


class On(Frozen):
    """What a grid does otherwise on a task or a pair of networks.

    Attributes:
        settings: as `Grid.settings`, over those.
        budget: of every row, over `Grid.budget` and `Grid.budgets`.
        points: instead of `Grid.points`.
        teacher_recipe: instead of `Grid.teacher_recipe`.
        note: instead of `Grid.note`.
    """

    settings: dict[str, dict[str, Any]] = {}
    budget: Budget | None = None
    points: int | None = Field(default=None, gt=0)
    teacher_recipe: str = ""
    note: str = ""


class Grid(Frozen):
    """What to run: every task x pair x variant x teacher seed x seed. Data only.

    Attributes:
        name: the file's stem.
        variants: row label -> (method, settings); or "all", every registered method under its own name.
        settings: method -> settings for each of its variants; the key "*" reaches every method that has
            such a setting. A variant's own settings win over the method's, those over "*".
        on: ``task``, ``teacher:student`` or ``task teacher:student`` -> what holds there; a task's wins over
            a pair's, that of both over either.
        budgets: row label -> a budget other than ``budget``.
        row_seeds: row label -> seeds other than ``seeds``.
        equal_cost: a row; every row gets, in flops, what this one spends under its own budget in student
            updates on the same task and pair.
        unlisted: rows that are not run, for ``equal_cost`` to name.
        contrasts: row label -> the row it is measured against, seed by seed, in the report.
        imported: teacher digest (`dfkd teachers import` prints it) instead of recipe and seed.
        metrics: opt-in metrics that its trials take beyond the ordinary ones; ``dfkd metrics`` lists them.
        note: how settings that are not the authors' were found; stands in the report.
    """

    name: str = ""
    tasks: tuple[str, ...] = Field(min_length=1)
    pairs: tuple[tuple[str, str], ...] = Field(min_length=1)
    variants: Literal["all"] | dict[str, tuple[str, dict[str, Any]]] = "all"
    settings: dict[str, dict[str, Any]] = {}
    on: dict[str, On] = {}
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    row_seeds: dict[str, tuple[int, ...]] = {}
    teacher_seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    teacher_recipe: str = "default"
    imported: str | None = None
    budget: Budget
    budgets: dict[str, Budget] = {}
    equal_cost: str | None = None
    unlisted: dict[str, tuple[str, dict[str, Any]]] = {}
    contrasts: dict[str, str] = {}
    points: int = Field(default=100, gt=0)
    cpus_per_trial: int = Field(default=1, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = True
    compile: bool = False
    metrics: tuple[str, ...] = ()
    note: str = ""

    @field_validator("seeds", "teacher_seeds", mode="before")
    @classmethod
    def _seeds(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, range) else value

    def notes(self) -> str:
        """The note of its tasks and pairs; where they have different ones, each with the cells it is of."""
        told: dict[str, list[str]] = {}
        for task in self.tasks:
            for pair in self.pairs:
                own = [part.note for part in self.at(task, pair) if part.note]
                told.setdefault(own[-1] if own else self.note, []).append(f"{task} {':'.join(pair)}")
        if len(told) == 1:
            return next(iter(told))
        return " ".join(f"{', '.join(cells)}: {note}" for note, cells in told.items() if note)

    def budget_of(self, label: str, task: str, pair: tuple[str, str]) -> Budget:
        """What a row may spend in a cell, equal cost apart."""
        own = [part.budget for part in self.at(task, pair) if part.budget]
        return own[-1] if own else self.budgets.get(label, self.budget)

    def points_of(self, task: str, pair: tuple[str, str]) -> int:
        """Points of a trial in a cell."""
        own = [part.points for part in self.at(task, pair) if part.points]
        return own[-1] if own else self.points

    def at(self, task: str, pair: tuple[str, str]) -> list[On]:
        """What `on` says of a task and pair, the most special last."""
        keys = (":".join(pair), task, f"{task} {':'.join(pair)}")
        return [self.on[key] for key in keys if key in self.on]


def seed_for(seed: int, stream: str) -> int:
    """Seed of a named stream (``student``, ``parts``, ``train``, ``eval``): 63 bits of a hash.

    Depends on the trial's seed and the stream's name alone, so that every method meets the same initial
    student and the same evaluation noise whatever else was drawn before.
    """
    raw = hashlib.sha256(f"{seed}/{stream}".encode()).digest()
    return int.from_bytes(raw[:8], "big") >> 1


def one_line(error: ValidationError) -> str:
    """The first complaint of pydantic as one clear line: field, value, what is allowed."""
    first = error.errors()[0]
    where = ".".join(str(p) for p in first["loc"]) or "grid"
    return f"{where} = {first.get('input')!r}: {first['msg']}"


def labels(trials: Iterable[Trial]) -> list[str]:
    """Row labels in grid order, each once."""
    return list(dict.fromkeys(t.label for t in trials))
