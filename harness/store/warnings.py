"""Names of the signatures that warnings begin with, and how a reader sees them: alike ones once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from harness.config import Trial

K = TypeVar("K")

#: name -> what it means
SIGNATURES = {
    "mode collapse": "the images lack classes, or are alike",
    "labels ignored": "the class asked for makes no difference to the images",
    "feature-width mismatch": "features of teacher and student are compared and differ in width",
    "blur": "the images lack the fine detail of test images, or the weight that keeps it is next to nothing",
    "divergence": "a loss grew out of all proportion, or the student unlearnt what it knew",
    "leak": "a student without data is better than its teacher by more than luck allows",
}
#: signatures whose every finding is remade by `harness.trials.diagnose.after` and `before`: an old one may go
_REMADE = ("feature-width mismatch", "blur", "divergence", "leak")
#: a number that was measured: it has a point or is a percentage
_MEASURED = re.compile(r"\d+\.\d+|\d+(?= %)")


def name_of(warning: str) -> str:
    """The name a warning begins with; empty for one that has none of `SIGNATURES`."""
    name = warning.partition(":")[0]
    return name if name in SIGNATURES else ""


def names_of(warnings: Iterable[str]) -> list[str]:
    """The names of several, each once; "warning" stands for those that have none."""
    return list(dict.fromkeys(name_of(w) or "warning" for w in warnings))


def listed(trials: Sequence[Trial], warnings: Sequence[Sequence[str]]) -> list[str]:
    """Each warning once, as lines: what it says, below it the trials it is of; none for none.

    Of warnings that differ in measured numbers alone there is one, with the range of each number.
    """
    said = [(warning, trial.cell) for trial, told in zip(trials, warnings, strict=True) for warning in told]
    found = alike(said)
    lines = [f"\n{len(found)} warning{'s' if len(found) > 1 else ''}:"] if found else []
    for warning, cells in found.items():
        lines.append(f"  {warning}")
        places: dict[str, list[str]] = {}
        for cell in cells:
            place, _, seed = cell.rpartition(" seed ")
            places.setdefault(place, []).append(seed)
        for place, seeds in places.items():
            lines.append(f"    {place} seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}")
    return lines


def renewed(old: Iterable[str], new: Iterable[str]) -> list[str]:
    """Warnings of a result that is measured again: the old ones but those that are remade, then the new."""
    return list(dict.fromkeys([*(w for w in old if name_of(w) not in _REMADE), *new]))


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
