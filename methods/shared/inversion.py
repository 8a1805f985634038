"""Inversion once: images are optimised against T, go into a pool, and S is distilled from the pool.

A method says what is optimised (`begin`) and what for (`terms_I`); a round is one batch of images and
``s_steps`` steps of S.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from harness.compute import frozen
from harness.config import Task
from harness.errors import DfkdError
from harness.interface import Problem, Terms
from harness.network import NetSpec
from harness.settings import log, setting, weight
from harness.tasks.views import augment
from methods.shared import losses, priors
from methods.shared.pool import Field, Pool
from methods.shared.student import Distiller, Lesson, StudentHP

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "uint8": torch.uint8}


@dataclass(frozen=True)
class InversionHP(StudentHP):
    """Settings of inversion; a method's HP restates the defaults its authors changed."""

    s_steps: int = setting(400, "student steps in a round", low=0, role="steps")
    weight_decay: float = setting(1e-4, "weight decay of S", low=0.0)
    tau: float = setting(20.0, "temperature of the student's KL", low=1e-3, space=log(1, 20))
    g_steps: int = setting(200, "steps on one batch of images", low=1, role="steps")
    synthesis_batch: int = setting(256, "images made in a round", low=2, role="batch")
    bn: float = weight(1.0, "bn: BatchNorm statistics", term="bn", space=log(0.01, 30))
    oh: float = weight(1.0, "oh: cross-entropy with the label asked for", term="oh", space=log(0.01, 10))
    keep: str = setting(
        "after", "images kept: after the last step, or of least loss before it", choices=("after", "best")
    )
    targets: str = setting("random", "labels of a batch", choices=("random", "balanced"))
    warmup_rounds: int = setting(0, "rounds that only fill the pool", low=0, role="warmup")
    pool: int = setting(51_200, "most images kept; the oldest leave", low=1, role="store")
    pool_dtype: str = setting(
        "float32", "how they are kept; uint8 floors, as PNGs do", choices=tuple(_DTYPES)
    )
    student_bn: str = setting("eval", "BatchNorm of S while images are made", choices=("train", "eval"))


class Inversion(Distiller):
    """A batch of images a round, made to order, and a student that learns from all made so far."""

    HP: ClassVar[type] = InversionHP
    NEEDS = ("BatchNorm in the teacher unless bn = 0",)

    def __init__(self, problem: Problem, hp: InversionHP) -> None:
        """An empty pool."""
        super().__init__(problem, hp)
        fields = {"x": Field(problem.task.shape, _DTYPES[hp.pool_dtype]), "y": Field((), torch.int64)}
        self.pool = Pool(hp.pool, fields, device=problem.compute.device, scratch=self.scratch("images"))
        self.pools["images"] = self.pool

    @classmethod
    def skip(cls, hp: Any, task: Task, t_spec: NetSpec, s_spec: NetSpec) -> str | None:
        """BN statistics need a teacher that has them."""
        return priors.missing_bn("bn", hp.bn, t_spec)

    @abstractmethod
    def begin(self, y: Tensor) -> Callable[[], Tensor]:
        """Start on a batch with labels y: put its optimiser into ``opts["images"]``.

        Returns:
            What renders the batch as it stands, (n, C, H, W) in [0, 1] units, with a graph.
        """

    @abstractmethod
    def terms_I(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        """What the images minimise."""

    def step_I(self, terms: dict[str, Tensor]) -> Terms:
        """One step on the images."""
        return self.step("images", terms)

    def made(self, x: Tensor, y: Tensor) -> None:
        """The batch is done, ``opts["images"]`` still there; a method that learns from it overrides."""

    @property
    def warm(self) -> bool:
        """Whether the student is being trained already."""
        return self.problem.clock.round >= self.hp.warmup_rounds

    def synthesize(self) -> Terms:
        """One batch of images into the pool; no weight gradient of T or S is computed."""
        hp, device = self.hp, self.problem.compute.device
        y = self.ask(hp.synthesis_batch)
        render = self.begin(y)
        best, x_best = torch.full((), torch.inf, device=device), None
        steps = []
        self.S.train(hp.student_bn == "train")
        with frozen(self.S):
            for _ in range(hp.g_steps):
                x = render()
                steps.append(self.step_I(self.terms_I(x, y)))
                if hp.keep == "best":
                    loss = torch.stack(list(steps[-1].values())).sum()
                    x_best = x.clone() if x_best is None else torch.where(loss < best, x, x_best)
                    x_best = x_best.detach()
                    best = torch.minimum(loss, best)
        with torch.no_grad():
            x = render() if x_best is None else x_best
        self.S.train()
        self.made(x, y)
        del self.opts["images"]
        self.pool.add(x=(x * 255).clamp(0, 255).floor() if hp.pool_dtype == "uint8" else x, y=y)
        return Terms.mean(steps)

    def ask(self, n: int) -> Tensor:
        """Labels for a batch: uniform, or each class equally often."""
        K, device = self.problem.task.K, self.problem.compute.device
        if self.hp.targets == "balanced":
            return torch.arange(n, device=device) % K
        return torch.randint(K, (n,), generator=self.problem.rng, device=device)

    def labels_loss(self, t: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The term ``oh``, unless it is off."""
        return {"oh": self.hp.oh * losses.ce(t, y)} if self.hp.oh else {}

    def lessons(self) -> Iterator[Lesson]:
        """Images drawn from the pool, augmented as the task bears; none during the warm-up."""
        rng = self.problem.rng
        for _ in range(self.hp.s_steps if self.warm else 0):
            x, y = self._units(self.pool.sample(self.hp.batch, rng))
            yield self.lesson(augment(x, self.problem.task, rng), y)

    def _units(self, rows: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        x = rows["x"].float()
        return (x / 255 if self.hp.pool_dtype == "uint8" else x), rows["y"]

    def sample(
        self, n: int, labels: Tensor | None, rng: torch.Generator
    ) -> tuple[Tensor, Tensor | None] | None:
        """Images of the pool, of the labels asked for where it has such."""
        if not len(self.pool):
            raise DfkdError("no image has been made yet: there is nothing to sample")
        held = self.pool.column("y").to(rng.device)
        index = torch.randint(len(held), (n,), generator=rng, device=rng.device)
        for k in () if labels is None else labels.unique():
            of_k = (held == k).nonzero()[:, 0]
            if len(of_k):
                at = (labels == k).nonzero()[:, 0]
                index[at] = of_k[torch.randint(len(of_k), (len(at),), generator=rng, device=rng.device)]
        return self._units(self.pool.rows(index))


def redraw(module: nn.Module, rng: torch.Generator) -> None:
    """Weights N(0, 0.02), BatchNorm scales N(1, 0.02), biases 0: DataFree's reset of a generator."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d) and m.affine:
            nn.init.normal_(m.weight, 1.0, 0.02, generator=rng)
            nn.init.zeros_(m.bias)
            m.reset_running_stats()
        elif isinstance(m, nn.Conv2d | nn.Linear):
            nn.init.normal_(m.weight, 0.0, 0.02, generator=rng)
            if m.bias is not None:
                nn.init.zeros_(m.bias)
