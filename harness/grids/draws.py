"""Where the settings of a search come from: seeded draws, or Optuna asked in turn. Home of optuna.

A draw depends on the search's seed, the setting's name and the trial's number alone: to search longer, or
over one setting more, changes nothing of what was drawn before.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from harness.errors import DfkdError, unknown
from harness.settings import Space, settings_of

#: numbers are rounded to so many significant digits, so that a table shows exactly what was run
_DIGITS = 3


class Axis(NamedTuple):
    """One setting of a search: its space, and whether it takes whole numbers alone."""

    space: Space
    whole: bool = False


class Told(NamedTuple):
    """What a sampler may learn from: settings that were tried, and how good they were.

    Attributes:
        values: setting -> value.
        score: higher is better; None where the trial failed.
        rung: where it was stopped, None where it went to the end.
    """

    values: Mapping[str, Any]
    score: float | None
    rung: int | None = None


def axes(method: str, hp: type, over: Iterable[str], at: Mapping[str, Any]) -> dict[str, Axis]:
    """The settings that a search varies, in the method's order.

    Args:
        method: for messages.
        hp: its settings.
        over: names; none for every setting with a space, but for a weight that is off as things stand.
        at: the settings as they stand.

    Raises:
        DfkdError: for an unknown setting, one without a space, or none at all.
    """
    fields, over = settings_of(hp), list(over)
    can = {name: meta for name, (_, meta) in fields.items() if meta.space}
    for name in over:
        if name not in fields:
            raise unknown(f"setting of {method}", name, fields)
        if name not in can:
            raise DfkdError(
                f"--over {name}: {method}.{name} has no space to search; settings with one: "
                f"{', '.join(can) or 'none'}"
            )
    asked = over or [name for name, meta in can.items() if not meta.term or at[name] != meta.off]
    if not asked:
        raise DfkdError(f"{method} has no setting with a space to search")
    whole = {name: default is None or type(default) is int for name, (default, _) in fields.items()}
    return {n: Axis(meta.space, whole[n]) for n, meta in can.items() if n in asked and meta.space}


def drawn(over: Mapping[str, Axis], seed: int, number: int, again: int = 0) -> dict[str, Any]:
    """Settings of a trial.

    Args:
        over: what to draw.
        seed: of the search.
        number: of the trial.
        again: how many draws for this number were thrown away.
    """
    return {name: place(axis, _uniform(f"{seed}/{name}/{number}/{again}")) for name, axis in over.items()}


def place(axis: Axis, u: float) -> Any:
    """The value at a share u in [0, 1) of a space: along its logarithm where the space is ``log``."""
    space = axis.space
    if space.kind == "choice":
        return space.options[int(u * len(space.options))]
    if space.kind == "log":
        return _rounded(axis, space.low * (space.high / space.low) ** u)
    return _rounded(axis, space.low + (space.high - space.low) * u)


def _rounded(axis: Axis, value: float) -> float | int:
    low, high = axis.space.low, axis.space.high
    if axis.whole:
        return min(max(round(value), math.ceil(low)), math.floor(high))
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def _uniform(name: str) -> float:
    return (int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 11) / 2**53


class Optuna:
    """Optuna's TPE, asked for one trial at a time: the same number and history give the same answer."""

    def __init__(self, over: Mapping[str, Axis], seed: int) -> None:
        """Prepare.

        Raises:
            DfkdError: where Optuna is not installed.
        """
        try:
            import optuna
        except ImportError:
            raise DfkdError(
                "--sampler optuna: Optuna is not installed; pip install 'dfkd-bench[optuna]', or take random"
            ) from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._optuna, self._over, self._seed = optuna, over, seed
        kinds = optuna.distributions
        self._spaces: dict[str, Any] = {}
        for name, (space, whole) in over.items():
            if space.kind == "choice":
                self._spaces[name] = kinds.CategoricalDistribution(space.options)
            elif whole:
                low, high = math.ceil(space.low), math.floor(space.high)
                self._spaces[name] = kinds.IntDistribution(low, high, log=space.kind == "log")
            else:
                self._spaces[name] = kinds.FloatDistribution(space.low, space.high, log=space.kind == "log")

    def __call__(self, number: int, told: Iterable[Told]) -> dict[str, Any]:
        """Settings of trial ``number``."""
        optuna = self._optuna
        sampler = optuna.samplers.TPESampler(seed=int(_uniform(f"{self._seed}/{number}") * 2**32))
        study = optuna.create_study(direction="maximize", sampler=sampler)
        for each in told:
            state = optuna.trial.TrialState
            how: dict[str, Any] = {"state": state.COMPLETE, "value": each.score}
            if each.score is None:
                how = {"state": state.FAIL}
            elif each.rung is not None:
                how = {"state": state.PRUNED, "intermediate_values": {each.rung: each.score}}
            try:
                made = optuna.trial.create_trial(params=dict(each.values), distributions=self._spaces, **how)
            except ValueError:  # settings as they stood may lie outside of their space
                continue
            study.add_trial(made)
        asked = study.ask(self._spaces).params
        return {
            name: value if axis.space.kind == "choice" else _rounded(axis, value)
            for name, axis in self._over.items()
            for value in [asked[name]]
        }
