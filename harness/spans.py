"""Texts that say the same with other measured numbers, as one text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

K = TypeVar("K")
#: a number that was measured: it has a point or is a percentage
_MEASURED = re.compile(r"\d+\.\d+|\d+(?= %)")


def alike(said: Iterable[tuple[str, K]]) -> dict[str, list[K]]:
    """(text, who) -> each text once, with all who said it, in order of appearance.

    Texts that differ in measured numbers alone are one, with their range: ``blur: 43 %`` of seed 0 and
    ``blur: 48 %`` of seed 2 give ``{"blur: 43 to 48 %": [0, 2]}``.
    """
    kinds: dict[str, list[tuple[str, K]]] = {}
    for text, who in said:
        kinds.setdefault(_MEASURED.sub("#", text), []).append((text, who))
    return {
        _spanned([text for text, _ in same]): list(dict.fromkeys(who for _, who in same))
        for same in kinds.values()
    }


def _spanned(texts: Sequence[str]) -> str:
    """Lowest to highest of each measured number."""
    columns = zip(*(_MEASURED.findall(text) for text in texts), strict=True)
    ends = iter([(min(column, key=float), max(column, key=float)) for column in columns])

    def span(_: re.Match[str]) -> str:
        low, high = next(ends)
        return low if float(low) == float(high) else f"{low} to {high}"

    return _MEASURED.sub(span, texts[0])
