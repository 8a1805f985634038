"""Whether a result still stands: its teacher and its torch are still the ones that would be used today."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.config import Trial
from harness.errors import DfkdError
from harness.store import cards


class Staleness:
    """(trial, provenance of its result) -> why it is stale, or an empty text. Loads no weights, no data."""

    def __init__(self, teachers_dir: Path) -> None:
        """Look for teachers' cards there."""
        self.dir = Path(teachers_dir)
        self._cards: dict[str, cards.Card | None] = {}

    @cached_property
    def _torch(self) -> str:
        return version("torch").partition("+")[0]

    def __call__(self, trial: Trial, provenance: Mapping[str, Any]) -> str:
        """Compare; what cannot be known (a teacher file that is not here) is no reason."""
        reasons = []
        if card := self._card(trial):
            for what, now in (("teacher", card.digest), ("data", card.data_digest)):
                then = str(provenance.get(f"{what}_digest", ""))
                if then and now != then:
                    reasons.append(f"{what} was {then[:8]}, is {now[:8]}")
        then = str(provenance.get("torch", "")).partition("+")[0]
        if then and then != self._torch:
            reasons.append(f"torch was {then}, is {self._torch}")
        threads = provenance.get("threads")
        if threads is not None and int(threads) != trial.cpus:
            reasons.append(f"threads were {int(threads)}, are {trial.cpus}")
        return "; ".join(reasons)

    def _card(self, trial: Trial) -> cards.Card | None:
        key = repr((trial.task, trial.teacher, trial.recipe, trial.teacher_seed, trial.teacher_digest))
        if key not in self._cards:
            self._cards[key] = None
            with suppress(DfkdError):  # a damaged card is told by whoever needs the teacher
                self._cards[key] = cards.find(self.dir, trial)
        return self._cards[key]
