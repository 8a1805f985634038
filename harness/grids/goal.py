"""What a search is asked for, and what became of one of its trials."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import registry
from harness.config import Frozen, Trial, digest
from harness.grids import draws
from harness.schedule.rungs import ETA, By, points_for, score
from harness.settings import resolve
from harness.store.cards import slug


class Goal(Frozen):
    """What a search is asked for, all of which enters its key.

    Attributes:
        start: the settings as they stand, on one task, pair and seed, with the budget of a whole trial and
            the points of `harness.schedule.rungs.points_for`.
        given: of these settings, what is not the method's default or a preset's.
        over: setting -> where to look.
        by: what is maximised (``val_top1``) or minimised (``val_nll``); the other decides a tie.
        draw: seed of the draws.
        eta: one trial in ``eta`` goes on at each rung; 0: every trial goes to the end.
    """

    start: Trial
    given: dict[str, Any]
    over: dict[str, draws.Axis]
    by: By = "val_top1"
    draw: int = 0
    eta: int = ETA

    def folder(self, out: Path) -> Path:
        """Where it lies."""
        asked = self.model_dump(mode="json", exclude={"start"}) | {"start": self.start.id}
        asked["sampler"] = "random"  # once a choice: a search that was begun then keeps its folder
        t = self.start
        name = f"{t.method}-{slug(t.task)}-{t.teacher}-{t.student}-{digest(asked)[:6]}"
        return Path(out).absolute() / "search" / name

    def trial(self, number: int, values: Mapping[str, Any]) -> Trial:
        """A trial with these values of ``over``."""
        cls = registry.methods.get(self.start.method)
        settings = resolve(self.start.method, cls.HP, cls.PRESETS, self.given | dict(values))
        label = f"{self.start.method}, trial {number}"
        return self.start.model_copy(update={"settings": settings, "label": label})

    def best(self, tries: Iterable[Tried]) -> Tried | None:
        """Of the trials that went to the end the one with the best score, then the better other number."""

        def rank(each: Tried) -> tuple[float, float]:
            other: By = "val_top1" if self.by == "val_nll" else "val_nll"
            return -score(self.by, vars(each)), -score(other, vars(each))

        return min((each for each in tries if each.ended == "done"), key=rank, default=None)

    def percent(self, each: Tried) -> float:
        """Of the budget, where a trial was looked at last."""
        return round(100.0 * each.point / points_for(self.eta), 1)


@dataclass(frozen=True)
class Tried:
    """One trial of a search.

    Attributes:
        number: from 0, which is the settings as they stood.
        id: the trial's.
        values: of the settings searched over.
        ended: ``done``, ``stopped`` early, ``failed``, ``skipped``; ``open``: the next run goes on with it.
        point: where it was looked at last, out of the goal's points.
        val_nll, val_top1: there; None where they do not count: it failed, or is open.
        reason: why.
    """

    number: int
    id: str
    values: dict[str, Any]
    ended: str
    point: float = 0.0
    val_nll: float | None = None
    val_top1: float | None = None
    reason: str = ""
