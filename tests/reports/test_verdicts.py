from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace

import pandas as pd
import pytest

from reports.numbers import published, verdicts
from reports.numbers.published import Published
from reports.numbers.rows import records
from reports.numbers.table import main
from reports.tables.model import Table, to_markdown, to_text
from reports.tables.verdicts import layout
from tests.build import frame_rows

PLACE = {"task": "cifar10", "teacher": "resnet34", "student": "resnet18"}
CMI = Published(
    "cmi", "cifar10", "resnet34", "resnet18", "stated", "top1", 94.84, 95.7, "a table", "", "",
    settings={"cr": "0.8"}, printed="CMI", updates=80_000, line=7,
)  # fmt: skip


def ours(*top1: float | None, **more: object) -> list[dict[str, object]]:
    """Trials of a cmi that did what its authors did."""
    row: dict[str, object] = {
        "variant": "cmi", "method": "cmi", "student_updates": 80_000.0, "flops": 1e15, "teacher_top1": 95.0,
        "top1_oracle": 95.5, "settings": '{"batch": 128, "cr": 0.8}', "authors_batch": 128.0,
    }  # fmt: skip
    return frame_rows(*top1, **(row | PLACE | more))


def both(rows: list[dict[str, object]], *known: Published) -> tuple[pd.DataFrame, list[Table]]:
    """The verdicts, and the section."""
    table = main(pd.DataFrame(rows))
    found = verdicts.against(table, known or (CMI,))
    return found, layout(found, table, known)


def judged(rows: list[dict[str, object]], *known: Published) -> pd.DataFrame:
    return both(rows, *known)[0]


def laid(rows: list[dict[str, object]], *known: Published) -> list[Table]:
    return both(rows, *known)[1]


def only(found: pd.DataFrame) -> dict[str, object]:
    (row,) = records(found)
    return row


class TestVerdict:
    def test_by_hand(self):
        # mean 94, deviation 1, t(0.975; 2) = 4.302653: half 2.484138
        row = only(judged(ours(93.0, 94.0, 95.0)))
        assert row["gap"] == pytest.approx(94 - 94.84) and row["teacher_gap"] == pytest.approx(95 - 95.7)
        assert row["ratio_gap"] == pytest.approx(100 * 94 / 95 - 100 * 94.84 / 95.7)
        assert row["tolerance"] == pytest.approx(100 * 2.484138 / 95, rel=1e-6)
        assert (row["verdict"], row["why"], row["n"]) == ("reproduced", "", 3)
        assert row["oracle_gap"] == pytest.approx(95.5 - 94.84)

    @pytest.mark.parametrize(
        ("ratio", "verdict"),
        [(0.49, "reproduced"), (-0.49, "reproduced"), (0.51, "above"), (-0.51, "below")],
    )
    def test_half_a_point_is_the_least_tolerance(self, ratio, verdict):
        # seeds that agree to 0.02: the interval is far below half a point
        mean = 95 * (94.84 / 95.7 + ratio / 100)
        row = only(judged(ours(mean - 0.01, mean, mean + 0.01)))
        assert row["tolerance"] == 0.5 and row["verdict"] == verdict

    def test_it_is_the_ratio_that_is_compared(self):
        # five points below, with a teacher five points below
        low = 94.84 / 95.7 * 90.7
        row = only(judged(ours(low, low + 0.01, low - 0.01, teacher_top1=90.7)))
        assert row["gap"] < -4.9 and row["teacher_gap"] == pytest.approx(-5)
        assert row["verdict"] == "reproduced"

    def test_scratch_has_no_teacher(self):
        known = replace(CMI, method="scratch", teacher="", value=95.2, teacher_top1=None, settings={})
        rows = ours(96.0, 96.01, 96.02, variant="scratch", method="scratch", reference=True, settings="{}")
        row = only(judged(rows, known))
        assert row["ratio_gap"] == row["gap"] == pytest.approx(0.81) and row["verdict"] == "above"
        assert math.isnan(row["teacher_gap"]) and math.isnan(row["our_teacher"])

    @pytest.mark.parametrize(
        ("rows", "change", "why"),
        [
            (ours(93.0, 94.0, 95.0), {"pair": "inferred"}, "the pair is inferred"),
            (ours(93.0, 94.0, 95.0), {"suspect": "copied"}, "the published number is doubted"),
            (ours(93.0, 94.0, 95.0), {"teacher_top1": None}, "a teacher's accuracy is not known"),
            (ours(94.0), {}, "not testable at n = 1"),
        ],
    )
    def test_a_gap_without_a_verdict(self, rows, change, why):
        row = only(judged(rows, replace(CMI, **change)))
        assert (row["verdict"], row["why"]) == ("", why)
        assert row["gap"] == pytest.approx(-0.84) and math.isnan(row["tolerance"])

    @pytest.mark.parametrize(
        ("rows", "why"),
        [
            (ours(93.0, None, 95.0), "2 of 3 ran"),
            (ours(93.0, 94.0, stale="torch was 1"), "stale: torch was 1"),
            (ours(93.0, 94.0, student_updates=math.nan), "our student updates are not recorded"),
            (ours(93.0, 94.0), "nobody tells the budget"),
        ],
    )
    def test_what_cannot_stand_has_no_gap(self, rows, why):
        row = only(judged(rows, replace(CMI, updates=None) if why.startswith("nobody") else CMI))
        assert row["why"] == why and row["verdict"] == ""
        assert all(math.isnan(row[name]) for name in ("gap", "oracle_gap", "teacher_gap", "ratio_gap"))
        assert row["published"] == 94.84


