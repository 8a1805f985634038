"""How much a search spends, and when it stops a trial early: rungs of the budget, successive halving."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

By = Literal["val_nll", "val_top1"]

#: trials of a search unless asked otherwise, the same for every method: equal effort
TRIALS = 20
#: seed of a search's trials: in no grid of ours, so that nothing is reported on the seed it was tuned on
SEED = 100
#: of the trials at a rung one in so many goes on
ETA = 3


def score(by: By, row: Mapping[str, Any]) -> float:
    """Of a point of a curve or of a result; higher is better."""
    return -float(row["val_nll"]) if by == "val_nll" else float(row["val_top1"])


class Rungs:
    """Asynchronous successive halving (Li et al., arXiv 1810.05934), by the rule of Ray Tune's ASHAScheduler.

    A trial that comes to a rung is stopped where it is worse than the best 1 / eta of those that were there
    before it (linear quantile); the first one always goes on. Rungs are at points 1 and ``eta`` of ``eta``
    squared, so at 1/9 and 1/3 of the budget for 3.

    Attributes:
        eta: 0 for no rung at all.
        by: what decides.
        points: of a whole trial.
        scores: rung -> trial id -> score.
    """

    def __init__(self, eta: int, by: By = "val_top1") -> None:
        """Empty rungs."""
        self.eta, self.by, self.points = eta, by, points_for(eta)
        self.scores: dict[int, dict[str, float]] = {1: {}, eta: {}} if eta else {}

    def reached(self, point: float) -> int | None:
        """The highest rung at or below a point; None below the first, and at the end: nothing stops there."""
        if point >= self.points:
            return None
        return max((rung for rung in self.scores if rung <= point), default=None)

    def stops(self, id: str, rung: int, score: float) -> bool:
        """Whether a trial ends here; remembers its score either way."""
        import numpy as np

        before = [s for other, s in self.scores[rung].items() if other != id]
        self.scores[rung][id] = score
        return bool(before) and score < float(np.percentile(before, (1 - 1 / self.eta) * 100))


def points_for(eta: int) -> int:
    """Points of a search's trial: ``eta`` squared; nine where nothing is stopped."""
    return eta**2 or 9


class Climb:
    """One trial on its way up: what of a row is to be judged, told where the trial runs."""

    def __init__(self, eta: int, by: By) -> None:
        """At the foot."""
        self._rungs, self._at = Rungs(eta, by), 0

    def __call__(self, row: Mapping[str, Any]) -> dict[str, float]:
        """``rung`` and ``score`` where the row is the first at a higher rung, else nothing."""
        rung = self._rungs.reached(row["point"])
        if rung is None or rung <= self._at:
            return {}
        self._at = rung
        return {"rung": rung, "score": score(self._rungs.by, row)}
