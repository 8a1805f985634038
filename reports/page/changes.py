"""A comparison laid out: a table and lines for a terminal, JSON for scripts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.store.compare import Comparison, Pair
from harness.store.records import Record
from reports.numbers.rows import gathered
from reports.tables.model import DASH

#: names or numbers that one trial is shown with
_MOST = 4
#: of a record, what a pair says, or nobody asks for
_UNTOLD = ("path", "declared", "points", "spend", "provenance", "images")


def table(found: Comparison) -> list[dict[str, Any]]:
    """A row a pair, for a terminal; columns that say nothing of any pair are left out."""
    rows = [_row(pair) for pair in found.pairs]
    unsaid = [k for k in ("task", "pair", "teacher seed") if len({r[k] for r in rows}) == 1]
    unsaid += [] if any(r["differs in"] for r in rows) else ["differs in"]
    return [{k: v for k, v in row.items() if k not in unsaid} for row in rows]


def _row(pair: Pair) -> dict[str, Any]:
    a, b = pair.a, pair.b
    tops = [_number(r.metrics.get("top1", math.nan)) if r.status == "done" else r.status for r in (a, b)]
    changed = [*pair.declared, *(k for k in pair.provenance if k != "teacher_top1")]
    return {
        "row": _both(a.row, b.row),
        "task": _both(a.task, b.task),
        "pair": _both(f"{a.teacher}->{a.student}", f"{b.teacher}->{b.student}"),
        "teacher seed": a.teacher_seed,
        "seed": a.seed,
        "top1 A": tops[0],
        "top1 B": tops[1],
        "difference": _number(pair.difference, "+.2f"),
        "resolution": _number(pair.resolution),
        "equal numbers": f"{pair.compared - len(pair.metrics)} of {pair.compared}" if pair.done else DASH,
        "verdict": pair.verdict,
        "differs in": _first(changed, ", "),
    }


def _first(of: Sequence[str], between: str) -> str:
    return between.join(of[:_MOST]) + (f" and {len(of) - _MOST} more" if len(of) > _MOST else "")


def _both(a: str, b: str) -> str:
    return a if a == b else f"{a} / {b}"


def _number(value: float, form: str = ".2f") -> str:
    return DASH if math.isnan(value) else format(value, form)


def lines(found: Comparison) -> list[str]:
    """What stands below the table: changes and their trials, numbers that differ, leftovers, the summary."""
    said = [
        *_listed("what differs", _changed(found.pairs)),
        *_listed("numbers that differ", _numbers(found.pairs)),
    ]
    none = [f"{p.a.name}: A {p.a.stands}; B {p.b.stands}" for p in found.pairs if not p.done]
    said += _listed("without a number", none)
    for letter, only in (("A", found.only_a), ("B", found.only_b)):
        said += _listed(f"only in {letter}", _alone(only))
    broken = [
        f"{p.a.name} ({p.a.id}): same machine type, {'kernels, ' * p.exact}files, versions and threads, "
        + ("" if p.exact else "kernels not known on both sides, ")
        + "other numbers: "
        + (_change("top1", p.metrics["top1"]) if "top1" in p.metrics else p.curve or ", ".join(p.metrics))
        for p in found.broken
    ]
    return [*said, *_listed("broken promises", broken), "", summary(found)]


def _listed(title: str, entries: Sequence[str]) -> list[str]:
    return ["", f"{title}:", *(f"  {entry}" for entry in entries)] if entries else []


def _alone(only: Sequence[tuple[Record, str]]) -> list[str]:
    """Trials of one side, those that differ in their seeds alone on one line."""
    told = gathered(((record.cell, why), str(record.seed)) for record, why in only)
    return [
        f"{cell} seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}: {why}"
        for (cell, why), seeds in told.items()
    ]


def _changed(pairs: Sequence[Pair]) -> list[str]:
    """Each change of settings or provenance once, with how many pairs have it."""
    every = [change for pair in pairs for change in {**pair.declared, **pair.provenance}.items()]
    told = Counter(_change(name, change) for name, change in every)
    return [f"{text} ({n} of {len(pairs)})" for text, n in told.most_common()]


def _change(name: str, change: tuple[Any, Any]) -> str:
    a, b = map(_shown, change)
    if a == b and isinstance(change[0], float):  # they part behind the digits that are shown
        a, b = map(repr, change)
    return f"{name}: {a} -> {b}"


def _shown(value: Any) -> str:
    if value is None or value == "":
        return DASH
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text[:12] if len(text) == 64 and " " not in text else text  # a digest


def _numbers(pairs: Sequence[Pair]) -> list[str]:
    """Of each pair the numbers other than top-1 that differ, those that differ most first."""
    said = []
    for pair in pairs:
        order = sorted(pair.metrics, key=lambda k: (k in pair.a.spend, -_relative(pair.metrics[k]), k))
        shown = [_change(name, pair.metrics[name]) for name in order if name != "top1"]
        if told := [text for text in (_first(shown, "; "), pair.curve) if text]:
            said.append(f"{pair.a.name}: {'; '.join(told)}")
    return said


def _relative(change: tuple[float, float]) -> float:
    a, b = change
    return abs(b - a) / max(abs(a), abs(b)) if math.isfinite(a) and math.isfinite(b) and a != b else 0.0


def summary(found: Comparison) -> str:
    """Counts by verdict, the worst difference, the promises, the leftovers."""
    pairs = found.pairs
    said = [f"{len(pairs)} trial{'' if len(pairs) == 1 else 's'} in both"]
    if pairs:
        by = Counter(pair.by for pair in pairs)
        common = {"id": "of the same declaration", "name": "by what they have in common"}
        counts = Counter(pair.verdict for pair in pairs).most_common()
        said[0] += f" ({', '.join(f'{by[k]} {word}' for k, word in common.items() if by[k])}): "
        said[0] += ", ".join(f"{n} {verdict}" for verdict, n in counts)
    told = [pair for pair in pairs if not math.isnan(pair.difference)]
    worst = max(told, key=lambda pair: abs(pair.difference), default=None)
    if worst and worst.difference:
        said.append(f"worst difference of top-1: {worst.difference:+.2f} points, {worst.a.name}")
    promised = sum(pair.promised for pair in pairs)
    if promised:
        loose = sum(pair.promised and not pair.exact for pair in pairs)
        but = f" ({loose} but for rounding: kernels not known on both sides)" if loose else ""
        said.append(f"promised to be equal: {promised}{but}, of which {len(found.broken)} are not")
    if found.only_a or found.only_b:
        said.append(f"only in A: {len(found.only_a)}, only in B: {len(found.only_b)}")
    return "\n".join(said)


def plain(found: Comparison) -> dict[str, Any]:
    """Everything as JSON's types."""
    return {
        "pairs": [_plain(pair) for pair in found.pairs],
        "only_a": [_told(r) | {"why": why} for r, why in found.only_a],
        "only_b": [_told(r) | {"why": why} for r, why in found.only_b],
        "counts": dict(sorted(Counter(pair.verdict for pair in found.pairs).items())),
        "broken": len(found.broken),
    }


def _told(record: Record) -> dict[str, Any]:
    return {k: v for k, v in vars(record).items() if k not in _UNTOLD}


def _plain(pair: Pair) -> dict[str, Any]:
    told = {name: getattr(pair, name) for name in ("verdict", "difference", "equal", "promised")}
    return vars(pair) | told | {"a": _told(pair.a), "b": _told(pair.b)}