class TestBudget:
    @pytest.mark.parametrize(
        ("updates", "batch", "why"),
        [
            (72_000, 128, ""),  # ten percent less
            (88_000, 128, ""),
            (71_900, 128, "smaller budget: 71,900 student updates, the source's 80,000"),
            (88_100, 128, "larger budget: 88,100 student updates, the source's 80,000"),
            (160_000, 64, ""),  # twice the updates with half the images
            (80_000, 64, "smaller budget: 80,000 student updates of 64 images, the source's 80,000 of 128"),
        ],
    )
    def test_is_what_the_student_was_shown(self, updates, batch, why):
        more = {"student_updates": float(updates), "settings": json.dumps({"batch": batch, "cr": 0.8})}
        row = only(judged(ours(93.0, 94.0, 95.0, **more)))
        assert row["why"] == why and math.isnan(row["gap"]) == bool(why)

    @pytest.mark.parametrize(("updates", "gap"), [(36_000.0, True), (35_000.0, False)])
    def test_that_the_source_does_not_tell_is_at_least_the_most_frugal_one(self, updates, gap):
        frugal = replace(CMI, task="cifar100", updates=40_000)
        row = only(judged(ours(93.0, 94.0, student_updates=updates), replace(CMI, updates=None), frugal))
        assert row["verdict"] == "" and math.isnan(row["gap"]) != gap
        fewest = "the fewest that anybody tells for this method are 40,000"
        less = f"smaller budget: 35,000 student updates; {fewest}"
        assert row["why"] == ("the source's budget is not known" if gap else less)

    def test_without_a_batch_updates_decide(self):
        rows = ours(93.0, 94.0, settings='{"cr": 0.8}')
        assert only(judged(rows))["why"] == ""
        rows = [{k: v for k, v in row.items() if k != "authors_batch"} for row in ours(93.0, 94.0)]
        assert only(judged(rows))["why"] == ""


class TestMatching:
    def test_an_unknown_pair_is_a_footnote(self):
        loose = replace(CMI, pair="unknown", teacher="", student="", settings={})
        row = only(judged(ours(93.0, 94.0), loose))
        assert row["why"] == "the source does not state the pair" and math.isnan(row["gap"])

    def test_other_settings_are_another_method(self):
        assert judged(ours(93.0, 94.0, settings='{"batch": 128, "cr": 0}')).empty

    def test_nobody_published_it(self):
        assert judged(ours(93.0, 94.0, method="mine", variant="mine")).empty
        nothing = "Nothing is published with the task, pair and settings of"
        (table,) = laid(ours(93.0, 94.0, task="digits") + ours(93.0, variant="b", task="digits"))
        assert table.facts[0].startswith(f"{nothing} any row: no gap") and not table.notes
        (table,) = laid(ours(93.0, 94.0) + ours(93.0, method="mine", variant="mine"))
        assert len(table.lines) == 1 and table.notes[1:] == [
            f"{nothing} mine (cifar10: resnet34 → resnet18): no verdict."
        ]
        assert layout(*[pd.DataFrame()] * 2, ()) == []

    def test_conflicts_are_told_and_other_settings_are_none(self):
        known = [
            CMI,
            replace(CMI, value=91.13, kind="rerun", source="b", suspect="odd"),
            replace(CMI, value=94.84, kind="copy", source="c"),
            replace(CMI, value=90.0, kind="rerun", source="d", settings={"cr": "0"}),
        ]
        told = json.loads(str(only(judged(ours(93.0, 94.0), *known))["others"]))
        assert told == ["91.13 (b, line 7; rerun; doubted: odd)"]


