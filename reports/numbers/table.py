"""The main table's numbers, a row a variant."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.numbers import stats
from reports.numbers.rows import (
    CELL,
    SAME,
    Row,
    Runs,
    by_seed,
    cell_of,
    classes,
    gathered,
    named,
    records,
    rows_of,
    says,
    together,
)


def front(table: pd.DataFrame) -> list[bool]:
    """Whether each row is Pareto-optimal in mean top-1 and cost among the rows of its cell.

    Args:
        table: rows of `main`, with ``task``, ``teacher``, ``student``, ``teacher_digest``, ``reference``,
            ``stale``, ``ran``, ``seeds``, ``top1`` (higher is better) and ``flops`` (lower is).

    Returns:
        True where no other row costs at most as much and is at least as good, and better in one of the two;
        equals are optimal together. A control takes part: a dear method that a cheap control matches is
        not optimal. References, stale rows, and rows whose seeds did not all run are neither marked nor
        compared with. A cell with a single row to compare has no front.
    """
    rows = records(table)
    cells = gathered((cell_of(row), row) for row in rows if _stands(row))
    found = []
    for row in rows:
        others = cells.get(cell_of(row), [])
        found.append(_stands(row) and len(others) > 1 and not any(_beats(other, row) for other in others))
    return found


def _stands(row: Mapping[str, Any]) -> bool:
    whole = not row["reference"] and not row["stale"] and row["ran"] == row["seeds"]
    return whole and not math.isnan(row["top1"]) and not math.isnan(row["flops"])


def _beats(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    no_worse = one["flops"] <= other["flops"] and one["top1"] >= other["top1"]
    return bool(no_worse and (one["flops"] < other["flops"] or one["top1"] > other["top1"]))


_FIRST = (
    *("task", "teacher", "student", "teacher_digest", "teacher_top1", "classes", "label", "variant"),
    *("method", "reference", "control", "budget", "precision", "seeds", "ran", "failed", "elsewhere", "rank"),
    *("control_top1", "below_control", "pareto"),
)
_TRAINING = ("top1_tail", "top1_mean", "top1_std", "top1_oracle")
_COST = ("rounds", "student_updates", "flops", "seconds", "seconds_total", "peak_memory_mb")
#: numbers of a frame that are no metric of the last point
_OTHER = frozenset(
    (*_TRAINING, *_COST, "seed", "teacher_seed", "classes", "teacher_top1", "threads", "authors_batch")
)
_LAST = ("machines", "authors_batch", "stale", "same_as", "reason", "warnings", "unavailable", "settings")


def main(frame: pd.DataFrame, curves: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per (task, pair, teacher file, variant), references first, then controls.

    Args:
        frame: one row a trial, as `harness.store.frame.frame` makes it; ``classes`` (K) is used if there.
        curves: long over points; without it no row is examined for climbing.

    Returns:
        Identity; ``seeds`` asked for, ``ran``, ``failed``, ``elsewhere`` (their trials stand in rows of their
        own: another teacher file, other data, stale); ``rank`` by ``top1`` among the rows of one
        teacher file that are data-free, no control, not stale and whose seeds all ran, else NaN; of a ranked
        row ``control_top1``, the best mean of a control beside it, and ``below_control``, that control's
        label where the row does not exceed it, else ""; ``pareto`` (`front`); for ``top1`` and every other
        metric ``m``, its ``m_half`` (95 % t-interval) and ``m_n``; ``top1_at_chance``, the mean with failed
        seeds at chance, NaN without any; means over seeds of the frame's ``top1_*``, spend and cost;
        ``oracle_gap`` (best on test minus last) as a metric; ``climb``, ``climb_error``, ``climbing``,
        ``climb_end`` and ``climb_of`` (`reports.numbers.stats.Climb`, of the mean curve over seeds, data-free
        rows only); ``machines`` the seconds were taken on; ``same_as``, an earlier row whose very trials
        these are, as where a task's settings override what told two rows apart; texts. Accuracies in percent.
    """
    metrics = [
        c for c in frame.columns if pd.api.types.is_float_dtype(frame[c]) and c not in _OTHER and c != "top1"
    ]
    known = classes(frame)
    runs = None if curves is None else Runs(curves)
    lines = []
    firsts: dict[tuple[str, ...], str] = {}
    for row in rows_of(frame):
        first = firsts.setdefault(tuple(sorted(row.trials["id"])), row.label)
        same_as = {"same_as": first if first != row.label else ""}
        lines.append(_numbers(row, ["top1", *metrics], known, runs) | same_as)
    order = [*_FIRST, *_of("top1"), "top1_at_chance", *_TRAINING, "climb", "climb_error", "climbing"]
    order += ["climb_end", "climb_of", *_of("oracle_gap")]
    order += [name for m in metrics for name in _of(m)] + [*_COST, *_LAST]
    table = pd.DataFrame(lines, columns=order)
    given = table["reference"].astype(bool) | table["control"].astype(bool)
    ranked = table[~given & (table["stale"] == "") & (table["ran"] == table["seeds"])]
    places = ranked.groupby(list(CELL))["top1"].rank(method="min", ascending=False)
    table = table.assign(rank=places.reindex(table.index).astype(float))
    return table.assign(**_against_controls(table), pareto=front(table))


