"""The main table: which trials make a row, its numbers by hand, and how it is laid out."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

from reports.numbers import rows, stats
from reports.numbers.rows import records
from reports.numbers.table import front, main, to_csv
from reports.tables.layout import blocks
from reports.tables.model import DASH, Table, escape, to_markdown, to_text
from tests.build import frame_rows
from tests.reports.golden import HERE, stored

Rows = list[dict[str, object]]


def table_of(*groups: Rows, curves: pd.DataFrame | None = None) -> pd.DataFrame:
    return main(pd.DataFrame([row for group in groups for row in group]), curves)


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


def block_of(*groups: Rows, curves: pd.DataFrame | None = None) -> Table:
    (block,) = blocks(table_of(*groups, curves=curves))
    return block


def heads(block: Table) -> list[str]:
    return [head.text for head in block.heads]


def column(block: Table, title: str) -> list[str]:
    return [line.cells[heads(block).index(title)] for line in block.lines]


def marked(*groups: Rows) -> str:
    return to_markdown(blocks(table_of(*groups)))


class TestStats:
    def test_interval_by_hand(self):
        # mean 2, deviation 1, t(0.975; 2) = 4.302653 from a printed table
        got = stats.interval([1.0, 2.0, 3.0])
        assert (got.mean, got.n) == (2.0, 3)
        assert got.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
        # deviation of (0, 2) is sqrt 2, t(0.975; 1) = 12.7062: half = 12.7062
        assert stats.interval([0.0, math.nan, 2.0]).half == pytest.approx(12.7062, rel=1e-5)
        one, none = stats.interval([5.0]), stats.interval([math.nan])
        assert one.mean == 5.0 and math.isnan(one.half) and one.n == 1
        assert math.isnan(none.mean) and none.n == 0

    def test_failures_count_as_guessing(self):
        assert stats.at_chance([90.0, 80.0], 1, 10) == pytest.approx(60.0)
        assert stats.at_chance([], 3, 4) == 25.0
        assert math.isnan(stats.at_chance([90.0], 1, math.nan))

    @pytest.mark.parametrize(
        ("end", "rise", "error", "climbing"),
        [
            ([10, 10, 12, 14], 3.0, 1.0, True),  # variances 2 and 0: sqrt((2 + 0) / 2) = 1
            ([10, 10, 11, 15], 3.0, 2.0, False),  # sqrt(8 / 2) = 2: three points are within the noise
            ([10, 10, 10.25, 10.25], 0.25, 0.0, False),  # sure, yet less than 0.3 points
            ([10, 10, 10.5, 10.5], 0.5, 0.0, True),
            ([14, 14, 10, 10], -4.0, 0.0, False),
        ],
    )
    def test_climb_by_hand(self, end, rise, error, climbing):
        got = stats.climb([0.0] * 16 + end)  # 20 points: a tenth is two of them
        assert got == (pytest.approx(rise), pytest.approx(error), 2, 20) and got.climbing is climbing

    def test_a_short_curve_tells_nothing(self):
        assert stats.climb([1, 2, 3]) is None
        # means 7 and 1.5; variances 8 and 0.5: sqrt(8.5 / 2) = 2.0616
        assert stats.climb([1, 2, 5, 9]) == (5.5, pytest.approx(2.0616, abs=1e-4), 2, 4)


def ranked(table: pd.DataFrame) -> dict[str, float]:
    return {row["label"]: row["rank"] for row in records(table) if not math.isnan(row["rank"])}


class TestRanks:
    def test_a_failed_seed_is_not_ranked(self):
        table = table_of(frame_rows(90.0, None, 80.0), frame_rows(70.0, 71.0, 72.0, variant="dfad"))
        row = only(table, label="cpsc")
        assert (row["ran"], row["seeds"], row["failed"]) == (2, 3, 1)
        assert row["top1"] == 85.0 and row["top1_at_chance"] == pytest.approx(60.0)  # (90 + 80 + 10) / 3
        assert ranked(table) == {"dfad": 1}
        text = " ".join(to_text(blocks(table)).split())
        assert "2 of 3 ran" in text and "cpsc: failed: boom (seed 1)" in text
        assert "85.00 ± 63.53" in text  # deviation sqrt 50, so 12.7062 * sqrt 50 / sqrt 2
        assert "60.00 with failure at chance" in to_markdown(blocks(table))

    def test_a_control_has_no_rank_and_marks_who_does_not_beat_it(self):
        noise = frame_rows(88.0, 89.0, variant="noise", method="noise", control=True)
        other = frame_rows(60.0, 62.0, variant="untrained", method="untrained", control=True)
        made = [frame_rows(top1, variant=name) for name, top1 in (("a", 88.5), ("b", 88.51), ("c", 50.0))]
        made += [frame_rows(None, 40.0, variant="half"), frame_rows(1.0, variant="kd", reference=True)]
        made.append(frame_rows(40.0, variant="elsewhere", teacher_digest="bb", teacher_seed=1))
        table = table_of(*made, noise, other)
        assert list(table["label"])[:3] == ["kd", "noise", "untrained"]
        assert ranked(table) == {"b": 1, "a": 2, "c": 3, "elsewhere": 1}
        below = {r["label"]: r["below_control"] for r in records(table) if r["below_control"]}
        assert below == {"a": "noise", "c": "noise"}  # equal is not better
        assert only(table, label="b")["control_top1"] == 88.5
        unranked = table["label"].isin(["kd", "noise", "half", "elsewhere"])
        assert table.loc[unranked, "control_top1"].isna().all()
        text = to_markdown(blocks(table))
        assert text.count("<br>*does not beat its control noise (88.50)*") == 2
        assert "noise<br>*control: a method must beat it*" in text
        assert "kd<br>*reference: sees real data*" in text
        assert "noise,noise,False,True" in to_csv(table)

    def test_a_stale_control_is_nobodys_measure(self):
        noise = frame_rows(99.0, variant="noise", method="noise", control=True, stale="torch was 1")
        row = only(table_of(frame_rows(50.0), noise), label="cpsc")
        assert row["below_control"] == "" and math.isnan(row["control_top1"])

    def test_the_stored_trials_give_the_stored_table(self):
        table = main(stored("report_trials"), stored("report_curves"))
        assert to_csv(table) == (HERE / "report.csv").read_text("utf-8")


class TestRows:
    """Which trials are averaged."""

    def test_two_teacher_files_never_share_a_mean(self):
        other = {"teacher_digest": "bb", "teacher_seed": 1}
        made = frame_rows(90.0, 92.0) + frame_rows(50.0, 52.0, **other)
        table = table_of(made, frame_rows(60.0, 62.0, variant="dfad", **other))
        assert sorted(table["top1"]) == [51.0, 61.0, 91.0]
        # each ranks among the students of its own teacher
        assert only(table, label="cpsc", teacher_digest="aa")["rank"] == 1
        assert only(table, label="cpsc", teacher_digest="bb")["rank"] == 2
        assert only(table, label="dfad")["rank"] == 1
        assert "split: teacher file bb alone" in to_markdown(blocks(table))

    def test_a_retrained_teacher_leaves_both_rows_incomplete(self):
        made = frame_rows(90.0, 92.0, 94.0, None)
        made[0] |= {"teacher_digest": "old", "stale": "teacher file changed"}
        table = table_of(made)
        stale, fresh = only(table, teacher_digest="old"), only(table, teacher_digest="aa")
        assert stale["top1"] == 90.0 and fresh["top1"] == 93.0
        assert (fresh["ran"], fresh["seeds"], fresh["failed"]) == (2, 4, 1), "a failure joins what stands"
        assert table["rank"].isna().all()
        assert "stale: teacher file changed" in to_markdown(blocks(table))

    def test_two_data_digests_never_share_a_mean(self):
        made = frame_rows(90.0, 80.0)
        made[1]["data_digest"] = "other"
        assert list(table_of(made)["label"]) == ["cpsc (data dd)", "cpsc (data other)"]

    @pytest.mark.parametrize(
        ("more", "label"),
        [
            ({"budget": "200:rounds"}, "cpsc (200:rounds)"),
            ({"settings": '{"alpha": 2}'}, "cpsc (alpha=2)"),
            ({"precision": "bf16"}, "cpsc (bf16)"),
        ],
    )
    def test_rows_of_one_name_are_told_apart(self, more, label):
        first = {"settings": '{"alpha": 1}'}
        table = table_of(frame_rows(90.0, 92.0, **first), frame_rows(50.0, 52.0, **(first | more)))
        assert len(table) == 2 and table["label"][1] == label and set(table["top1"]) == {91.0, 51.0}

    def test_a_trial_counts_once_and_another_row_of_the_same_trials_says_so(self):
        made = frame_rows(90.0, 92.0, variant="dafl")
        assert table_of(made, made)["ran"].tolist() == [2]
        twin = [row | {"variant": "dafl (DataFree)"} for row in made]
        block = block_of(made, twin, frame_rows(90.0, 91.0, variant="dfad"))
        same = {line.cells[1]: "the same trials as dafl" in line.marks for line in block.lines}
        assert same == {"dafl": False, "dafl (DataFree)": True, "dfad": False}

    def test_what_seeds_share_is_said_once(self):
        said = [("blur: 43 % of 2 (0.30)", "0"), ("dead", "1")]
        said += [("blur: 48 % of 2 (0.07)", "2"), ("dead", "2")]
        want = "blur: 43 to 48 % of 2 (0.07 to 0.30) (seeds 0, 2); dead (seeds 1, 2)"
        assert rows.by_seed(said) == want
        apart = [("no class 1", "0"), ("no class 2", "1")]
        apart += [("9 % low", "0"), ("10 % low", "1"), ("9 % low", "1")]
        want = "no class 1 (seed 0); no class 2 (seed 1); 9 to 10 % low (seeds 0, 1)"
        assert rows.by_seed(apart) == want

    def test_seeds_of_different_length_meet_at_the_same_rounds(self):
        curve = pd.DataFrame(
            {"id": ["a"] * 4 + ["b"] * 2, "round": [1, 2, 3, 4, 2, 4.0], "top1": [1, 2, 3, 4, 20, 40.0]}
        )
        assert rows.together(curve, ["a", "b", "absent"], ["top1"])["top1"].tolist() == [[2, 4], [20, 40]]

    def test_an_image_stands_under_the_label_asked_for_or_the_teachers(self):
        x = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
        samples = {"images": x, "y": np.array([1, 0, -1, -1]), "t": np.array([0, 0, 1, 2])}
        got = rows.tiles(samples, [0, 1, 2, 3], per_class=2)
        assert [[int(i[0, 0, 0]) for i in tile] for tile in got] == [[1], [0, 2], [3], []]


class TestColumns:
    @pytest.mark.parametrize(
        ("budget", "spent", "there"),
        [
            ("1000:student_updates", (1000.0, 1000.0), False),
            ("1000:student_updates", (1000.0, math.nan), False),  # a row that did not run spent nothing
            ("1000:student_updates", (1000.0, 1010.0), True),
            ("100:rounds", (100.0, 100.0), True),
        ],
    )
    def test_updates_have_a_column_where_the_budget_does_not_tell_them(self, budget, spent, there):
        made = [
            frame_rows(50.0, variant=name, budget=budget, student_updates=n)
            for name, n in zip("ab", spent, strict=True)
        ]
        assert ("student updates" in heads(block_of(*made))) == there

    def test_budgets(self):
        block = block_of(frame_rows(50.0, budget="8580000000000:flops"))
        assert "budget of every trial: 8.58 TFLOP" in block.facts
        dafl = frame_rows(60.0, variant="dafl", budget="5000:student_updates")
        assert column(block_of(frame_rows(50.0), dafl), "budget") == ["100 rounds", "5,000 student updates"]

    def test_metrics(self):
        numbers = {"corruption": 57.5, "corruption_drop": 40.0, "corruption_blur": 80.0}
        numbers |= {"corruption_blur_1": 90.0, "shift_mnist": 33.0, "shift_my 2": 44.0, "is_899_samples": 2.5}
        numbers |= {"is_899_test": 3.5, "fid_10000_test": 12.5, "label_match": 12.0}
        table = table_of(frame_rows(90.0, 91.0, **numbers))
        (block,) = blocks(table)
        shown = dict(zip(heads(block), block.lines[0].cells, strict=True))
        wanted = {
            "FID (n=10000, test)": "12.50 ± 0.00", "Inception Score (n=899)": "2.50 ± 0.00",
            "labels met (%)": "12 ± 0", "corrupted (%)": "57.50 ± 0.00", "lost (%)": "40.0 ± 0.0",
            "blur (%)": "80.00 ± 0.00", "on mnist (%)": "33.00 ± 0.00", "on my 2 (%)": "44.00 ± 0.00",
        }  # fmt: skip
        assert {title: shown[title] for title in wanted} == wanted
        assert [title for title in shown if title in wanted] == list(wanted), "in this order"
        assert not any("3.50" in cell for cell in shown.values())
        # what depends on strength, and of real images, is in the CSV alone
        assert {"corruption_blur_1", "is_899_test"} < set(table.columns)


class TestWhatIsMissing:
    def test_blank_cells_say_why(self):
        rest = {"status": "skipped", "reason": "teacher has\nno BN"}
        made = frame_rows(0.0, 0.0, variant="zskt", **rest)
        made += frame_rows(0.0, variant="cmi", status="missing")
        made += frame_rows(0.0, variant="adi", status="running")
        text = marked(made)
        assert "skipped: teacher has no BN (seeds 0, 1)" in text
        assert "not run yet" in text and "still running" in text and "0.00" not in text.replace("10.00", "")

    def test_seeds_that_failed(self):
        want = "0 of 2 ran; failed: boom (seeds 0, 1); 10.00 with failures at chance"
        assert want in marked(frame_rows(None, None))
        unknown = [{k: v for k, v in row.items() if k != "classes"} for row in frame_rows(90.0, None)]
        assert "chance unknown" in marked(unknown)

    def test_metrics_that_lack_the_same_thing_share_a_line(self):
        why = {"fid_9_test": "no weights", "is_9_samples": "no weights", "shift_mnist": "no files"}
        block = block_of(frame_rows(90.0, **dict.fromkeys(why, math.nan), unavailable=json.dumps(why)))
        assert [fact for fact in block.facts if "not available" in fact] == [
            "FID (n=9, test), Inception Score (n=9): not available: no weights",
            "on mnist (%): not available: no files",
        ]
        assert not {"FID", "on"} & {head.split()[0] for head in heads(block)}, "a column of dashes"

    def test_every_dash_says_why(self):
        why = json.dumps({"fid_9_test": "no weights"})
        made = frame_rows(90.0, fid_7_test=3.0, kid_7_test=0.5)
        made += frame_rows(91.0, variant="b", unavailable=why) + frame_rows(92.0, variant="c", fid_9_test=2.0)
        block = block_of(made)
        assert column(block, "FID (n=7, test)") == ["3.00", f"{DASH} [2]", f"{DASH} [4]"]
        assert column(block, "FID (n=9, test)") == [f"{DASH} [1]", f"{DASH} [2]", "2.00"]
        assert column(block, "KID x 1000 (n=7, test)") == ["500.00", f"{DASH} [3]", f"{DASH} [3]"]
        assert block.notes == [
            "it has FID (n=7, test)",
            "no weights",
            "not measured: dfkd measure adds it",
            "it has FID (n=9, test)",
        ]

    def test_no_trial(self):
        assert blocks(main(pd.DataFrame(columns=list(frame_rows(1.0)[0])))) == []


class TestMarks:
    @pytest.mark.parametrize(
        ("points", "rise", "said"),
        [
            (40, 4.0, "still climbing: +4.00 over the last tenth"),  # a point a round, four rounds later
            (20, 2.0, "still climbing: +2.00 over the last tenth"),
            (19, 2.0, "still climbing: +2.00 over the last 2 of 19 points"),
        ],
    )
    def test_only_a_data_free_curve_is_said_to_climb(self, points, rise, said):
        for reference in (False, True):
            made = frame_rows(90.0, 91.0, reference=reference)
            curve = pd.DataFrame(
                {"id": row["id"], "round": float(r), "top1": 50.0 + r + i}
                for i, row in enumerate(made)
                for r in range(points)
            )
            table = table_of(made, curves=curve)
            assert table["climbing"].tolist() == [not reference]
            assert reference or table["climb"][0] == pytest.approx(rise)
            assert (said in blocks(table)[0].lines[0].marks) != reference

    @pytest.mark.parametrize(
        ("budget", "updates", "want"),
        [
            ("30:student_updates", 50.0, ["67 % beyond the budget, to end a round"]),
            ("1000:student_updates", 1005.0, []),
            ("20:rounds", 100.0, []),  # rounds are not told here
        ],
    )
    def test_what_a_last_round_spends_beyond_the_budget(self, budget, updates, want):
        block = block_of(frame_rows(90.0, budget=budget, student_updates=updates))
        assert [mark for mark in block.lines[0].marks if "beyond" in mark] == want

    def test_a_row_names_its_warnings_and_rows_that_share_one_share_its_note(self):
        both = "blur: soft; blur: softer; said by a plug-in"
        made = frame_rows(90.0, warnings=both, variant="a")
        made += frame_rows(80.0, warnings="blur: soft", variant="b")
        block = block_of(made, frame_rows(70.0, warnings="blur: soft", variant="c"))
        marks = {line.cells[1]: [m for m in line.marks if m.endswith("]")] for line in block.lines}
        assert marks == {"a": ["blur [1]", "warning [2]"], "b": ["blur [3]"], "c": ["blur [3]"]}
        assert block.notes == [
            "blur: soft (seed 0); blur: softer (seed 0)", "said by a plug-in (seed 0)", "blur: soft (seed 0)"
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("_x_ y_z __w", "\\_x\\_ y_z \\_\\_w"),
        ("~~a~~ $b$", "\\~\\~a\\~\\~ \\$b\\$"),
        ("wrn16_2 | <b>", "wrn16_2 \\| &lt;b&gt;"),
    ],
)
def test_markdown_shows_a_name_as_it_stands(text, want):
    assert escape(text) == want


class TestPareto:
    CPSC = frame_rows(50.0, 50.0, flops=2.0)
    B = frame_rows(60.0, 60.0, variant="b", flops=3.0)

    def optimal(self, *groups: Rows) -> set[str]:
        return {row["label"] for row in records(table_of(*groups)) if row["pareto"]}

    @pytest.mark.parametrize(
        ("given", "want"),
        [
            ({"cheap": (1, 50), "good": (5, 90), "dear": (9, 90), "bad": (5, 60)}, {"cheap", "good"}),
            ({"a": (1, 50), "b": (1, 50)}, {"a", "b"}),  # equals are optimal together
            ({"a": (math.nan, 50), "b": (1, 60)}, set()),  # nothing to compare with
        ],
    )
    def test_by_hand(self, given, want):
        made = [frame_rows(float(top1), flops=float(c), variant=name) for name, (c, top1) in given.items()]
        assert self.optimal(*made) == want
        assert marked(*made).count("*Pareto-optimal*") == len(want) == sum(front(table_of(*made)))

    def test_a_cheap_control_that_is_as_good_beats_a_method(self):
        control = frame_rows(50.0, 50.0, variant="noise", flops=1.0, control=True)
        assert self.optimal(control, self.CPSC, self.B) == {"noise", "b"}

    def test_who_takes_no_part(self):
        cheap = {"flops": 0.1}
        rest: Sequence[Rows] = [
            frame_rows(99.0, 99.0, variant="kd", reference=True, **cheap),
            frame_rows(98.0, 98.0, variant="old", stale="torch was 1", **cheap),
            frame_rows(97.0, None, variant="half", **cheap),
            # a row alone in its cell has nothing to beat
            frame_rows(99.0, 99.0, variant="x", teacher_digest="bb", teacher_seed=1, **cheap),
        ]
        assert self.optimal(*rest, self.CPSC, self.B) == {"cpsc", "b"}
