"""The main table laid out for people: a table per (task, pair), its columns, marks and notes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from harness.metrics import base
from reports.numbers.rows import gathered, named, records, seeds
from reports.tables.model import DASH, Head, Line, Table, number, spread

#: the name that a warning begins with is no longer; a plug-in's may have none
_NAME = 30


#: what a report says once about its columns
GUIDE = (
    "top-1 is the test accuracy at the last point, in percent: mean over n seeds ± half-width of the 95 % "
    "t-interval. No point is picked by its test accuracy.",
    "last tenth: mean over the last tenth of the points. over training: mean ± standard deviation over all "
    "points of a run. best (oracle): the best point on the test set, which nobody could pick without it.",
    "A reference sees the real training data and is not ranked. A control (noise, an untrained generator) is "
    "not ranked either: a method that does not beat it has not shown that its images teach anything.",
    "Ranked are the other data-free rows that are not stale and whose seeds all ran, each among the students "
    "of the same teacher file. A failed seed has no number; the mean beside the others has it guessing.",
    "still climbing: the mean over the last tenth of a data-free method's own curve is above the tenth "
    "before it by more than 0.3 points and by more than two standard errors; a longer budget would "
    "move its row. Of a curve with less than 20 points it is the last two against the two before.",
    "Pareto-optimal: no row is both cheaper (in cost) and better (in top-1) among the data-free rows and "
    "controls of one teacher file whose seeds all ran.",
    "agreement: share of test images on which student and teacher decide alike. fd_teacher: Fréchet distance "
    "of the images to the test set in the teacher's features; not FID. coverage: share of classes the "
    "teacher sees among the images. labels met: share of the images that the teacher sees as the class they "
    "were asked for (a method that asks for none has a dash). Cost counts 2 operations per multiply-add, "
    "images included.",
    "diversity and fine detail hold the images against the test images, which have 1: the mean cosine "
    "distance of two images of a class in the teacher's features, and the share of their spectral energy "
    "above half of the Nyquist frequency (blur has less, noise more). corrupted: top-1 on test images with "
    "noise, blur, low contrast or coarse pixels, at five strengths each (Hendrycks and Dietterich, "
    "1903.12261); lost: the share of the top-1 that this costs.",
)


def blocks(table: pd.DataFrame) -> list[Table]:
    """Lay out what `reports.numbers.table.main` gives, one table per (task, pair) in its order."""
    groups = gathered(((row["task"], row["teacher"], row["student"]), row) for row in records(table))
    metrics = [c for c in table.columns if f"{c}_half" in table]
    return [_block(key, rows, metrics) for key, rows in groups.items()]


#: a row of the main table -> what a cell says of it
Say = Callable[[dict[str, Any]], str]


def _block(key: tuple[str, str, str], rows: list[dict[str, Any]], metrics: list[str]) -> Table:
    block = Table(f"{key[0]}: {key[1]} → {key[2]}", _facts(rows))
    columns = _columns(block, rows, metrics)
    files = Counter(label for label, _ in {(r["label"], r["teacher_digest"]) for r in rows})
    block.heads = [Head("rank"), Head("method", words=True), *(head for head, _ in columns)]
    for row in rows:
        rank = "" if math.isnan(row["rank"]) else f"{row['rank']:.0f}"
        kinds = {"reference": row["reference"], "control": row["control"], "best": rank == "1"}
        marks = tuple(_marks(block, row, split=files[row["label"]] > 1))
        cells = [say(row) for _, say in columns] if row["ran"] else []
        block.lines.append(
            Line(
                (rank, row["label"], *cells),
                marks,
                "" if row["ran"] else _nothing(row),
                tuple(kind for kind, so in (kinds | {"stale": row["stale"]}).items() if so),
            )
        )
    return block


def _facts(rows: list[dict[str, Any]]) -> list[str]:
    teachers = {r["teacher_digest"]: r["teacher_top1"] for r in rows if not math.isnan(r["teacher_top1"])}
    named = [f"{top1:.2f} % top-1 (file {digest[:8]})" for digest, top1 in teachers.items()]
    facts = [f"teacher: {'; '.join(named)}"] if named else []
    if not math.isnan(k := rows[0]["classes"]):
        facts.append(f"{k:.0f} classes, chance {100 / k:.2f} %")
    budgets = list(dict.fromkeys(r["budget"] for r in rows))
    if len(budgets) == 1:
        facts.append(f"budget of every trial: {_budget(budgets[0])}")
    else:
        facts.append("budgets differ between rows: compare along the cost")
    if any(r["machines"] > 1 for r in rows):
        facts.append("seconds were taken on more than one machine")
    return facts


def _columns(block: Table, rows: list[dict[str, Any]], metrics: list[str]) -> list[tuple[Head, Say]]:
    columns: list[tuple[Head, Say]] = [
        (Head("top-1 (%)", "last point, mean over seeds ± half of the 95 % t-interval"), _top1),
        (Head("n", "seeds"), _n(block)),
        (Head("last tenth (%)", "mean over the last tenth of the points"), _plain("top1_tail", 2)),
        (Head("over training (%)", "mean ± standard deviation over all points of a run"), _training),
        (Head("best (oracle) (%)", "best point on the test set"), _plain("top1_oracle", 2)),
    ]
    blank: dict[str, list[str]] = {}
    for metric, shown in base.columns(metrics).items():
        if any(not math.isnan(r[metric]) for r in rows):
            columns.append((Head(shown.title, shown.about), _metric(block, metric, shown)))
        else:  # a column of dashes tells less than its reason
            told = [r for r in rows if not r["reference"]] or rows  # a reference has no images to judge
            reasons = dict.fromkeys(why for r in told if (why := _why(r, metric)))
            if reasons:
                blank.setdefault("; ".join(reasons), []).append(shown.title)
    block.facts += [f"{', '.join(names)}: not available: {why}" for why, names in blank.items()]
    if not _as_budgeted(rows):
        columns.append((Head("student updates"), _plain("student_updates", 0)))
    columns += [
        (Head("cost (TFLOP)", "all forwards and backwards, 2 operations per multiply-add"), _tflop),
        (Head("seconds", "training time"), _plain("seconds", 0)),
    ]
    if len({r["teacher_digest"] for r in rows}) > 1:
        columns.append((Head("teacher file", "rows of different files are never averaged"), _teacher))
    budgets = {r["budget"] for r in rows}
    if len(budgets) > 1 and not all(text.endswith(":student_updates") for text in budgets):
        columns.append((Head("budget"), lambda row: _budget(row["budget"])))  # else its column is there
    return columns


def _as_budgeted(rows: list[dict[str, Any]]) -> bool:
    """Whether every row spent the one budget of student updates that the facts state: no column then."""
    amount, _, unit = str(rows[0]["budget"]).partition(":")
    spent = [row["student_updates"] for row in rows if not math.isnan(row["student_updates"])]
    one = len({row["budget"] for row in rows}) == 1 and unit == "student_updates"
    return one and all(n == float(amount) for n in spent)


def _marks(block: Table, row: dict[str, Any], split: bool) -> list[str]:
    marks = ["reference: sees real data"] if row["reference"] else []
    if row["control"]:
        marks.append("control: a method must beat it")
    if row["below_control"]:
        marks.append(f"does not beat its control {row['below_control']} ({row['control_top1']:.2f})")
    if row["same_as"]:
        marks.append(f"the same trials as {row['same_as']}")
    if split:
        marks.append(f"split: teacher file {row['teacher_digest'][:8] or 'unknown'} alone")
    if row["stale"]:
        marks.append(f"stale: {row['stale']}")
    if over := _overshoot(row):
        marks.append(over)
    if row["pareto"]:
        marks.append("Pareto-optimal")
    if row["climbing"]:
        marks.append(f"still climbing: {row['climb']:+.2f} over {_end(row)}")
    warnings = filter(None, row["warnings"].split("; "))
    # rows that share a warning share its note
    of = gathered((_kind(warning), warning) for warning in warnings)
    return marks + [kind + block.note("; ".join(said)) for kind, said in of.items()]


def _kind(warning: str) -> str:
    name, colon, _ = warning.partition(": ")
    return name if colon and len(name) <= _NAME else "warning"


def _end(row: Mapping[str, Any]) -> str:
    """What of the curve a climb is told of."""
    end, of = int(row["climb_end"]), int(row["climb_of"])
    return "the last tenth" if 10 * end <= of else f"the last {end} of {of} points"


def _overshoot(row: dict[str, Any]) -> str:
    """What a row spent beyond its budget, which ends with a whole round: a twentieth and more."""
    amount, _, unit = str(row["budget"]).partition(":")
    spent = row.get(unit, math.nan)
    if not amount or not spent > 1.05 * float(amount):
        return ""
    return f"{100 * (spent / float(amount) - 1):.0f} % beyond the budget, to end a round"


def _nothing(row: dict[str, Any]) -> str:
    if row["failed"]:
        return f"0 of {row['seeds']} ran; {row['reason']}; {_guessing(row)}"
    return str(row["reason"])


def _guessing(row: dict[str, Any]) -> str:
    value = row["top1_at_chance"]
    if math.isnan(value):
        return "chance unknown: number of classes not recorded"
    return f"{value:.2f} with {'failure' if row['failed'] == 1 else 'failures'} at chance"


def _top1(row: dict[str, Any]) -> str:
    text = spread(row["top1"], row["top1_half"])
    if row["top1_n"] == 1:
        text += " (n=1)"
    return text + (f"\n{_guessing(row)}" if row["failed"] else "")


def _n(block: Table) -> Say:
    def say(row: dict[str, Any]) -> str:
        if row["ran"] == row["seeds"]:
            return str(row["ran"])
        return seeds(row) + block.note(row["label"] + ": " + row["reason"])

    return say


def _metric(block: Table, metric: str, shown: base.Column) -> Say:
    def say(row: dict[str, Any]) -> str:
        if math.isnan(row[metric]):
            return DASH + block.note(_why(row, metric) or _otherwise(row, metric))
        short = f" (n={row[metric + '_n']})" if row[f"{metric}_n"] < row["ran"] else ""
        return spread(shown.scale * row[metric], shown.scale * row[f"{metric}_half"], shown.digits) + short

    return say


def _why(row: dict[str, Any], metric: str) -> str:
    return str(named(row["unavailable"]).get(metric, ""))


def _otherwise(row: dict[str, Any], metric: str) -> str:
    """Why a row lacks a number that others have and that nobody gave it a reason for."""
    told = named(row["unavailable"])
    shown = base.columns([metric, *row, *told])
    for other, column in shown.items():  # of the same kind, with another number of images
        if other != metric and "_*_" in column.number and column.number == shown[metric].number:
            if other in told:
                return str(told[other])
            if not math.isnan(row[other]):
                return f"it has {column.title}"
    return "not measured: dfkd measure adds it"


def _plain(name: str, digits: int) -> Say:
    return lambda row: number(row[name], digits)


def _training(row: dict[str, Any]) -> str:
    return spread(row["top1_mean"], row["top1_std"])


def _teacher(row: dict[str, Any]) -> str:
    return f"{row['teacher_digest'][:8] or 'unknown'} ({number(row['teacher_top1'], 2)})"


def _tflop(row: dict[str, Any]) -> str:
    value = row["flops"] / 1e12
    return DASH if math.isnan(value) else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _budget(text: str) -> str:
    amount, _, unit = text.partition(":")
    if unit == "flops":
        return f"{float(amount) / 1e12:,.4g} TFLOP"
    return f"{float(amount):,.15g} {unit.replace('_', ' ')}".strip()