def _against_controls(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Of every ranked row, the mean of the best control beside it, and that control if it is not beaten."""
    best: dict[tuple[Any, ...], tuple[float, str]] = {}
    rows = records(table)
    for row in rows:
        if row["control"] and not row["stale"] and not math.isnan(row["top1"]):
            place = cell_of(row)
            best[place] = max(best.get(place, (-math.inf, "")), (row["top1"], row["label"]))
    tops, names = [], []
    for row in rows:
        top1, name = best.get(cell_of(row), (math.nan, ""))
        tops.append(math.nan if math.isnan(row["rank"]) else top1)
        names.append(name if row["top1"] <= tops[-1] else "")
    return {"control_top1": tops, "below_control": names}


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV, ten significant digits."""
    return table.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def _of(metric: str) -> tuple[str, str, str]:
    return (metric, f"{metric}_half", f"{metric}_n")


def _numbers(
    row: Row, metrics: Sequence[str], classes: dict[str, float], curves: Runs | None
) -> dict[str, Any]:
    done, first = row.done, row.trials.iloc[0]
    found: dict[str, Any] = {c: first[c] for c in SAME} | {
        "teacher_digest": row.digest,
        "teacher_top1": _mean(done, "teacher_top1"),
        "classes": classes[first["task"]],
        "label": row.label,
        "reference": row.flag("reference"),
        "control": row.flag("control"),
        "seeds": row.declared,
        "ran": len(done),
        "failed": int((row.trials["status"] == "failed").sum()),
        "elsewhere": row.declared - len(row.trials),
        "climbing": False,
        "stale": row.stale,
        "machines": len(set(done["machine"])) if "machine" in done else 0,
        "authors_batch": float(first.get("authors_batch", math.nan)),
    }
    for metric in metrics:
        found |= zip(_of(metric), stats.interval(_values(done, metric)), strict=True)
    found |= {name: _mean(done, name) for name in (*_TRAINING, *_COST)}
    best, last = _values(done, "top1_oracle"), _values(done, "top1")
    gaps = [b - e for b, e in zip(best, last, strict=True)] if best and last else []
    found |= zip(_of("oracle_gap"), stats.interval(gaps), strict=True)
    if found["failed"]:
        found["top1_at_chance"] = stats.at_chance(_values(done, "top1"), found["failed"], found["classes"])
    if curves is not None and not row.flag("reference"):
        curve = together(curves, row.ids, ["top1"])
        if curve and (end := stats.climb(curve["top1"].mean(axis=0).tolist())):
            found |= {"climb": end.rise, "climb_error": end.error, "climbing": end.climbing}
            found |= {"climb_end": float(end.end), "climb_of": float(end.of)}
    found["reason"] = _reasons(row)
    told = zip(done["warnings"], done["seed"], strict=True)
    found["warnings"] = by_seed((w, str(seed)) for text, seed in told for w in text.split("; ") if w)
    unavailable: dict[str, str] = {}
    for text in done["unavailable"]:
        unavailable = named(text) | unavailable
    found["unavailable"] = json.dumps(unavailable, sort_keys=True, ensure_ascii=False) if unavailable else ""
    return found


def _values(trials: pd.DataFrame, name: str) -> list[float]:
    return [float(v) for v in trials[name]] if name in trials else []


def _mean(trials: pd.DataFrame, name: str) -> float:
    return stats.interval(_values(trials, name)).mean


def _reasons(row: Row) -> str:
    """Why seeds have no result: each reason once, with its seeds."""
    rest = row.trials[row.trials["status"] != "done"]
    text = by_seed(
        (says(str(status), str(reason)), str(seed))
        for status, reason, seed in zip(rest["status"], rest["reason"], rest["seed"], strict=True)
    )
    elsewhere = row.declared - len(row.trials)
    if elsewhere:
        text += (
            "; " if text else ""
        ) + f"{elsewhere} under another teacher file or stale, in a row of its own"
    return text
