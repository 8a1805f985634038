"""Whether a result still stands: its teacher and its torch are still the ones that would be used today."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from harness.config import Trial
from harness.errors import DfkdError


class Staleness:
    """(trial, provenance of its result) -> why it is stale, or an empty text. Loads no weights, no data."""

    def __init__(self, teachers_dir: Path) -> None:
        """Look for teachers' cards there."""
        self.dir = Path(teachers_dir)

    @cached_property
    def _torch(self) -> str:
        return version("torch").partition("+")[0]

    def __call__(self, trial: Trial, provenance: Mapping[str, Any]) -> str:
        """Compare; what cannot be known (a teacher file that is not here) is no reason."""
        reasons = []
        card = self._card(trial)
        if card:
            for what, mine in (("teacher", "teacher_digest"), ("data", "data_digest")):
                now, then = card["digest" if what == "teacher" else mine], str(provenance.get(mine, ""))
                if then and now != then:
                    reasons.append(f"{what} was {then[:8]}, is {now[:8]}")
        then = str(provenance.get("torch", "")).partition("+")[0]
        if then and then != self._torch:
            reasons.append(f"torch was {then}, is {self._torch}")
        threads = provenance.get("threads")
        if threads is not None and int(threads) != trial.cpus:
            reasons.append(f"threads were {int(threads)}, are {trial.cpus}")
        return "; ".join(reasons)

    def _card(self, trial: Trial) -> dict[str, Any] | None:
        key = repr((trial.task, trial.teacher, trial.recipe, trial.teacher_seed, trial.teacher_digest))
        if key not in self._cards:
            from harness.store import cards

            try:
                found = cards.find(self.dir, trial)
            except DfkdError:
                found = None  # a damaged card is told by whoever needs the teacher
            self._cards[key] = found.model_dump() if found else None
        return self._cards[key]

    @cached_property
    def _cards(self) -> dict[str, dict[str, Any] | None]:
        return {}
