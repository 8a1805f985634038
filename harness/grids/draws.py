"""Where the settings of a search come from: seeded draws.

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
