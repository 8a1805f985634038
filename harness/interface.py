"""All that the author of a method reads: Task, Problem, Method, Reference, Terms.

A method is handed a frozen teacher, a fresh student and random streams, and no images: data-free is a
type here, not a promise. Only a `Reference` is given the training set, and every table marks it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from harness.config import Task
from harness.errors import DfkdError, Diverged
from harness.network import BNStat as BNStat  # for methods of other packages, which ask for all of it here
from harness.network import Net, NetSpec
from harness.network import Out as Out

if TYPE_CHECKING:
    from harness.compute import Compute
    from harness.settings import Presets


class Terms(dict[str, Tensor]):
    """Name of a loss term -> detached scalar, its weight included."""

    def __or__(self, other: Mapping[str, Tensor]) -> Terms:  # type: ignore[override]
        """Both, the right one winning, as `Terms` still."""
        return Terms({**self, **other})

    @staticmethod
    def mean(steps: Iterable[Mapping[str, Tensor]]) -> Terms:
        """Mean over the inner steps of a round; no step gives no terms. Never waits for the device."""
        rows = list(steps)
        return Terms({k: torch.stack([r[k] for r in rows]).mean() for k in (rows[0] if rows else ())})


@dataclass
class Clock:
    """Read-only to a method. ``progress`` is the spent share of the trial's budget, in [0, 1]."""

    round: int = 0
    progress: float = 0.0


@dataclass
class Problem:
    """What a method is given: a task's description, two networks, a clock and random streams.

    Attributes:
        teacher: frozen, in eval mode; ``teacher(x)`` or ``teacher(x, taps=("h", "bn"))``.
        student: fresh and trainable; the same initial weights for every method at one seed.
        rng: the ``train`` stream, on ``compute.device``; every draw of training takes it.
        compute: device, precision, layout.
        scratch: a directory of the trial's own, made when needed, for what is too large for a checkpoint
            file; None: keep everything in memory.
    """

    task: Task
    teacher: Net
    student: Net
    clock: Clock
    rng: torch.Generator
    compute: Compute
    scratch: Path | None = None


class Pooled(Protocol):
    """What the harness asks of a store of images: `methods.shared.pool.Pool`, or a method's own."""

    def state(self) -> dict[str, Any]:
        """For a checkpoint; may name files in ``Problem.scratch``."""

    def load(self, state: dict[str, Any]) -> None:
        """Back to a `state` or an `excerpt`."""

    def excerpt(self) -> dict[str, Any]:
        """What `Method.sample` needs of it later: bounded, and of no file."""


class Images(NamedTuple):
    """The training set as a `Reference` gets it: ``batch(n)`` draws augmented real images.

    Attributes:
        batch: n -> (x (n, C, H, W) in [0, 1], y (n,)); walks shuffled epochs on the train stream.
        state, load: position in the epoch, for checkpoints.
    """

    batch: Callable[[int], tuple[Tensor, Tensor]]
    state: Callable[[], dict[str, Any]]
    load: Callable[[dict[str, Any]], None]


@dataclass
class Schedule:
    """A learning-rate factor as a function of the clock's progress; base rates are read at creation."""

    opt: torch.optim.Optimizer
    factor: Callable[[float], float]
    base: list[float] = field(init=False)

    def __post_init__(self) -> None:
        """Remember the rates the optimiser was made with."""
        self.base = [g["lr"] for g in self.opt.param_groups]

    def set(self, progress: float) -> None:
        """Set every group's rate for this progress."""
        for group, base in zip(self.opt.param_groups, self.base, strict=True):
            group["lr"] = base * self.factor(progress)


