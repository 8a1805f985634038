from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.errors import DfkdError
from reports.figures import canvas, draw, places
from reports.figures import style as figures_style
from reports.figures.curves import learning_curves
from reports.figures.samples import Strip, _mosaic
from reports.numbers import rows as numbers_rows
from reports.numbers import stats
from reports.numbers.table import main, to_csv
from reports.page import page
from reports.tables import model
from reports.tables.findings import find
from reports.tables.layout import blocks
from reports.tables.model import DASH
from reports.tables.text import to_markdown, to_text

GOLDEN = Path(__file__).parent / "golden"
NAMES = {"html": "report.html", "md": "report.md", "csv": "report.csv"}


def stored(name: str) -> pd.DataFrame:
    lines = (GOLDEN / f"report_{name}.jsonl").read_text(encoding="utf-8").splitlines()
    return pd.DataFrame([json.loads(line) for line in lines])


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return stored("trials")


@pytest.fixture(scope="module")
def curves() -> pd.DataFrame:
    return stored("curves")


@pytest.fixture(scope="module")
def written(tmp_path_factory, frame, curves) -> dict[str, Path]:
    return page.write(
        "digits", "Authors' settings & <ours>.", frame, curves, images, tmp_path_factory.mktemp("r")
    )


@pytest.fixture(scope="module")
def drawn(frame, curves) -> dict[str, places.Picture]:
    references = set(frame[frame["reference"]]["id"])
    found = find(frame, curves, ())
    made = draw.draw(frame, curves, lambda id: None if id in references else images(id), found)
    return {picture.name: picture for picture in made}


def images(id: str) -> dict[str, np.ndarray] | None:
    """20 pictures whose grey is ten times their class; class 3 never appears; nobody asked for labels."""
    t = np.array([k for k in range(10) if k != 3] * 2)
    return {
        "images": np.broadcast_to((10 * t).astype(np.uint8)[:, None, None, None], (18, 1, 8, 8)),
        "y": np.full(18, -1),
        "t": t,
    }


def trials(*top1: float | None, **more: object) -> list[dict[str, object]]:
    """One row a seed; None is a failed one."""
    label = more.get("variant", "cpsc")
    row = {
        "task": "digits", "teacher": "wrn16_2", "student": "wrn16_1", "variant": label, "method": "cpsc",
        "reference": False, "control": False, "teacher_seed": 0, "budget": "100:rounds", "precision": "fp32",
        "settings": "{}", "reason": "", "stale": "", "warnings": "", "unavailable": "",
        "teacher_digest": "aa", "machine": "m", "data_digest": "dd", "classes": 10.0, "teacher_top1": 99.0,
    }  # fmt: skip
    rows = []
    for seed, value in enumerate(top1):
        own = {
            "id": f"{label}-{seed}-{sorted(map(str, more.items()))}",
            "seed": seed,
            "top1": value,
            "status": "done",
        }
        if value is None:
            own |= {
                "status": "failed",
                "reason": "boom",
                "top1": math.nan,
                "teacher_digest": "",
                "data_digest": "",
            }
        rows.append(row | own | more)
    return rows


def table_of(*groups: list[dict[str, object]], curves: pd.DataFrame | None = None) -> pd.DataFrame:
    return main(pd.DataFrame([row for group in groups for row in group]), curves)


def only(table: pd.DataFrame, **where: object) -> pd.Series:
    for name, value in where.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


class TestStats:
    def test_interval_by_hand(self):
        # mean 2, deviation 1, t(0.975; 2) = 4.302653 from a printed table
        got = stats.interval([1.0, 2.0, 3.0])
        assert (got.mean, got.n) == (2.0, 3)
        assert got.half == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)

    def test_interval_of_two(self):
        # deviation of (0, 2) is sqrt 2, t(0.975; 1) = 12.7062: half = 12.7062
        assert stats.interval([0.0, math.nan, 2.0]).half == pytest.approx(12.7062, rel=1e-5)

    def test_interval_of_one_and_none(self):
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
        assert got is not None
        assert (got.rise, got.error) == (pytest.approx(rise), pytest.approx(error))
        assert got.climbing is climbing and (got.end, got.of) == (2, 20)

    def test_a_short_curve_tells_nothing(self):
        assert stats.climb([1, 2, 3]) is None
        # means 7 and 1.5; variances 8 and 0.5: sqrt(8.5 / 2) = 2.0616
        assert stats.climb([1, 2, 5, 9]) == (5.5, pytest.approx(2.0616, abs=1e-4), 2, 4)


