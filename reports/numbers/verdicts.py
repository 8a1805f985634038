"""Published numbers beside ours: gap, the teachers' gap, and whether ours is reproduced, above or below.

`against` gives the numbers (``verdicts.csv`` is exactly that), `reports.tables.verdicts` lays them out for
people.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.numbers.published import Match, Published, agrees, match
from reports.numbers.rows import named, records, seeds

#: two student/teacher ratios this close, in points, are the same, however narrow the interval
POINTS = 0.5
#: two budgets are the same if the student was shown as many images, to this share
BUDGET = 0.1

_COLUMNS = (
    *("task", "teacher", "student", "teacher_digest", "label", "method", "published", "published_teacher"),
    *("ours", "half", "n", "our_teacher", "gap", "oracle_gap", "teacher_gap", "ratio_gap", "tolerance"),
    *("verdict", "why", "pair", "selection", "published_updates", "our_updates", "kind", "source", "line"),
    *("note", "suspect", "others"),
)


def against(table: pd.DataFrame, rows: Sequence[Published]) -> pd.DataFrame:
    """One row per row of ours and published number that stands beside it or as its footnote.

    A gap asks for the same task, pair and settings, a result that is not stale, with all seeds, and a budget
    that is not known to differ. The budget is what the student was shown: student updates times batch, ours
    within `BUDGET` of the source's, whose batch is taken to be that of the authors' code. A source that does
    not tell its budget is taken to have spent at least what the most frugal run that does spent on the
    method; where nobody tells it there is no gap. A verdict asks for more: a budget that is told, a pair that
    is stated and not inferred, a number that is not doubted, the accuracy of the source's teacher, two seeds
    of ours. Then, with student/teacher ratios in percent, |ours - published| <= max(half, `POINTS`) is
    "reproduced", else "above" or "below"; ``half`` is that of our 95 % t-interval over our teacher's
    accuracy. A student from scratch has no teacher: accuracies are compared as they stand.

    Args:
        table: of `reports.numbers.table.main`.
        rows: of `reports.numbers.published.load`.

    Returns:
        ``gap`` and ``oracle_gap`` (our last and our best point on test, minus published), ``teacher_gap``,
        ``ratio_gap`` and ``tolerance`` in points, NaN where there is none; ``verdict`` or, where that is "",
        ``why``; ``line`` of ``published.csv``; ``others``: what else is published, JSON of texts.
    """
    floors = _floors(rows)
    made = []
    for row in records(table):
        settings = named(row["settings"])
        found = match(
            rows, method=row["method"], task=row["task"], teacher=row["teacher"], student=row["student"],
            settings=settings,
        )  # fmt: skip
        if found.best:
            numbers = _compare(row, found.best, floors.get(row["method"]), settings)
            made.append(_record(row, found.best, _others(found, rows, settings)) | numbers)
        for loose in found.footnotes:
            if agrees(loose, settings):
                other = _others(Match(loose, ()), rows, settings)
                made.append(
                    _record(row, loose, other) | {"verdict": "", "why": "the source does not state the pair"}
                )
    return pd.DataFrame(made, columns=list(_COLUMNS))


def _floors(rows: Sequence[Published]) -> dict[str, int]:
    """Method -> the fewest student updates that anybody tells to have spent on it."""
    found: dict[str, int] = {}
    for r in rows:
        if r.updates is not None:
            found[r.method] = min(r.updates, found.get(r.method, r.updates))
    return found


def _record(row: Mapping[str, Any], best: Published, others: Sequence[str]) -> dict[str, Any]:
    scratch = row["method"] == "scratch"
    own = {name: row[name] for name in ("task", "teacher", "student", "teacher_digest", "label", "method")}
    for name in ("pair", "selection", "kind", "source", "line", "note", "suspect"):
        own[name] = getattr(best, name)
    return own | {
        "published": best.value,
        "published_teacher": math.nan if best.teacher_top1 is None else best.teacher_top1,
        "ours": row["top1"],
        "half": row["top1_half"],
        "n": row["top1_n"],
        "our_teacher": math.nan if scratch else row["teacher_top1"],
        "published_updates": math.nan if best.updates is None else float(best.updates),
        "our_updates": row["student_updates"],
        "others": json.dumps(list(others), ensure_ascii=False),
    }


def _compare(
    row: Mapping[str, Any], best: Published, floor: int | None, settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Gaps and verdict of a number of the same task, pair and settings."""
    unusable = f"stale: {row['stale']}" if row["stale"] else "" if row["ran"] == row["seeds"] else seeds(row)
    if why := unusable or _differs(row, best, floor, settings):
        return {"verdict": "", "why": why}
    gap = row["top1"] - best.value
    teacher = math.nan if best.teacher_top1 is None else best.teacher_top1
    found = {"gap": gap, "oracle_gap": row["top1_oracle"] - best.value, "verdict": "", "why": ""}
    if row["method"] == "scratch":
        ratio_gap, half = gap, row["top1_half"]
    else:
        found["teacher_gap"] = row["teacher_top1"] - teacher
        ratio_gap = 100 * (row["top1"] / row["teacher_top1"] - best.value / teacher)
        half = 100 * row["top1_half"] / row["teacher_top1"]
    doubts = [
        "the source's budget is not known" if best.updates is None else "",
        "the pair is inferred" if best.pair == "inferred" else "",
        "the published number is doubted" if best.suspect else "",
        "a teacher's accuracy is not known" if math.isnan(ratio_gap) else "",
        f"not testable at n = {row['top1_n']}" if math.isnan(half) and not math.isnan(ratio_gap) else "",
    ]
    found |= {"ratio_gap": ratio_gap, "why": "; ".join(filter(None, doubts))}
    if not found["why"]:
        tolerance = max(half, POINTS)
        same = abs(ratio_gap) <= tolerance
        found |= {
            "tolerance": tolerance,
            "verdict": "reproduced" if same else "above" if ratio_gap > 0 else "below",
        }
    return found


