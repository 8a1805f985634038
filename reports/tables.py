"""The main table: one row per (task, pair, teacher file, variant), as numbers and as text.

`main` gives the numbers (the CSV is exactly that); `reports.blocks` lays them out for people, and
`to_text`, `to_markdown` and the page print what it laid out.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import pandas as pd

from reports import pareto, select, stats
from reports.blocks import DASH, Block, blocks

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
        frame: one row a trial, as `harness.frames.frame` makes it; ``classes`` (K) is used if there.
        curves: long over points; without it no row is examined for climbing.

    Returns:
        Identity; ``seeds`` asked for, ``ran``, ``failed``, ``elsewhere`` (their trials stand in rows of their
        own: another teacher file, other data, stale); ``rank`` by ``top1`` among the rows of one
        teacher file that are data-free, no control, not stale and whose seeds all ran, else NaN; of a ranked
        row ``control_top1``, the best mean of a control beside it, and ``below_control``, that control's
        label where the row does not exceed it, else ""; ``pareto`` (`reports.pareto.front`); for ``top1``
        and every other metric ``m``, its ``m_half`` (95 % t-interval) and ``m_n``; ``top1_at_chance``, the
        mean with failed seeds at chance, NaN without any; means over seeds of the frame's ``top1_*``, spend
        and cost; ``oracle_gap`` (best on test minus last) as a metric; ``climb``, ``climb_error``,
        ``climbing``, ``climb_end`` and ``climb_of`` (`reports.stats.Climb`, of the mean curve over seeds,
        data-free rows only); ``machines`` the seconds were taken on; ``same_as``, an earlier row whose very
        trials these are, as where a task's settings override what told two rows apart; texts. Accuracies in
        percent.
    """
    metrics = [
        c for c in frame.columns if pd.api.types.is_float_dtype(frame[c]) and c not in _OTHER and c != "top1"
    ]
    known = select.classes(frame)
    runs = None if curves is None else select.Runs(curves)
    cells = select.cells(frame)
    rows = [_row(cell, ["top1", *metrics], known, runs) for cell in cells]
    firsts: dict[tuple[str, ...], str] = {}
    for row, cell in zip(rows, cells, strict=True):
        first = firsts.setdefault(tuple(sorted(cell.trials["id"])), cell.label)
        row["same_as"] = first if first != cell.label else ""
    order = [*_FIRST, *_of("top1"), "top1_at_chance", *_TRAINING, "climb", "climb_error", "climbing"]
    order += ["climb_end", "climb_of", *_of("oracle_gap")]
    order += [name for m in metrics for name in _of(m)] + [*_COST, *_LAST]
    table = pd.DataFrame(rows, columns=order)
    given = table["reference"].astype(bool) | table["control"].astype(bool)
    ranked = table[~given & (table["stale"] == "") & (table["ran"] == table["seeds"])]
    places = ranked.groupby(list(select.CELL))["top1"].rank(method="min", ascending=False)
    table = table.assign(rank=places.reindex(table.index).astype(float))
    return table.assign(**_against_controls(table), pareto=pareto.front(table))


def _against_controls(table: pd.DataFrame) -> dict[str, list[Any]]:
    """Of every ranked row, the mean of the best control beside it, and that control if it is not beaten."""
    best: dict[tuple[Any, ...], tuple[float, str]] = {}
    rows = select.records(table)
    for row in rows:
        if row["control"] and not row["stale"] and not math.isnan(row["top1"]):
            place = tuple(row[name] for name in select.CELL)
            best[place] = max(best.get(place, (-math.inf, "")), (row["top1"], row["label"]))
    tops, names = [], []
    for row in rows:
        top1, name = best.get(tuple(row[name] for name in select.CELL), (math.nan, ""))
        tops.append(math.nan if math.isnan(row["rank"]) else top1)
        names.append(name if row["top1"] <= tops[-1] else "")
    return {"control_top1": tops, "below_control": names}


def to_csv(table: pd.DataFrame) -> str:
    """The table as CSV, ten significant digits."""
    return table.to_csv(index=False, float_format="%.10g", lineterminator="\n")


def to_text(table: pd.DataFrame) -> str:
    """The table for a terminal: a block per (task, pair), each with its notes."""
    from tabulate import tabulate

    parts = []
    for block in blocks(table):
        body = []
        for row in block.rows:
            below = [line for text in (*row.marks, row.span) for line in textwrap.wrap(text, 40)]
            cells = [narrow(c, 16) for c in row.cells] or [DASH] * (len(block.heads) - 2)
            body.append([row.rank, "\n".join([row.label, *(f"  {line}" for line in below)]), *cells])
        heads = [narrow(h.text, 9) for h in block.heads]
        align = ["right", "left", *("right" for _ in block.heads[2:])]
        grid = tabulate(body, heads, tablefmt="simple", colalign=align, disable_numparse=True)
        parts.append("\n".join([block.title, *block.facts, "", grid, *block.numbered()]))
    return "\n\n".join(parts) + "\n" if parts else "no trial\n"