def unfolded(table: pd.DataFrame) -> str:
    """The table's text with its lines joined: a long mark goes over two."""
    return " ".join(to_text(table).split())


class TestTable:
    def test_a_failed_seed_is_not_ranked(self):
        table = table_of(trials(90.0, None, 80.0), trials(70.0, 71.0, 72.0, variant="dfad"))
        row = only(table, label="cpsc")
        assert (row["ran"], row["seeds"], row["failed"]) == (2, 3, 1)
        assert row["top1"] == 85.0 and row["top1_at_chance"] == pytest.approx(60.0)  # (90 + 80 + 10) / 3
        assert math.isnan(row["rank"]) and only(table, label="dfad")["rank"] == 1
        text = " ".join(to_text(table).split())
        assert "2 of 3 ran" in text and "cpsc: failed: boom (seed 1)" in text
        assert "85.00 ± 63.53" in text  # deviation sqrt 50, so 12.7062 * sqrt 50 / sqrt 2
        assert "60.00 with failure at chance" in to_markdown(table)

    def test_unknown_classes_are_said(self):
        rows = [{k: v for k, v in row.items() if k != "classes"} for row in trials(90.0, None)]
        assert "chance unknown" in to_markdown(table_of(rows))

    def test_all_seeds_failed(self):
        text = to_markdown(table_of(trials(None, None)))
        assert "0 of 2 ran; failed: boom (seeds 0, 1); 10.00 with failures at chance" in text

    def test_references_come_first_and_have_no_rank(self):
        table = table_of(trials(90.0, 91.0), trials(98.0, 99.0, variant="kd", method="kd", reference=True))
        assert list(table["label"]) == ["kd", "cpsc"]
        assert math.isnan(table["rank"][0]) and table["rank"][1] == 1
        assert "kd<br>*reference: sees real data*" in to_markdown(table)

    def test_a_control_has_no_rank_and_marks_who_does_not_beat_it(self):
        noise = trials(88.0, 89.0, variant="noise", method="noise", control=True)
        other = trials(60.0, 62.0, variant="untrained", method="untrained", control=True)
        rows = [trials(top1, variant=name) for name, top1 in (("a", 88.5), ("b", 88.51), ("c", 50.0))]
        rows += [trials(None, 40.0, variant="half"), trials(1.0, variant="kd", reference=True)]
        rows.append(trials(40.0, variant="elsewhere", teacher_digest="bb", teacher_seed=1))
        table = table_of(*rows, noise, other)
        assert list(table["label"])[:3] == ["kd", "noise", "untrained"]
        ranks = {r["label"]: r["rank"] for r in numbers_rows.records(table) if not math.isnan(r["rank"])}
        assert ranks == {"b": 1, "a": 2, "c": 3, "elsewhere": 1}
        assert {
            r["label"]: r["below_control"] for r in numbers_rows.records(table) if r["below_control"]
        } == {
            "a": "noise",  # equal is not better
            "c": "noise",
        }
        assert only(table, label="b")["control_top1"] == 88.5
        assert (
            table.loc[table["label"].isin(["kd", "noise", "half", "elsewhere"]), "control_top1"].isna().all()
        )
        text, marked = " ".join(to_text(table).split()), to_markdown(table)
        assert text.count("does not beat its control noise") == 2
        assert marked.count("<br>*does not beat its control noise (88.50)*") == 2
        assert "noise<br>*control: a method must beat it*" in marked
        assert "noise,noise,False,True" in to_csv(table)

    def test_a_stale_control_is_nobodys_measure(self):
        noise = trials(99.0, variant="noise", method="noise", control=True, stale="torch was 1")
        table = table_of(trials(50.0), noise)
        assert only(table, label="cpsc")["below_control"] == ""
        assert math.isnan(only(table, label="cpsc")["control_top1"])

    def test_a_budget_in_flops_is_read_as_cost(self):
        (block,) = blocks(table_of(trials(50.0, budget="8580000000000:flops")))
        assert "budget of every trial: 8.58 TFLOP" in block.facts

    @pytest.mark.parametrize(
        ("budget", "spent", "column"),
        [
            ("1000:student_updates", (1000.0, 1000.0), False),
            ("1000:student_updates", (1000.0, math.nan), False),  # a row that did not run spent nothing
            ("1000:student_updates", (1000.0, 1010.0), True),
            ("100:rounds", (100.0, 100.0), True),
        ],
    )
    def test_updates_have_a_column_where_the_budget_does_not_tell_them(self, budget, spent, column):
        rows = [
            trials(50.0, variant=name, budget=budget, student_updates=n)
            for name, n in zip("ab", spent, strict=True)
        ]
        (block,) = blocks(table_of(*rows))
        assert ("student updates" in [head.text for head in block.heads]) == column

    def test_labels_met(self):
        rows = trials(50.0, 60.0, label_match=12.0) + trials(70.0, variant="dafl", method="dafl")
        (block,) = blocks(table_of(rows))
        place = [head.text for head in block.heads].index("labels met (%)") - 2
        met, none = (row.cells[place] for row in block.rows)
        assert met == "12 ± 0"
        assert none.startswith(DASH)

    def test_rows_of_other_budgets_say_theirs(self):
        rows = trials(50.0) + trials(60.0, variant="dafl", budget="5000:student_updates")
        (block,) = blocks(table_of(rows))
        place = [head.text for head in block.heads].index("budget") - 2
        assert [row.cells[place] for row in block.rows] == ["100 rounds", "5,000 student updates"]

    def test_what_seeds_share_is_said_once(self):
        said = [
            ("blur: 43 % of 2 (0.30)", "0"),
            ("dead", "1"),
            ("blur: 48 % of 2 (0.07)", "2"),
            ("dead", "2"),
        ]
        assert (
            numbers_rows.by_seed(said)
            == "blur: 43 to 48 % of 2 (0.07 to 0.30) (seeds 0, 2); dead (seeds 1, 2)"
        )
        apart = [
            ("no class 1", "0"),
            ("no class 2", "1"),
            ("9 % low", "0"),
            ("10 % low", "1"),
            ("9 % low", "1"),
        ]
        assert numbers_rows.by_seed(apart) == (
            "no class 1 (seed 0); no class 2 (seed 1); 9 to 10 % low (seeds 0, 1)"
        )

    def test_best_on_test_minus_last(self):
        # 1 and 3: mean 2, deviation sqrt 2, half 12.7062 * sqrt 2 / sqrt 2
        rows = trials(90.0, 92.0)
        for row, best in zip(rows, (91.0, 95.0), strict=True):
            row["top1_oracle"] = best
        row = only(table_of(rows), label="cpsc")
        assert (row["oracle_gap"], row["oracle_gap_n"]) == (2.0, 2)
        assert row["oracle_gap_half"] == pytest.approx(12.7062, rel=1e-5)

    def test_two_teacher_files_never_share_a_mean(self):
        rows = trials(90.0, 92.0) + trials(50.0, 52.0, teacher_digest="bb", teacher_seed=1)
        rows += trials(60.0, 62.0, variant="dfad", teacher_digest="bb", teacher_seed=1)
        table = table_of(rows)
        assert sorted(table["top1"]) == [51.0, 61.0, 91.0]
        # each ranks among the students of its own teacher
        assert only(table, label="cpsc", teacher_digest="aa")["rank"] == 1
        assert only(table, label="cpsc", teacher_digest="bb")["rank"] == 2
        assert only(table, label="dfad")["rank"] == 1
        assert "split: teacher file bb alone" in to_markdown(table)

    def test_a_retrained_teacher_leaves_both_rows_incomplete(self):
        rows = trials(90.0, 92.0, 94.0)
        rows[0] |= {"teacher_digest": "old", "stale": "teacher file changed"}
        table = table_of(rows)
        stale, fresh = only(table, teacher_digest="old"), only(table, teacher_digest="aa")
        assert stale["top1"] == 90.0 and fresh["top1"] == 93.0
        assert (fresh["ran"], fresh["seeds"]) == (2, 3)
        assert table["rank"].isna().all()
        assert "stale: teacher file changed" in to_markdown(table)

    def test_a_failure_joins_the_standing_row(self):
        rows = trials(90.0, 92.0, None)
        rows[0] |= {"teacher_digest": "old", "stale": "teacher file changed"}
        assert only(table_of(rows), teacher_digest="aa")["failed"] == 1

    def test_two_data_digests_never_share_a_mean(self):
        rows = trials(90.0, 80.0)
        rows[1]["data_digest"] = "other"
        assert list(table_of(rows)["label"]) == ["cpsc (data dd)", "cpsc (data other)"]

    @pytest.mark.parametrize(
        ("more", "label"),
        [
            ({"budget": "200:rounds"}, "cpsc (200:rounds)"),
            ({"settings": '{"alpha": 2}'}, "cpsc (alpha=2)"),
            ({"precision": "bf16"}, "cpsc (bf16)"),
        ],
    )
    def test_rows_of_one_name_are_told_apart(self, more, label):
        table = table_of(
            trials(90.0, 92.0, settings='{"alpha": 1}'),
            trials(50.0, 52.0, **({"settings": '{"alpha": 1}'} | more)),
        )
        assert len(table) == 2 and table["label"][1] == label and set(table["top1"]) == {91.0, 51.0}

    def test_one_seed_has_no_interval(self):
        text = to_markdown(table_of(trials(91.25)))
        assert "91.25 (n=1)" in text and "±" not in text

    def test_a_trial_counts_once(self):
        rows = trials(90.0, 92.0)
        assert table_of(rows, rows)["ran"].tolist() == [2]

    def test_blank_cells_say_why(self):
        rows = trials(0.0, 0.0, variant="zskt", status="skipped", reason="teacher has\nno BN")
        rows += trials(0.0, variant="cmi", status="missing") + trials(0.0, variant="adi", status="running")
        text = to_markdown(table_of(rows))
        assert "skipped: teacher has no BN (seeds 0, 1)" in text
        assert "not run yet" in text and "still running" in text and "0.00" not in text.replace("10.00", "")

    def test_a_metric_nobody_has_becomes_its_reason(self):
        why = json.dumps({"fid_898_test": "no weights", "fd_teacher": "no images"})
        rows = trials(90.0, fid_898_test=math.nan, fd_teacher=math.nan, unavailable=why)
        rows += trials(91.0, variant="dfad", fid_898_test=math.nan, fd_teacher=3.25)
        (block,) = blocks(table_of(rows))
        assert "FID (n=898, test): not available: no weights" in block.facts
        heads = [head.text for head in block.heads]
        assert not any(head.startswith("FID") for head in heads)
        column = heads.index("fd_teacher") - 2
        assert [row.cells[column] for row in block.rows] == ["– [1]", "3.2"]  # noqa: RUF001
        assert block.numbered() == ["[1] no images"]

    def test_every_dash_says_why(self):
        why = json.dumps({"fid_9_test": "no weights"})
        rows = trials(90.0, fid_7_test=3.0, kid_7_test=0.5) + trials(91.0, variant="b", unavailable=why)
        rows += trials(92.0, variant="c", fid_9_test=2.0)
        (block,) = blocks(table_of(rows))
        heads = [head.text for head in block.heads][2:]
        names = ("FID (n=7, test)", "FID (n=9, test)", "KID x 1000 (n=7, test)")
        cells = [[row.cells[heads.index(name)] for name in names] for row in block.rows]
        dash = "–"  # noqa: RUF001
        assert cells == [
            ["3.00", f"{dash} [1]", "500.00"],
            [f"{dash} [2]", f"{dash} [2]", f"{dash} [3]"],
            [f"{dash} [4]", "2.00", f"{dash} [3]"],
        ]
        assert block.notes == [
            "it has FID (n=7, test)",
            "no weights",
            "not measured: dfkd measure adds it",
            "it has FID (n=9, test)",
        ]

    def test_fid_names_its_n_and_split(self):
        (block,) = blocks(table_of(trials(90.0, 91.0, fid_10000_test=12.5)))
        assert "FID (n=10000, test)" in [head.text for head in block.heads]
        assert "12.50 ± 0.00" in block.rows[0].cells

    def test_what_depends_on_strength_is_in_the_csv_alone(self):
        numbers = {"corruption": 57.5, "corruption_drop": 40.0, "corruption_blur": 80.0}
        numbers |= {"corruption_blur_1": 90.0, "shift_mnist": 33.0, "shift_my 2": 44.0, "is_899_samples": 2.5}
        table = table_of(trials(90.0, 91.0, **numbers, is_899_test=3.5))
        (block,) = blocks(table)
        heads = [head.text for head in block.heads]
        start = heads.index("Inception Score (n=899)")
        assert heads[start : start + 6] == [
            *("Inception Score (n=899)", "corrupted (%)", "lost (%)", "blur (%)"),
            *("on mnist (%)", "on my 2 (%)"),
        ]
        assert block.rows[0].cells[start - 2 : start + 4] == (
            *("2.50 ± 0.00", "57.50 ± 0.00", "40.0 ± 0.0", "80.00 ± 0.00"),
            *("33.00 ± 0.00", "44.00 ± 0.00"),
        )
        assert not any("3.50" in cell for cell in block.rows[0].cells)
        assert {"corruption_blur_1", "is_899_test"} < set(table.columns)

    def test_metrics_that_lack_the_same_thing_share_a_line(self):
        why = {"fid_9_test": "no weights", "is_9_samples": "no weights", "shift_mnist": "no files"}
        rows = trials(90.0, **dict.fromkeys(why, math.nan), unavailable=json.dumps(why))
        (block,) = blocks(table_of(rows))
        told = [fact for fact in block.facts if "not available" in fact]
        assert told == [
            "FID (n=9, test), Inception Score (n=9): not available: no weights",
            "on mnist (%): not available: no files",
        ]

    @pytest.mark.parametrize(("reference", "flagged"), [(False, True), (True, False)])
    def test_only_a_data_free_curve_is_said_to_climb(self, reference, flagged):
        rows = trials(90.0, 91.0, reference=reference)
        curve = pd.DataFrame(
            [
                {"id": row["id"], "round": float(r), "top1": 50 + r + seed}
                for seed, row in enumerate(rows)
                for r in range(40)
            ]
        )
        table = table_of(rows, curves=curve)
        assert table["climbing"].tolist() == [flagged]
        if flagged:
            assert table["climb"][0] == pytest.approx(4.0)  # a point a round, four rounds later
            assert "still climbing: +4.00 over the last tenth" in unfolded(table)

    @pytest.mark.parametrize(("points", "said"), [(19, "last 2 of 19 points"), (20, "last tenth")])
    def test_a_short_curve_names_its_points(self, points, said):
        rows = trials(90.0)
        curve = pd.DataFrame({"id": rows[0]["id"], "round": float(r), "top1": r} for r in range(points))
        assert f"still climbing: +2.00 over the {said}" in unfolded(table_of(rows, curves=curve))

    def test_no_trial(self):
        empty = pd.DataFrame(columns=list(trials(1.0)[0]))
        assert to_text(main(empty)) == "no trial\n"

    def test_csv_reads_back(self, frame, curves):
        import io

        table = main(frame, curves)
        back = pd.read_csv(io.StringIO(to_csv(table)), keep_default_na=False, na_values={"top1": ""})
        assert list(back["label"]) == list(table["label"])
        assert back["top1"].to_numpy() == pytest.approx(table["top1"].to_numpy(dtype=float), nan_ok=True)