def _differs(row: Mapping[str, Any], best: Published, floor: int | None, settings: Mapping[str, Any]) -> str:
    """In what way the budgets are known to differ, or ""."""
    batch, authors = settings.get("batch"), row["authors_batch"]
    same = batch is None or math.isnan(authors) or float(batch) == authors
    shown = row["student_updates"] * (1.0 if same or batch is None else float(batch) / authors)
    said = f"{row['student_updates']:,.0f} student updates" + ("" if same else f" of {batch} images")
    of = "" if same else f" of {authors:.0f}"
    if math.isnan(shown):
        return "our student updates are not recorded"
    if best.updates is not None:
        share = shown / best.updates - 1
        if abs(share) <= BUDGET + 1e-9:
            return ""
        return f"{'smaller' if share < 0 else 'larger'} budget: {said}, the source's {best.updates:,}{of}"
    if floor is None:
        return "nobody tells the budget"
    if shown >= (1 - BUDGET) * floor:
        return ""
    return f"smaller budget: {said}; the fewest that anybody tells for this method are {floor:,}{of}"


def _others(found: Match, rows: Sequence[Published], settings: Mapping[str, Any]) -> list[str]:
    """What else is published for our settings: other values, and what a source calls the previous best."""
    assert found.best
    told: dict[str, None] = {}
    for other in found.conflicts:
        if agrees(other, settings):
            extra = [f"{other.source}, line {other.line}", *([other.kind] if other.kind != "own" else [])]
            extra += [f"doubted: {other.suspect}"] if other.suspect else []
            told[f"{other.value:g} ({'; '.join(extra)})"] = None
    place = ("source", "task", "teacher", "student", "metric", "pair")
    for rival in rows:
        if rival.method.startswith("previous best") and all(
            getattr(rival, name) == getattr(found.best, name) for name in place
        ):
            told[f"{rival.value:g} (previous best, in the same source, line {rival.line})"] = None
    return list(told)
