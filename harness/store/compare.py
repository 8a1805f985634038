"""What changed between two runs, versions or machines, trial by trial; `reports.page.changes` lays it out.

Works on records of `harness.store.records`. Two trials of one id declare the same; where they also ran on the
same type of machine with the same kernels, files, versions and threads, every number but times and memory is
promised to have the same bits (`PROMISE`), whatever the commit: what changes a number raises a version, which
changes the id. A result from before kernels were recorded is promised the same numbers but for the rounding
of the last digits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any

from harness.store.records import Record

#: name -> what it is in A and in B
Change = dict[str, tuple[Any, Any]]

#: provenance that a promise of equal bits needs to be known and the same on both sides
PROMISE = ("machine", "device", "threads", "torch", "python", "teacher_digest", "data_digest")
#: what it needs to be the same where both sides know it, and to be known for a promise of bits
_KERNELS = "kernels"
#: numbers apart by less than this share of themselves differ by rounding: a distance of 64 features moved by
#: 4e-15 of itself from one BLAS kernel to another
_ROUNDING = 1e-9
#: half-width of a 95 % interval in standard errors
_Z = 1.959963984540054
#: what makes trials of different ids counterparts, closest first; a method may have several rows
_KEYS = (
    ("task", "teacher", "student", "row", "teacher_seed", "seed"),
    ("task", "teacher", "student", "method", "teacher_seed", "seed"),
)
_LEVELS = (
    (("task",), "nothing on {task}"),
    (("task", "teacher", "student"), "nothing of {teacher} -> {student} on {task}"),
    (("task", "teacher", "student", "row"), "no row {row} there"),
)


@dataclass(frozen=True)
class Pair:
    """A trial of A and its counterpart in B.

    Attributes:
        a, b: their records.
        by: ``id``, or ``name``: what they have in common.
        declared, provenance: what differs.
        metrics: numbers of the last point that differ; ``compared``, how many were compared.
        extra: numbers that one side alone has.
        curve: where the curves part, "" where they are equal or unknown, or other numbers differ already.
        resolution: half-width of the 95 % interval of a difference of two such accuracies, in points (see
            `resolution`): below it the test set cannot tell them apart; NaN where the images are not known.
    """

    a: Record
    b: Record
    by: str
    declared: Change
    provenance: Change
    metrics: Change
    compared: int
    extra: tuple[str, ...]
    curve: str
    resolution: float

    @property
    def done(self) -> bool:
        """Whether both have numbers."""
        return self.a.status == self.b.status == "done"

    @property
    def equal(self) -> bool:
        """Whether every number that both have is the same, to the last bit."""
        return self.done and not self.metrics and not self.curve

    @property
    def promised(self) -> bool:
        """Whether they must be equal."""
        same = self._known(*PROMISE) and not self.provenance.keys() & set(PROMISE)
        other = self._known(_KERNELS) and _KERNELS in self.provenance
        return self.done and self.by == "id" and same and not other

    @property
    def exact(self) -> bool:
        """Whether a promise is one of bits."""
        return self._known(_KERNELS)

    def _known(self, *names: str) -> bool:
        return all(s.provenance.get(name) not in (None, "") for s in (self.a, self.b) for name in names)

    @property
    def rounded(self) -> bool:
        """Whether they differ, in numbers of the last point and there by rounding alone."""
        apart = all(math.isclose(*change, rel_tol=_ROUNDING) for change in self.metrics.values())
        return self.done and bool(self.metrics) and apart and not self.curve

    @property
    def broken(self) -> bool:
        """Whether they must be equal and are not."""
        return self.promised and not self.equal and (self.exact or not self.rounded)

    @property
    def difference(self) -> float:
        """Top-1 of B minus that of A, in points; NaN where one has none."""
        if not self.done:
            return math.nan
        return self.b.metrics.get("top1", math.nan) - self.a.metrics.get("top1", math.nan)

    @property
    def verdict(self) -> str:
        """In words: broken promise, equal, within rounding, within or beyond resolution, differs, or none."""
        if not self.done:
            return "no number"
        if self.broken:
            return "broken promise"
        if self.equal:
            return "equal"
        if self.rounded:
            return "within rounding"
        if math.isnan(self.resolution) or math.isnan(self.difference):
            return "differs"
        return f"{'within' if abs(self.difference) <= self.resolution else 'beyond'} resolution"


@dataclass
class Comparison:
    """All pairs, and the trials of one side alone: (record, why it has no counterpart)."""

    pairs: list[Pair]
    only_a: list[tuple[Record, str]]
    only_b: list[tuple[Record, str]]

    @property
    def broken(self) -> list[Pair]:
        """Pairs that must be equal and are not."""
        return [pair for pair in self.pairs if pair.broken]


def compare(a: Sequence[Record], b: Sequence[Record], ids: Collection[str] | None = None) -> Comparison:
    """Find the counterparts and compare them.

    Args:
        a: records of one side.
        b: of the other. Two lone trials are counterparts whatever they are.
        ids: only these trials, those of one side alone and the pairs that have one of them; None keeps all.
    """
    pairs, left_a, left_b = [], {r.id: r for r in a}, {r.id: r for r in b}
    for key in (("id",), *_KEYS, *([()] if len(a) == len(b) == 1 else [])):
        there = defaultdict[tuple[Any, ...], list[Record]](list)
        for other in left_b.values():
            there[_key(other, key)].append(other)
        near = [(_apart(r, other), r.id, other.id) for r in left_a.values() for other in there[_key(r, key)]]
        for _, one, two in sorted(near):
            if one in left_a and two in left_b:
                pairs.append(pair(left_a.pop(one), left_b.pop(two)))
    return Comparison(
        [p for p in sorted(pairs, key=lambda p: _order(p.a)) if _tells(ids, p.a, p.b)],
        [(r, _why(r, b, "B")) for r in sorted(left_a.values(), key=_order) if _tells(ids, r)],
        [(r, _why(r, a, "A")) for r in sorted(left_b.values(), key=_order) if _tells(ids, r)],
    )


def _tells(ids: Collection[str] | None, *records: Record) -> bool:
    """Whether one is asked for, and one was run: what is only declared is as good as not there."""
    asked = ids is None or any(r.id in ids for r in records)
    return asked and any(r.status != "missing" or r.reason for r in records)


def _key(record: Record, names: Sequence[str]) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in names)


_order = attrgetter("task", "teacher", "student", "row", "method", "teacher_seed", "seed", "id")


def _apart(a: Record, b: Record) -> int:
    """How many settings and facts differ."""
    return len(_changes(a.declared, b.declared)) + len(_changes(a.provenance, b.provenance))


def pair(a: Record, b: Record) -> Pair:
    """Two trials held against each other."""
    done = a.status == b.status == "done"
    ours, theirs = ({**r.metrics, **r.spend} if done else {} for r in (a, b))
    both = [name for name in ours if name in theirs]
    found = Pair(
        a,
        b,
        by="id" if a.id == b.id else "name",
        declared=_changes(a.declared, b.declared),
        provenance=_changes(a.provenance, b.provenance) if done else {},
        metrics={k: (ours[k], theirs[k]) for k in both if not _same(ours[k], theirs[k])},
        compared=len(both),
        extra=tuple(sorted(set(ours) ^ set(theirs))),
        curve="",
        resolution=resolution(a, b),
    )
    if found.by == "id" and (found.equal or found.rounded):
        return replace(found, curve=_parting(a, b))
    return found


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Change:
    """What differs; a name that one side does not know is None there."""
    names = dict.fromkeys([*a, *b])
    return {k: (a.get(k), b.get(k)) for k in names if a.get(k) != b.get(k)}


def _parting(a: Record, b: Record) -> str:
    """Where two curves of equal points part: the point, and a column that does."""
    if a.points != b.points:
        return ""
    ours, theirs = a.curve(), b.curve()
    for one, two in zip(ours, theirs, strict=False):
        for name in dict.fromkeys([*one, *two]):
            if name != "seconds" and not _same(one.get(name), two.get(name)):
                return f"curves part at point {one.get('point')} in {name}"
    return "" if len(ours) == len(theirs) else f"curves have {len(ours)} and {len(theirs)} points"


def _same(a: Any, b: Any) -> bool:
    return a == b or (a != a and b != b)


def resolution(a: Record, b: Record) -> float:
    """Of a difference of two accuracies on N images each: 1.96 sqrt((p(1-p) + q(1-q)) / N), in points."""
    images = [r.images for r in (a, b) if r.images]
    tops = [r.metrics["top1"] for r in (a, b) if "top1" in r.metrics]
    if not images or len(tops) < 2:
        return math.nan
    return _Z * 100.0 * math.sqrt(sum(p / 100 * (1 - p / 100) for p in tops) / min(images))


def _why(record: Record, others: Sequence[Record], name: str) -> str:
    """Why a trial has no counterpart, and where it stands itself if it has no number."""
    missing = (
        text for names, text in _LEVELS if not any(_key(o, names) == _key(record, names) for o in others)
    )
    told = next((f"{name} has {text.format(**vars(record))}" for text in missing), "")
    if not told and any(_key(o, _KEYS[0]) == _key(record, _KEYS[0]) for o in others):
        told = f"that of {name} was closer to another"
    elif not told:
        seeds = {o.seed for o in others if _key(o, _LEVELS[2][0]) == _key(record, _LEVELS[2][0])}
        listed = ", ".join(map(str, sorted(seeds)))
        told = f"{name} has that row with seed{'s' if len(seeds) > 1 else ''} {listed}"
    return told + ("" if record.status == "done" else f"; {record.stands}")