class TestGolden:
    """The stored frame gives exactly the stored files; remake them with `tests/reports/golden/remake.py`."""

    @pytest.mark.parametrize("kind", ["md", "csv"])
    def test_file(self, written, kind):
        assert written[kind].read_text("utf-8") == (GOLDEN / NAMES[kind]).read_text("utf-8")

    def test_text(self, frame, curves):
        assert to_text(main(frame, curves)) == (GOLDEN / "report.txt").read_text("utf-8")

    def test_ranks_are_those_of_the_means(self, frame, curves):
        # means of the complete data-free rows, from the frame alone
        free = ~frame["reference"] & ~frame["control"]
        done = frame[(frame["task"] == "digits") & (frame["status"] == "done") & free]
        means = {
            k: g["top1"].mean() for k, g in done.groupby("variant") if len(g) == 3 and k != "two teachers"
        }
        table = main(frame, curves)
        ranked = table[(table["task"] == "digits") & table["rank"].notna()].sort_values("rank")
        assert list(ranked["label"]) == sorted(means, key=means.__getitem__, reverse=True)

    def test_same_bytes_again(self, written, frame, curves, tmp_path):
        again = page.write("digits", "Authors' settings & <ours>.", frame, curves, images, tmp_path)
        assert {k: p.read_bytes() for k, p in again.items()} == {
            k: p.read_bytes() for k, p in written.items()
        }


