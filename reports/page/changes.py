"""A comparison laid out: a table and lines for a terminal, CSV and JSON for scripts."""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

from harness.store.compare import Comparison, Pair, Record, stands
from reports.tables.model import DASH

#: names or numbers that one trial is shown with
_MOST = 4


def table(found: Comparison) -> list[dict[str, Any]]:
    """A row a pair, for a terminal; columns that say nothing of any pair are left out."""
    rows = []
    for pair in found.pairs:
        a, b = pair.a, pair.b
        tops = [r["metrics"].get("top1") if r["status"] == "done" else r["status"] for r in (a, b)]
        row = {"row": _both(a["row"], b["row"]), "task": _both(a["task"], b["task"])}
        row["pair"] = _both(*(f"{r['teacher']}->{r['student']}" for r in (a, b)))
        row |= {"teacher seed": a["teacher_seed"], "seed": a["seed"]}
        row |= {"top1 A": _percent(tops[0]), "top1 B": _percent(tops[1])}
        row["difference"] = DASH if math.isnan(pair.difference) else f"{pair.difference:+.2f}"
        row["resolution"] = DASH if math.isnan(pair.resolution) else f"{pair.resolution:.2f}"
        same = pair.compared - len(pair.metrics)
        row["equal numbers"] = f"{same} of {pair.compared}" if pair.done else DASH
        row["verdict"] = pair.verdict
        changed = [*pair.declared, *(k for k in pair.provenance if k != "teacher_top1")]
        row["differs in"] = ", ".join(changed[:_MOST]) + _rest(changed)
        rows.append(row)
    if not rows:
        return rows
    constant = [k for k in ("task", "pair", "teacher seed") if len({r[k] for r in rows}) == 1]
    unsaid = constant + [k for k in ("seed", "differs in") if all(r[k] in (None, "") for r in rows)]
    return [{k: ("" if v is None else v) for k, v in row.items() if k not in unsaid} for row in rows]


def _rest(of: Sequence[str]) -> str:
    return f" and {len(of) - _MOST} more" if len(of) > _MOST else ""


def _both(a: str, b: str) -> str:
    return a if a == b else f"{a} / {b}"


def _percent(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, float | int) else DASH if value is None else str(value)


