"""What a grid declares and what a trial is: budgets, recipes, ids, seeds. Opens no file, loads no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.errors import DfkdError, unknown
from harness.settings import resolve, settings_of

#: Raised when the harness itself changes what a trial computes; part of every trial's id.
PROTOCOL = 1


class Frozen(BaseModel):
    """A frozen record that refuses fields it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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

    @property
    def id(self) -> str:
        """Hash of all that is declared and can change a number; needs no file."""
        return digest(self.model_dump(mode="json", exclude={"label", "points", "cpus", "metrics"}))

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

    def rows(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Row label -> (method, its own settings), with "all" spelled out.

        A plug-in that cannot be imported has no row: `dfkd methods` lists it with its error.
        """
        if self.variants != "all":
            return dict(self.variants)
        from harness import registry

        return {name: (name, {}) for name in registry.methods.available()}

    def notes(self) -> str:
        """The note of its tasks and pairs; where they have different ones, each with the cells it is of."""
        told: dict[str, list[str]] = {}
        for task in self.tasks:
            for pair in self.pairs:
                own = [part.note for part in self._on(task, pair) if part.note]
                told.setdefault(own[-1] if own else self.note, []).append(f"{task} {':'.join(pair)}")
        if len(told) == 1:
            return next(iter(told))
        return " ".join(f"{', '.join(cells)}: {note}" for note, cells in told.items() if note)

    def budget_of(self, label: str, task: str, pair: tuple[str, str]) -> Budget:
        """What a row may spend in a cell, equal cost apart."""
        own = [part.budget for part in self._on(task, pair) if part.budget]
        return own[-1] if own else self.budgets.get(label, self.budget)

    def points_of(self, task: str, pair: tuple[str, str]) -> int:
        """Points of a trial in a cell."""
        own = [part.points for part in self._on(task, pair) if part.points]
        return own[-1] if own else self.points

    def recipe_of(self, task: str, pair: tuple[str, str]) -> Recipe:
        """How the teacher of a cell is trained."""
        own = [part.teacher_recipe for part in self._on(task, pair) if part.teacher_recipe]
        return recipe(own[-1] if own else self.teacher_recipe, task)

    def _on(self, task: str, pair: tuple[str, str]) -> list[On]:
        """What `on` says of a cell, the most special last."""
        keys = (":".join(pair), task, f"{task} {':'.join(pair)}")
        return [self.on[key] for key in keys if key in self.on]

    def trials(self) -> list[Trial]:
        """Every trial of the grid, in the order of its rows.

        Raises:
            DfkdError: for an unknown method, setting, task, net or recipe.
        """
        return list(self._expand())

    def _expand(self) -> Iterator[Trial]:
        from harness import registry
        from harness.data import version

        rows = self.rows()
        for label in self.budgets:
            if label not in rows and label != self.equal_cost:
                raise unknown("row in budgets", label, rows)
        for label in self.row_seeds:
            if label not in rows:
                raise unknown("row in row_seeds", label, rows)
        for label, base in self.contrasts.items():
            for each in (label, base):
                if each not in rows:
                    raise unknown("row in contrasts", each, rows)
            if label == base:
                raise DfkdError(f"contrasts: row {label!r} is measured against itself")
        if self.metrics:
            from harness.metrics.base import chosen

            chosen(self.metrics)  # raises for one nobody knows
        methods = [m for m, _ in rows.values()]
        for key in {*self.settings, *(k for part in self.on.values() for k in part.settings)}:
            if key != "*" and key not in methods and key not in registry.methods.names():
                raise unknown("method in settings", key, [*methods, "*"])
        for key in self.on:
            head, _, last = key.rpartition(" ")
            of_pair = last.count(":") == 1 and not last.startswith("folder:")
            for net in last.split(":") if of_pair else ():
                registry.nets.check(net)
            if head or not of_pair:
                version(head if of_pair else key)
        for pair in self.pairs:
            for net in pair:
                registry.nets.check(net)
        for task in self.tasks:
            task_version = version(task)
            for teacher, student in self.pairs:
                on = self._on(task, (teacher, student))
                recipe_ = self.recipe_of(task, (teacher, student))
                resolved = {label: self._resolve(*row, on) for label, row in rows.items()}
                equal = self._equal(rows, task, (teacher, student))
                for label, (method, _) in rows.items():
                    cls = registry.methods.get(method)
                    for teacher_seed in self.teacher_seeds:
                        for seed in self.row_seeds.get(label, self.seeds):
                            yield Trial(
                                task=task,
                                task_version=task_version,
                                teacher=teacher,
                                student=student,
                                method=method,
                                method_version=cls.VERSION,
                                settings=resolved[label],
                                recipe=recipe_,
                                teacher_seed=teacher_seed,
                                teacher_digest=self.imported,
                                budget=equal or self.budget_of(label, task, (teacher, student)),
                                precision=self.precision,
                                channels_last=self.channels_last,
                                compile=self.compile,
                                seed=seed,
                                label=label,
                                points=self.points_of(task, (teacher, student)),
                                cpus=self.cpus_per_trial,
                                metrics=self.metrics,
                            )

    def _equal(
        self, rows: Mapping[str, tuple[str, dict[str, Any]]], task: str, pair: tuple[str, str]
    ) -> Budget | None:
        """What every row may spend on a task and pair, to four digits; None where rows have their own."""
        label = self.equal_cost
        if label is None:
            return None
        from harness import registry
        from harness.costs import flops_per_update
        from harness.data import describe

        known = {*rows, *self.unlisted, *registry.methods.names()}
        if label not in known:
            raise unknown("row in equal_cost", label, known)
        budget = self.budget_of(label, task, pair)
        if budget.unit == "flops":
            return budget
        if budget.unit == "rounds":
            raise DfkdError(
                f"equal_cost = {label!r}: its budget {budget} must be in student_updates or flops, "
                "since how many updates a round has is the method's own affair"
            )
        method, own = {**self.unlisted, **rows}.get(label, (label, {}))
        settings = self._resolve(method, own, self._on(task, pair))
        flops = flops_per_update(method, settings, describe(task), pair) * budget.amount
        return Budget(amount=float(f"{flops:.4g}"), unit="flops")

    def given(self, method: str, own: Mapping[str, Any], task: str, pair: tuple[str, str]) -> dict[str, Any]:
        """What the grid says of a method's settings in a cell, a row's ``own`` over the rest."""
        return self._given(method, own, self._on(task, pair))

    def _given(self, method: str, own: Mapping[str, Any], on: Iterable[On]) -> dict[str, Any]:
        from harness import registry

        known = settings_of(registry.methods.get(method).HP)
        given: dict[str, Any] = {}
        for part in (self.settings, *(each.settings for each in on)):
            given |= {k: v for k, v in part.get("*", {}).items() if k in known} | part.get(method, {})
        return given | dict(own)

    def _resolve(self, method: str, own: Mapping[str, Any], on: Iterable[On]) -> dict[str, Any]:
        from harness import registry

        cls = registry.methods.get(method)
        return resolve(method, cls.HP, cls.PRESETS, self._given(method, own, on))


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