class Page(HTMLParser):
    """Everything a page refers to, its ids, its words."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src", "srcset", "poster", "data", "action"):
                self.links.append(value)

    def handle_data(self, data):
        self.words += data


class TestPage:
    def test_asks_the_network_for_nothing(self, written):
        text = written["html"].read_text("utf-8")
        for link in Page(text).links:
            assert link.startswith(("#", "data:")), link[:80]
        assert not re.search(r"@import|url\((?!#)", text)
        assert set(re.findall(r"https?://[^\s\"']+", text)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        # nothing but its own script and style may run, whatever a name in a table holds
        assert Page(text).tags.count("script") == 1 and "<script>" in text
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
        assert policy and policy[1].startswith("default-src 'none'; img-src data:; ")
        assert not re.search(r"\b(eval|Function|fetch|XMLHttpRequest|import)\b *\(|innerHTML", text)

    def test_the_policy_lets_the_pages_script_run(self, written):
        text = written["html"].read_text("utf-8")
        script = text[text.index("<script>") + 8 : text.index("</script>")]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in text

    def test_ids_are_unique_and_links_lead_somewhere(self, written):
        got = Page(written["html"].read_text("utf-8"))
        assert len(got.ids) == len(set(got.ids))
        assert {link[1:] for link in got.links if link.startswith("#")} <= set(got.ids)

    def test_strangers_words_stay_words(self, written):
        text = written["html"].read_text("utf-8")
        assert "cpsc - L_BN <β=0> | größer" in Page(text).words
        assert "<β" not in text and "<ours>" not in text
        row = next(x for x in written["md"].read_text("utf-8").splitlines() if "größer" in x)
        assert r"cpsc - L_BN &lt;β=0&gt; \| größer" in row

    def test_pictures_take_the_pages_colours(self, written):
        text = written["html"].read_text("utf-8")
        svgs = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
        assert (
            len(svgs) == 8
        )  # two curves and a sample grid of each of two tasks; bars and costs of one of them
        for svg in svgs:
            assert not any(light in svg for light, _ in figures_style.THEME.values())
        assert "var(--c0)" in svgs[0] and f"--c0:{figures_style.THEME['c0'][1]}" in text

    def test_markdown_shows_files_that_are_there(self, written):
        shown = re.findall(r"!\[.*?\]\((.*?)\)", written["md"].read_text("utf-8"))
        assert len(shown) == 8
        assert all((written["md"].parent / name).is_file() for name in shown)

    def test_provenance_names_both_teacher_files(self, written):
        words = Page(written["html"].read_text("utf-8")).words
        assert "1f" * 32 + ", 99.11 % top-1 (1 trial)" in words and "9c" * 32 in words
        assert "0123456789ab" in words and "x86_64, 2 cores" in words and "2.9.0" in words

    def test_only_what_was_asked_for(self, frame, curves, tmp_path):
        names = ["csv", "verdicts", "comparisons"]
        assert list(page.write("g", "", frame, curves, images, tmp_path, ("csv",))) == names
        assert {p.name for p in tmp_path.iterdir()} == {"report.csv", "verdicts.csv", "comparisons.csv"}

    def test_unknown_format(self, frame, curves, tmp_path):
        with pytest.raises(DfkdError, match=r"report format 'pdf'.*html"):
            page.write("g", "", frame, curves, images, tmp_path, ("pdf",))

    def test_nothing_ran_yet(self, frame, curves, tmp_path):
        waiting = frame[frame["status"] != "done"]
        files = page.write("g", "", waiting, curves, images, tmp_path)
        assert "not run yet" in files["html"].read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("_x_ y_z __w", "\\_x\\_ y_z \\_\\_w"),
        ("~~a~~ $b$", "\\~\\~a\\~\\~ \\$b\\$"),
        ("wrn16_2 | <b>", "wrn16_2 \\| &lt;b&gt;"),
    ],
)
def test_markdown_shows_a_name_as_it_stands(text, want):
    assert model.escape(text) == want


@pytest.mark.parametrize(
    ("budget", "updates", "want"),
    [
        ("30:student_updates", 50.0, ["67 % beyond the budget, to end a round"]),
        ("1000:student_updates", 1005.0, []),
        ("20:rounds", 100.0, []),  # rounds are not told here
    ],
)
def test_what_a_last_round_spends_beyond_the_budget(budget, updates, want):
    (block,) = blocks(main(pd.DataFrame(trials(90.0, budget=budget, student_updates=updates))))
    assert [mark for mark in block.rows[0].marks if "beyond" in mark] == want


class TestWarnings:
    def test_a_row_names_them_and_rows_that_share_one_share_its_note(self):
        both = "blur: soft; blur: softer; said by a plug-in"
        made = trials(90.0, warnings=both, variant="a") + trials(80.0, warnings="blur: soft", variant="b")
        made += trials(70.0, warnings="blur: soft", variant="c")
        (block,) = blocks(main(pd.DataFrame(made)))
        marks = {row.label: [m for m in row.marks if m.endswith("]")] for row in block.rows}
        assert marks == {"a": ["blur [1]", "warning [2]"], "b": ["blur [3]"], "c": ["blur [3]"]}
        assert block.notes == [
            "blur: soft (seed 0); blur: softer (seed 0)", "said by a plug-in (seed 0)", "blur: soft (seed 0)"
        ]  # fmt: skip


def test_a_row_of_another_row_s_trials_says_so():
    made = trials(90.0, 91.0, variant="dafl")
    made += [row | {"variant": "dafl (DataFree)"} for row in made] + trials(90.0, 91.0, variant="dfad")
    (block,) = blocks(main(pd.DataFrame(made)))
    marks = {row.label: "the same trials as dafl" in row.marks for row in block.rows}
    assert marks == {"dafl": False, "dafl (DataFree)": True, "dfad": False}


class TestSettings:
    def test_a_method_s_first_row_in_full_and_what_differs_in_the_others(self):
        made = trials(90.0, settings='{"a": 1, "b": "x"}', variant="full")
        for label, text in (
            ("- a", '{"a": 0, "b": "x"}'),
            ("odd", '{"b": "x", "c": [1]}'),
            ("same", made[0]["settings"]),
        ):
            made += trials(80.0, settings=text, variant=label)
        made += trials(70.0, settings='{"a": 1, "b": "x"}', variant="full", task="mnist")
        assert page.settings(pd.DataFrame(made)) == [
            ("full", "cpsc", 'a = 1, b = "x"'),
            ("- a", "cpsc", "as full, but a = 0"),
            ("odd", "cpsc", "as full, but c = [1], no a"),
            ("same", "cpsc", "as full"),
        ]


class TestPictures:
    def test_a_row_looks_the_same_everywhere(self):
        rows = {"scratch": ("scratch", "reference"), "kd": ("kd", "reference"), "noise": ("noise", "control")}
        rows |= {f"m{i}": (f"m{i}", "method") for i in range(15)}
        styles = figures_style.styles(rows)
        assert list(styles) == list(rows)
        assert len(set(styles.values())) == len(rows)
        assert styles["scratch"].dash and styles["kd"].dash and not styles["m0"].dash
        greys = {figures_style.THEME["r0"][0], figures_style.THEME["r1"][0]}
        assert {n for n, style in styles.items() if style.colour in greys} == {"scratch", "kd"}
        brown = figures_style.THEME["c5"][0]
        assert {n for n, style in styles.items() if style.colour == brown} == {"noise"}
        assert styles["noise"].dash

    def test_a_method_looks_the_same_in_every_report(self):
        few = figures_style.styles(
            {"kd": ("kd", "reference"), "cpsc": ("cpsc", "method"), "fast": ("fast", "method")}
        )
        many = figures_style.styles(
            {
                "fast k=2": ("fast", "method"),
                "fast k=5": ("fast", "method"),
                "mine": ("mine", "method"),
                "cpsc released": ("cpsc", "method"),
                "cpsc": ("cpsc", "method"),
            }
        )
        assert few["cpsc"] == many["cpsc"] and few["fast"] == many["fast k=2"]
        assert len({style.colour for style in many.values()}) == 5
        assert figures_style.styles({"- bn": ("cpsc", "method")})["- bn"] == few["cpsc"]

    def test_variants_of_one_method_have_different_hues(self):
        names = [f"cpsc {i}" for i in range(20)]
        found = list(figures_style.styles({name: ("cpsc", "method") for name in names}).values())
        assert len(set(found)) == 20
        assert all(a.colour != b.colour for a, b in pairwise(found))

    @pytest.mark.parametrize("theme", [0, 1])
    @pytest.mark.parametrize("paper", ["paper", "shade"])
    def test_words_stand_out(self, paper, theme):
        # WCAG 2.2, 1.4.3: relative luminance, then (lighter + 0.05) / (darker + 0.05), 4.5 for text
        def luminance(name: str) -> float:
            s = np.array([int(figures_style.THEME[name][theme][i : i + 2], 16) for i in (1, 3, 5)]) / 255
            linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
            return float(linear @ [0.2126, 0.7152, 0.0722])

        for name in ("ink", "muted", "accent", "warn"):
            dark, light = sorted((luminance(name), luminance(paper)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name

    def test_nothing_moves(self, written):
        assert not re.search("transition|animation|[^r]scroll-behavior", written["html"].read_text("utf-8"))

    @pytest.mark.parametrize("theme", [0, 1])
    def test_hues_differ_to_colour_blind_eyes(self, theme):
        # Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB; distances in CIE Lab
        eyes = {
            "protan": [0.152286, 1.052583, -0.204868, 0.114503, 0.786281, 0.099216,
                       -0.003882, -0.048116, 1.051998],
            "deutan": [0.367322, 0.860646, -0.227968, 0.280085, 0.672501, 0.047413,
                       -0.011820, 0.042940, 0.968881],
        }  # fmt: skip
        to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])

        def lab(hex_: str, eye: np.ndarray) -> np.ndarray:
            s = np.array([int(hex_[i : i + 2], 16) for i in (1, 3, 5)]) / 255
            linear = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
            x, y, z = np.cbrt(to_xyz @ np.clip(eye @ linear, 0, 1) / [0.9505, 1, 1.089])
            return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

        hues = [figures_style.THEME[f"c{i}"][theme] for i in range(8)]
        for eye in eyes.values():
            seen = [lab(hue, np.reshape(eye, (3, 3))) for hue in hues]
            assert min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 14

    def test_an_image_stands_under_the_label_asked_for_or_the_teachers(self):
        x = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
        samples = {"images": x, "y": np.array([1, 0, -1, -1]), "t": np.array([0, 0, 1, 2])}
        got = numbers_rows.tiles(samples, [0, 1, 2, 3], per_class=2)
        assert [[int(i[0, 0, 0]) for i in tile] for tile in got] == [[1], [0, 2], [3], []]

    def test_the_mosaic_holds_the_pixels_in_place(self):
        tiles = numbers_rows.tiles(images(""), list(range(10)), 2)
        canvas = _mosaic(Strip("x", "", tiles), 2)
        height, width = canvas.shape[0] // 2, canvas.shape[1] // 10
        for row in range(2):
            for k in range(10):
                pixel = canvas[row * height + height // 2, k * width + width // 2]
                assert pixel.tolist() == ([10 * k] * 3 + [255] if k != 3 else [*pixel[:3], 0])

    def test_a_class_that_never_appears_says_none(self, drawn):
        svg = drawn["samples-1"].svg
        shown = ["dafl", "dfad", "cpsc", "cpsc - L_BN &lt;β=0&gt; | größer", "two teachers"]
        shown.append("noise")
        assert all(f">{label}</text>" in svg for label in shown)
        assert svg.count(">none</text>") == len(shown)  # class 3, once in each strip

    def test_methods_without_images_are_named(self, drawn):
        assert "No images of its own: scratch, kd." in drawn["samples-1"].caption
        assert "No images" not in drawn["samples-2"].caption

    def test_stale_results_are_left_out_and_named(self, drawn):
        assert "Stale results are left out: two teachers." in drawn["curves-cost-1"].caption
        assert "Stale" not in drawn["curves-cost-2"].caption

    def test_seeds_of_different_length_meet_at_the_same_rounds(self):
        curve = pd.DataFrame(
            {"id": ["a"] * 4 + ["b"] * 2, "round": [1, 2, 3, 4, 2, 4.0], "top1": [1, 2, 3, 4, 20, 40.0]}
        )
        got = numbers_rows.together(curve, ["a", "b", "absent"], ["top1"])["top1"]
        assert got.tolist() == [[2, 4], [20, 40]]

    def test_any_name_can_be_drawn(self):
        names = ["_hidden", "$x^2$", "größer 中文", "a\x07b", "long " * 20]
        data = pd.DataFrame(
            [
                {"label": n, "seed": s, "x": 10.0**i, "top1": 50 + i}
                for i in range(4)
                for n in names
                for s in (0, 1)
            ]
        )
        styles = figures_style.styles({name: (name, "method") for name in names})
        text = canvas.svg(learning_curves(data, styles, "student updates", 99.0), "n")
        for shown in ("_hidden", "$x^2$", "größer 中文", "a b"):
            assert shown in text
        assert "Time" not in text and "<metadata>" not in text
        assert canvas.png(learning_curves(data, styles, "student updates"))[:4] == b"\x89PNG"

    def test_budgets_far_apart_get_a_log_axis(self):
        def axis(far: float) -> str:
            data = pd.DataFrame(
                [
                    {"label": n, "seed": 0, "x": e * i, "top1": 9.0 * i}
                    for n, e in (("a", 1.0), ("b", far))
                    for i in range(1, 9)
                ]
            )
            figure = learning_curves(
                data, figures_style.styles({name: (name, "method") for name in "ab"}), "student updates"
            )
            return figure.axes[0].get_xlabel()

        assert axis(2.0) == "student updates" and axis(50.0) == "student updates, log scale"