def lines(found: Comparison) -> list[str]:
    """What stands below the table: changes and their trials, numbers that differ, leftovers, the summary."""
    said = [
        *_listed("what differs", _changed(found.pairs)),
        *_listed("numbers that differ", _numbers(found.pairs)),
    ]
    none = [f"{_name(p.a)}: A {stands(p.a)}; B {stands(p.b)}" for p in found.pairs if not p.done]
    said += _listed("without a number", none)
    for letter, only in (("A", found.only_a), ("B", found.only_b)):
        said += _listed(f"only in {letter}", _alone(only))
    broken = [
        f"{_name(p.a)} ({p.a['id']}): same machine type, {'kernels, ' * p.exact}files, versions and threads, "
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
    told: dict[tuple[str, str], dict[str, None]] = {}
    for record, why in only:
        seeds = told.setdefault((_place(record), why), {})
        seeds |= {} if record["seed"] is None else {str(record["seed"]): None}
    listed = {True: "seeds", False: "seed"}
    return [
        place + (f" {listed[len(seeds) > 1]} {', '.join(seeds)}" if seeds else "") + f": {why}"
        for (place, why), seeds in told.items()
    ]


def _place(record: Record) -> str:
    name = f"{record['row']} on {record['task']} {record['teacher']}->{record['student']}"
    return name + (f" of teacher {t}" if (t := record["teacher_seed"]) else "")


def _name(record: Record) -> str:
    """``cpsc on digits wrn16_2->wrn16_1 seed 0``."""
    return _place(record) + ("" if record["seed"] is None else f" seed {record['seed']}")


def _changed(pairs: Sequence[Pair]) -> list[str]:
    """Each change of settings or provenance once, with how many pairs have it."""
    told = Counter(
        _change(name, change)
        for pair in pairs
        for name, change in {**pair.declared, **pair.provenance}.items()
    )
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
        spent = pair.a["spend"]
        order = sorted((k in spent, -_relative(change), k) for k, change in pair.metrics.items())
        changes = [(k, pair.metrics[k]) for *_, k in order]
        shown = [_change(k, v) for k, v in changes if k != "top1"]
        told = ["; ".join(shown[:_MOST]) + _rest(shown)] * bool(shown) + [pair.curve] * bool(pair.curve)
        if told:
            said.append(f"{_name(pair.a)}: {'; '.join(told)}")
    return said


def _relative(change: tuple[float, float]) -> float:
    a, b = change
    return abs(b - a) / max(abs(a), abs(b)) if math.isfinite(a) and math.isfinite(b) and a != b else 0.0


#: verdict -> as a count has it
_WORDS = {
    "equal": "equal",
    "within rounding": "within rounding",
    "within resolution": "within resolution",
    "beyond resolution": "beyond resolution",
    "differs": "other than equal, with the resolution unknown",
    "broken promise": "with a broken promise",
    "no number": "without a number",
}


def summary(found: Comparison) -> str:
    """Counts by verdict, the worst difference, the promises, the leftovers."""
    pairs = found.pairs
    kept = Counter(pair.verdict for pair in pairs)
    by = Counter(pair.by for pair in pairs)
    what = "row" if any(p.a["seed"] is None for p in pairs) else "trial"
    matched = [f"{by['id']} of the same declaration"] if by["id"] else []
    matched += [f"{by['name']} by what they have in common"] if by["name"] else []
    said = [f"{_count(len(pairs), what)} in both" + (f" ({', '.join(matched)})" if matched else "")]
    said[0] += ": " + ", ".join(f"{kept[k]} {word}" for k, word in _WORDS.items() if kept[k]) if pairs else ""
    told = [pair for pair in pairs if not math.isnan(pair.difference)]
    worst = max(told, key=lambda pair: abs(pair.difference), default=None)
    if worst and worst.difference:
        said.append(f"worst difference of top-1: {worst.difference:+.2f} points, {_name(worst.a)}")
    promised = sum(pair.promised for pair in pairs)
    if promised:
        loose = sum(pair.promised and not pair.exact for pair in pairs)
        but = f" ({loose} but for rounding: kernels not known on both sides)" if loose else ""
        said.append(f"promised to be equal: {promised}{but}, of which {len(found.broken)} are not")
    if found.only_a or found.only_b:
        said.append(f"only in A: {len(found.only_a)}, only in B: {len(found.only_b)}")
    return "\n".join(said)


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def plain(found: Comparison) -> dict[str, Any]:
    """Everything as JSON's types."""
    return {
        "pairs": [_plain(pair) for pair in found.pairs],
        "only_a": [{**_identity(r), "why": why} for r, why in found.only_a],
        "only_b": [{**_identity(r), "why": why} for r, why in found.only_b],
        "counts": dict(sorted(Counter(pair.verdict for pair in found.pairs).items())),
        "broken": len(found.broken),
    }


def _identity(record: Record) -> dict[str, Any]:
    names = ("id", "task", "teacher", "student", "row", "method", "teacher_seed", "seed", "status", "reason")
    return {name: record[name] for name in names}


def _plain(pair: Pair) -> dict[str, Any]:
    return {
        "a": _identity(pair.a),
        "b": _identity(pair.b),
        "by": pair.by,
        "verdict": pair.verdict,
        "top1": [r["metrics"].get("top1") for r in (pair.a, pair.b)],
        "difference": pair.difference,
        "resolution": pair.resolution,
        "equal": pair.equal,
        "promised": pair.promised,
        "compared": pair.compared,
        "metrics": {k: list(v) for k, v in pair.metrics.items()},
        "in_one_alone": list(pair.extra),
        "curve": pair.curve,
        "declared": {k: list(v) for k, v in pair.declared.items()},
        "provenance": {k: list(v) for k, v in pair.provenance.items()},
    }


def to_csv(found: Comparison) -> str:
    """A line a trial: identity, verdict, every number of both (``top1_a``, ``top1_b``), what differs."""
    metrics = dict.fromkeys(k for p in found.pairs for r in (p.a, p.b) for k in r["metrics"])
    heads = [
        "task",
        "teacher",
        "student",
        "row",
        "teacher_seed",
        "seed",
        "id_a",
        "id_b",
        "status_a",
        "status_b",
    ]
    heads += ["matched_by", "verdict", "difference", "resolution", "equal", "promised", "differs_in", "curve"]
    heads += [f"{name}_{side}" for name in metrics for side in "ab"]
    text = io.StringIO()
    writer = csv.DictWriter(text, heads, lineterminator="\n", restval="")
    writer.writeheader()
    for pair in found.pairs:
        row = _line(pair.a, "a") | _line(pair.b, "b") | {k: pair.a[k] for k in heads[:6]}
        row |= {
            "matched_by": pair.by,
            "verdict": pair.verdict,
            "equal": pair.equal,
            "promised": pair.promised,
        }
        row |= {
            "difference": _cell(pair.difference),
            "resolution": _cell(pair.resolution),
            "curve": pair.curve,
        }
        changes = {**pair.declared, **pair.provenance}
        row["differs_in"] = "; ".join(_change(k, v) for k, v in changes.items())
        writer.writerow(row)
    for letter, only in (("a", found.only_a), ("b", found.only_b)):
        for record, why in only:
            row = _line(record, letter) | {k: record[k] for k in heads[:6]}
            writer.writerow(row | {"verdict": f"only in {letter.upper()}", "differs_in": why})
    return text.getvalue()


def _line(record: Record, side: str) -> dict[str, Any]:
    numbers = (
        {f"{k}_{side}": _cell(v) for k, v in record["metrics"].items()} if record["status"] == "done" else {}
    )
    return {f"id_{side}": record["id"], f"status_{side}": record["status"], **numbers}


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(float(value))