class Method(ABC):
    """A data-free distillation method: subclass it in ``methods/<name>.py``; the file registers it.

    A subclass sets `HP` (a frozen dataclass of `harness.settings.setting` and `weight` fields), fills
    `parts` and `opts` in ``__init__`` after calling this one, and writes `synthesize` and `distill`.
    """

    HP: ClassVar[type]
    #: what a setting that is a preset changes in others: {"fidelity": {"released": {...}}}
    PRESETS: ClassVar[Presets] = {}
    TITLE: ClassVar[str] = ""
    PAPER: ClassVar[str] = ""
    YEAR: ClassVar[int] = 0
    #: what it needs of the teacher, in words, for the listing
    NEEDS: ClassVar[tuple[str, ...]] = ()
    #: raise it when the method's numbers change; part of every trial's id
    VERSION: ClassVar[int] = 1
    #: parts that make images: `distill` leaves their parameters alone
    MAKERS: ClassVar[tuple[str, ...]] = ("G",)
    #: pools that `sample` draws from: of these an excerpt is kept when the trial is over
    SAMPLED: ClassVar[tuple[str, ...]] = ("images",)
    #: True only for `Reference`
    USES_DATA: ClassVar[bool] = False
    #: a method that any real one must beat: noise, an untrained generator; every table marks it
    CONTROL: ClassVar[bool] = False

    def __init__(self, problem: Problem, hp: Any) -> None:
        """Keep what was given; a subclass goes on to fill `parts` (neither T nor S) and `opts`."""
        self.problem, self.hp = problem, hp
        self.T, self.S = problem.teacher, problem.student
        self.parts: dict[str, nn.Module] = {}
        self.opts: dict[str, torch.optim.Optimizer] = {}
        self.pools: dict[str, Pooled] = {}
        self.schedules: list[Schedule] = []
        self.updates: dict[str, int] = {}
        self._finite = torch.ones((), dtype=torch.bool, device=problem.compute.device)

    @abstractmethod
    def synthesize(self) -> Terms:
        """Work on the images; leave the student's parameters alone. May return no terms (warm-up)."""

    @abstractmethod
    def distill(self) -> Terms:
        """Work on the student; leave the image-making parts' parameters alone."""

    @abstractmethod
    def sample(
        self, n: int, labels: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor | None] | None:
        """What the student is trained on now, as images.

        Args:
            n: how many.
            labels: (n,) classes asked for, or None to draw them; a method without labels ignores it.
            rng: the only randomness allowed; the train stream stays untouched.

        Returns:
            Images (n, C, H, W) that may leave [0, 1] (the harness clamps and counts), and the labels
            (n,) or None; or None for a method that makes no images.
        """

    @classmethod
    def skip(cls, hp: Any, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> str | None:
        """Why this cell stays blank, or None; answers without any weight file."""
        return None

    @classmethod
    def cautions(cls, hp: Any, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> list[str]:
        """What a reader of this cell's number should know, one line each; answers without any weight file.

        Each begins with a name of `harness.store.warnings.SIGNATURES` and a colon, as `width_mismatch` does.
        """
        return []

    def round(self) -> Terms:
        """One synthesize and one distill; override for another order."""
        return prefixed("G", self.synthesize()) | prefixed("S", self.distill())

    def step(
        self, name: str, terms: Mapping[str, Tensor], clip: float | None = None, also: tuple[str, ...] = ()
    ) -> Terms:
        """Take one gradient step of ``opts[name]`` on the sum of the terms; the only place that does.

        Args:
            name: which optimiser; also the key of the update count.
            terms: name -> scalar with its weight included.
            clip: largest gradient norm over the optimiser's parameters, or None.
            also: other optimisers that step on the same gradients.

        Raises:
            DfkdError: for no term at all.
            Diverged: on a CPU, at once, when the loss is not finite. A GPU is asked at the next point
                (`check_finite`), since asking here would wait for the device.
        """
        if not terms:
            raise DfkdError(f"{name!r} has nothing to minimise: every weight of its terms is off")
        opts = [self.opts[key] for key in (name, *also)]
        loss = torch.stack(list(terms.values())).sum()
        bad = not loss.is_cuda and not torch.isfinite(loss.detach())
        if bad:
            named = ", ".join(k for k, v in terms.items() if not torch.isfinite(v)) or "their sum"
            raise Diverged(f"loss of {name!r} is not finite in round {self.problem.clock.round}: {named}")
        self._finite &= torch.isfinite(loss.detach())
        for opt in opts:
            opt.zero_grad(set_to_none=True)
        self.problem.compute.backward(loss, opts, name, clip)
        self.updates[name] = self.updates.get(name, 0) + 1
        return Terms({k: v.detach() for k, v in terms.items()})

    def check_finite(self) -> None:
        """Ask the device whether every loss so far was finite.

        Raises:
            Diverged: when one was not.
        """
        if not bool(self._finite):
            raise Diverged(f"a loss was not finite by round {self.problem.clock.round}")

    def extra_state(self) -> dict[str, Any]:
        """What else lives across rounds: tensors, numbers, strings, and dicts or lists of them."""
        return {}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `extra_state` gave."""
        if state:
            raise DfkdError(f"checkpoint holds {sorted(state)}, which this method does not know")


class Reference(Method):
    """A method that sees the real training set: an upper reference, marked so in every table."""

    USES_DATA: ClassVar[bool] = True
    MAKERS: ClassVar[tuple[str, ...]] = ()

    def __init__(self, problem: Problem, hp: Any, images: Images) -> None:
        """As `Method`, plus the training images."""
        super().__init__(problem, hp)
        self.images = images

    def synthesize(self) -> Terms:
        """Real images need no making."""
        return Terms()

    def sample(
        self, n: int, labels: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor | None] | None:
        """No image of its own."""
        return None

    def extra_state(self) -> dict[str, Any]:
        """Position in the epoch."""
        return {"images": self.images.state()}

    def load_extra_state(self, state: dict[str, Any]) -> None:
        """Back to that position."""
        self.images.load(state["images"])


def prefixed(phase: str, terms: Mapping[str, Tensor]) -> Terms:
    """Terms with ``phase/`` before each name, as curves and logs show them."""
    return Terms({f"{phase}/{k}": v for k, v in terms.items()})