def to_markdown(table: pd.DataFrame, heading: str = "##") -> str:
    """The table as GitHub's Markdown: a heading, facts, table and notes per (task, pair)."""
    return "\n".join(_markdown(block, heading) for block in blocks(table))


def _markdown(block: Block, heading: str) -> str:
    lines = [f"{heading} {escape(block.title)}", "", *(f"- {escape(fact)}" for fact in block.facts), ""]
    lines.append("| " + " | ".join(escape(h.text) for h in block.heads) + " |")
    lines.append("|" + "|".join([" --: ", " :-- ", *(" --: " for _ in block.heads[2:])]) + "|")
    for row in block.rows:
        name = f"**{escape(row.label)}**" if row.best else escape(row.label)
        cells = [escape(c).replace("\n", "<br>") for c in row.cells]
        cells = cells or [escape(row.span), *[""] * (len(block.heads) - 3)]
        if row.best:
            cells[0] = f"**{cells[0]}**"
        marks = "".join(f"<br>*{escape(mark)}*" for mark in row.marks)
        lines.append("| " + " | ".join([row.rank, name + marks, *cells]) + " |")
    if block.notes:
        lines += ["", *(f"- {escape(note)}" for note in block.numbered())]
    return "\n".join([*lines, ""])


def escape(text: str) -> str:
    """Text that Markdown prints as it stands, inside a table too."""
    for sign in "\\`*|[]~$":
        text = text.replace(sign, "\\" + sign)
    text = re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\_", text)  # inside a word it stands for itself
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def narrow(text: str, width: int) -> str:
    """Text in lines of at most so many characters."""
    return "\n".join(
        part for line in text.split("\n") for part in textwrap.wrap(line, width, break_long_words=False)
    )


def _of(metric: str) -> tuple[str, str, str]:
    return (metric, f"{metric}_half", f"{metric}_n")


def _row(
    cell: select.Cell, metrics: Sequence[str], classes: dict[str, float], curves: select.Runs | None
) -> dict[str, Any]:
    done, first = cell.done, cell.trials.iloc[0]
    row: dict[str, Any] = {c: first[c] for c in select.SAME} | {
        "teacher_digest": cell.digest,
        "teacher_top1": _mean(done, "teacher_top1"),
        "classes": classes[first["task"]],
        "label": cell.label,
        "reference": cell.flag("reference"),
        "control": cell.flag("control"),
        "seeds": cell.declared,
        "ran": len(done),
        "failed": cell.count("failed"),
        "elsewhere": cell.declared - len(cell.trials),
        "climbing": False,
        "stale": cell.stale,
        "machines": len(set(done["machine"])) if "machine" in done else 0,
        "authors_batch": float(first.get("authors_batch", math.nan)),
    }
    for metric in metrics:
        row |= zip(_of(metric), stats.interval(_values(done, metric)), strict=True)
    row |= {name: _mean(done, name) for name in (*_TRAINING, *_COST)}
    best, last = _values(done, "top1_oracle"), _values(done, "top1")
    gaps = [b - e for b, e in zip(best, last, strict=True)] if best and last else []
    row |= zip(_of("oracle_gap"), stats.interval(gaps), strict=True)
    if row["failed"]:
        row["top1_at_chance"] = stats.at_chance(_values(done, "top1"), row["failed"], row["classes"])
    if curves is not None and not row["reference"]:
        found = select.together(curves, cell.ids, ["top1"])
        if found and (end := stats.climb(found["top1"].mean(axis=0).tolist())):
            row |= {"climb": end.rise, "climb_error": end.error, "climbing": end.climbing}
            row |= {"climb_end": float(end.end), "climb_of": float(end.of)}
    row["reason"] = _reasons(cell)
    told = zip(done["warnings"], done["seed"], strict=True)
    row["warnings"] = select.by_seed((w, str(seed)) for text, seed in told for w in text.split("; ") if w)
    unavailable: dict[str, str] = {}
    for text in done["unavailable"]:
        unavailable = (json.loads(text) if text else {}) | unavailable
    row["unavailable"] = json.dumps(unavailable, sort_keys=True, ensure_ascii=False) if unavailable else ""
    return row


def _values(trials: pd.DataFrame, name: str) -> list[float]:
    return [float(v) for v in trials[name]] if name in trials else []


def _mean(trials: pd.DataFrame, name: str) -> float:
    return stats.interval(_values(trials, name)).mean


def _reasons(cell: select.Cell) -> str:
    """Why seeds have no result: each reason once, with its seeds."""
    rest = cell.trials[cell.trials["status"] != "done"]
    text = select.by_seed(
        (select.says(str(status), str(reason)), str(seed))
        for status, reason, seed in zip(rest["status"], rest["reason"], rest["seed"], strict=True)
    )
    elsewhere = cell.declared - len(cell.trials)
    if elsewhere:
        text += (
            "; " if text else ""
        ) + f"{elsewhere} under another teacher file or stale, in a row of its own"
    return text