class TestTheTableAsItIs:
    """With `benchmarks/published.csv`."""

    def rows(self, task: str, **more: object) -> list[dict[str, object]]:
        settings = {
            "alpha": 5.0, "beta": 1.0, "gamma": 0.7, "eta": 0.7, "cfe_layers": "full", "batch": 512,
            "cfe_embedding_dim": None,
        }  # fmt: skip
        own = {"variant": "cpsc", "method": "cpsc", "settings": json.dumps(settings), "authors_batch": 512.0}
        return ours(74.0, 74.2, 74.4, **({"task": task, "student_updates": 150_000.0} | own | more))

    def test_cpsc_on_cifar100_is_a_footnote_beside_what_it_calls_the_previous_best(self):
        found, (table,) = both(self.rows("cifar100"), *published.load())
        row = only(found)
        assert row["published"] == 74.35 and row["verdict"] == "" and math.isnan(row["gap"])
        assert not table.lines and "a footnote, no gap: the source does not state the pair" in table.notes[0]
        assert "73.92 (previous best, in the same source, line " in table.notes[0]

    def test_cpsc_on_cifar10_has_a_gap_and_no_verdict(self):
        found, (table,) = both(self.rows("cifar10"), *published.load())
        row = only(found)
        assert (row["published"], row["verdict"]) == (95.33, "") and row["gap"] == pytest.approx(-21.13)
        assert "the pair is inferred" in str(row["why"])
        assert table.lines[0].cells[-1].startswith("none: ")

    def test_every_value_traces_to_its_line_and_its_source(self):
        known = published.load()
        with published.file().open(encoding="utf-8", newline="") as file:
            lines = dict(enumerate(csv.DictReader(file), 2))  # the first line holds the names
        places = {(r.method, r.task, r.teacher, r.student) for r in known if r.metric == "top1" and r.student}
        rows = [
            row
            for r in places
            for row in ours(
                90.0, 90.1, method=r[0], variant=" ".join(r), task=r[1], teacher=r[2] or "t", student=r[3],
                settings=json.dumps({k: v for p in known if p.method == r[0] for k, v in p.settings.items()}),
            )
        ]  # fmt: skip
        found, (table,) = both(rows, *known)
        assert len(found) > 100
        for row in records(found):
            line = lines[row["line"]]
            names = ("method", "task", "source", "kind", "note", "suspect", "selection", "pair")
            assert all(line[name] == row[name] for name in names)
            assert float(line["value"]) == row["published"] and line["metric"] == "top1"
            teacher = float(line["teacher_top1"] or "nan")
            assert teacher == row["published_teacher"] or math.isnan(teacher)
            for other in json.loads(row["others"]):  # "91.13 (source, line 12; rerun)"
                value, _, rest = other.partition(" (")
                there = lines[int(re.findall(r", line (\d+)(?:;.*)?\)$", rest)[0])]
                assert float(there["value"]) == float(value) and there["task"] == row["task"]
                assert rest.startswith(("previous best", there["source"])), other
        # and on paper: each number of the table has its note with line and source
        notes = " ".join(table.notes)
        for row in records(found):
            assert f"{row['published']:g}, {row['source']}, line {row['line']} of published.csv" in notes
        column = [head.text for head in table.heads].index("published (%)")
        printed = {f"{row['published']:.2f}" for row in records(found)}
        assert {line.cells[column] for line in table.lines} <= printed
        assert len(table.lines) == found["gap"].notna().sum()


class TestSection:
    def test_a_table_and_where_each_number_is_from(self):
        known = [replace(CMI, selection="best", note="three seeds"), replace(CMI, value=91.0, source="b")]
        (table,) = laid(ours(93.0, 94.0, 95.0), *known)
        assert [line.cells for line in table.lines] == [
            ("cmi", "94.84", "94.00 ± 2.48", "3", "-0.84", "-0.70", "-0.15", "2.61", "reproduced")
        ]
        assert table.notes == [
            "cmi: 94.84, a table, line 7 of published.csv; its teacher 95.7; picked as the best on the test "
            "set (ours, so picked: +0.66); three seeds; also published: 91 (b, line 7)"
        ]
        assert "| cmi | 94.84 | 94.00 ± 2.48 |" in to_markdown([table])

    def test_one_note_for_rows_of_one_number(self):
        rows = ours(93.0, 94.0, student_updates=10.0) + ours(93.5, 94.0, variant="b", student_updates=10.0)
        (table,) = laid(rows)
        assert not table.lines and len(table.notes) == 1 and table.notes[0].startswith("cmi, b: 94.84")
        text = to_text([table])
        assert "cmi, b: 94.84" in text and "published (%)" not in text


class TestGains:
    """A difference that somebody printed stands as a footnote where rows differ in what it is of."""

    GAIN = replace(
        CMI, metric="top1_gain", value=0.54, pair="unknown", printed="cr over none", source="table 5", line=6,
        settings={"cr": "0.8"}, note="n",
    )  # fmt: skip

    def test_two_values_of_the_setting_and_not_one(self):
        want = "cr over none on cifar10, pair not stated: +0.54 points, table 5, line 6 of published.csv; n; "
        for other, notes in (('{"cr": 0.0}', [want + "a footnote, no verdict"]), ('{"cr": 0.8, "b": 1}', [])):
            rows = ours(93.0, 94.0, settings='{"cr": 0.8}') + ours(93.0, settings=other, variant="b")
            assert laid(rows, self.GAIN)[0].notes == notes
