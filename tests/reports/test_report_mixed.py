"""A grid in which everything happened: from its trial directories through ``dfkd report`` in every format.

Numbers are worked by hand: t(0.975; 1) = 12.7062, t(0.975; 2) = 4.302653, chance on ten classes is 10.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from harness.config import Trial
from harness.grids import expand, load
from harness.store.directory import Store, TrialDir
from harness.store.mlflow_place import Place, resolve_uri
from harness.store.mlflow_runs import Ledger
from harness.store.mlflow_tracker import Tracker
from reports.figures import canvas
from tests.build import failed, finished, row
from tests.reports.pages import Page

pytestmark = pytest.mark.xdist_group("mixed")

ODD = "größer_中文 & 50% #1 | <b>$x$"
OLD, NEW = "1f" * 32, "9c" * 32
NO_FID = "no Inception weights: give --inception-weights FILE"
GRID = f"""
from harness.config import Budget, Grid
GRID = Grid(
    tasks=("cifar10",), pairs=(("resnet34", "resnet18"),), seeds=(0, 1, 2),
    budget=Budget(amount=80000, unit="student_updates"), note="Für & <alle>: settings of the authors.",
    variants={{
        "scratch": ("scratch", {{}}), "noise": ("noise", {{}}),
        "cmi": ("cmi", {{}}), "cmi again": ("cmi", {{}}), "one seed": ("cmi", {{"lr_g": 0.002}}),
        {ODD!r}: ("dafl", {{"tau": 3.5}}), "dfad": ("dfad", {{}}), "zskt": ("zskt", {{}}),
        "adi": ("adi", {{}}), "fast": ("fast", {{}}), "dfq": ("dfq", {{}}),
    }},
    row_seeds={{"one seed": (0,), "dfad": (0, 1, 2, 2)}},
)
"""
#: row -> top-1 by seed
TOP1 = {
    "scratch": (95.0, 95.2, 95.4), "noise": (14.0, 15.0, 16.0), "cmi": (94.0, 94.5, 95.0),
    "one seed": (94.05,), ODD: (90.0, 91.0, 92.0), "dfad": (80.0, None, 82.0), "fast": (60.0, 93.0, 94.0),
    "dfq": (88.0, 89.0, 50.0),
}  # fmt: skip

#: (row, seed) -> how it ended
FAILED = {
    ("adi", 1): ("killed", "out of memory & <killed>"),
    ("dfad", 1): ("method", "loss of 'G' is not finite in round 31: adv_1 | <nan>"),
}


def finish(out: Path, trial: Trial, top1: float) -> None:
    stale, other = (trial.label, trial.seed) == ("fast", 0), (trial.label, trial.seed) == ("dfq", 2)
    metrics, why = {"agreement": top1 + 0.5, "top1": top1}, {"kid_10000_test": NO_FID}
    if trial.label == "cmi":
        metrics["fid_10000_test"] = 30.0 + 2 * trial.seed
    else:
        why["fid_10000_test"] = "makes no images" if trial.method == "scratch" else NO_FID
    odd = (trial.label, trial.seed) == (ODD, 0)
    images = np.full((10, 3, 8, 8), 99, np.uint8)
    finished(
        out,
        trial,
        [top1 - (20 - i) / 4 for i in range(1, 21)],
        {"samples.npz": {"images": images, "y": np.arange(10), "t": np.arange(10)}},
        metrics=metrics,
        unavailable=why,
        warnings=["mode collapse: 4 of 10 classes & <more>"] if odd else [],
        spend={"rounds": 80, "student_updates": 80000, "flops": 1e15},
        provenance={
            "teacher_digest": OLD if other else NEW,
            "teacher_top1": 90.0 if other else 95.0,
            "torch": "0.1" if stale else version("torch"),
        },
    )


@contextlib.contextmanager
def everything(out: Path, trials: list[Trial]) -> Iterator[None]:
    """Trial directories as the harness leaves them; one trial runs as long as this holds."""
    live = None
    for trial in {t.id: t for t in reversed(trials)}.values():
        if trial.label == "zskt":
            failed(out, trial, "skip", "teacher has no BatchNorm layer")
        elif trial.label == "adi" and trial.seed == 0:
            live = TrialDir(out, trial)
        elif end := FAILED.get((trial.label, trial.seed)):
            failed(out, trial, *end).append(row(1, top1=20.0))
        elif trial.label in TOP1:
            finish(out, trial, TOP1[trial.label][trial.seed])
    assert live is not None
    with live.lock():
        live.prepare()
        live.append(row(1, top1=30.0))
        yield


class World(NamedTuple):
    """The report's folder, and its files made from the directories and from MLflow."""

    reports: Path
    from_store: dict[str, bytes]
    from_mlflow: dict[str, bytes]

    def text(self, name: str) -> str:
        return self.from_store[name].decode()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, dfkd) -> World:
    """The report from both sources; its figures are drawn but not laid out, which takes most of the time."""
    out, whole = tmp_path_factory.mktemp("store"), canvas.svg
    file, reports = out / "größe_1.py", out / "reports" / "größe_1"
    file.write_text(GRID, encoding="utf-8")
    trials = expand.remembered(load.load(file))

    def report(*more: str) -> dict[str, bytes]:
        said = dfkd("report", file, "--out", out, "--format", "html,md,tex,csv", *more)
        assert said.code == 0, said.err
        return {f.name: f.read_bytes() for f in reports.iterdir() if f.is_file()}

    def loose(figure: Figure, name: str) -> str:
        figure.set_layout_engine("none")
        return whole(figure, name)

    with pytest.MonkeyPatch.context() as patch, everything(out, trials):
        patch.setattr(canvas, "svg", loose)
        from_store = report()
        Tracker(None, out, "größe_1").sync(trials, Store(out))
        ledger = Ledger(Place(resolve_uri(None, out), out, "größe_1")).open()
        ledger.create(trials[0])  # a run that stands there twice
        ledger.begin(next(t for t in trials if (t.label, t.seed) == ("adi", 0)))
        return World(reports, from_store, report("--from", "mlflow"))


@pytest.fixture(scope="module")
def table(world: World) -> pd.DataFrame:
    return pd.read_csv(world.reports / "report.csv", keep_default_na=False, na_values=[""])


def rows_of(table: pd.DataFrame, label: str) -> list[dict[str, Any]]:
    return [{str(k): v for k, v in row.items()} for row in table[table["label"] == label].to_dict("records")]


def one(table: pd.DataFrame, label: str) -> dict[str, Any]:
    (row,) = rows_of(table, label)
    return row


def test_mlflow_gives_the_same_bytes(world):
    kinds = {"report.html", "report.md", "report.tex", "report.csv", "verdicts.csv", "comparisons.csv"}
    assert world.from_mlflow.keys() == kinds
    assert world.from_mlflow == world.from_store


def test_means_intervals_and_counts(table):
    # deviations 0.2, 1, 0.5, 1, sqrt 2: half = t s / sqrt n
    three, two = 4.302653 / math.sqrt(3), 12.7062
    wanted = {
        "scratch": (95.2, 0.2 * three, 3, 3), "noise": (15.0, three, 3, 3), "cmi": (94.5, 0.5 * three, 3, 3),
        "cmi again": (94.5, 0.5 * three, 3, 3), ODD: (91.0, three, 3, 3), "dfad": (81.0, two, 2, 3),
        "one seed": (94.05, math.nan, 1, 1), "zskt": (math.nan, math.nan, 0, 3),
        "adi": (math.nan, math.nan, 0, 3),
    }  # fmt: skip
    for label, want in wanted.items():
        row = one(table, label)
        got = (row["top1"], row["top1_half"], row["ran"], row["seeds"])
        assert got == pytest.approx(want, rel=1e-5, nan_ok=True), label
    # a failed seed as guessing: (80 + 10 + 82) / 3; the other missing ones never ran
    assert one(table, "dfad")["top1_at_chance"] == pytest.approx(172 / 3)
    assert table["top1_at_chance"].notna().sum() == 1
    assert len(table) == 13  # eleven rows of the grid, two of them in two


def test_two_teacher_files_and_stale_results_share_no_mean(table):
    old, new = sorted(rows_of(table, "dfq"), key=lambda row: row["teacher_digest"])
    assert (old["teacher_digest"], old["top1"], old["ran"], old["teacher_top1"]) == (OLD, 50.0, 1, 90.0)
    assert (new["teacher_digest"], new["top1"], new["ran"], new["teacher_top1"]) == (NEW, 88.5, 2, 95.0)
    stale, fresh = sorted(rows_of(table, "fast"), key=lambda row: row["top1"])
    assert (stale["top1"], stale["ran"]) == (60.0, 1) and stale["stale"].startswith("torch was 0.1, is ")
    assert (fresh["top1"], fresh["ran"]) == (93.5, 2) and isinstance(fresh["stale"], float)
    for part in (old, new, stale, fresh):
        assert part["seeds"] == 3 == part["ran"] + part["elsewhere"] and math.isnan(part["rank"])
        assert part["reason"].endswith("under another teacher file or stale, in a row of its own")


def test_only_whole_standing_rows_are_ranked(table):
    ranked = {r["label"]: r["rank"] for r in table.to_dict("records") if not math.isnan(r["rank"])}
    assert ranked == {"cmi": 1, "cmi again": 1, "one seed": 3, ODD: 4}


def test_every_missing_seed_has_its_reason(table):
    failed = "failed: loss of 'G' is not finite in round 31: adv_1 | <nan> (seed 1)"
    assert one(table, "dfad")["reason"] == failed
    assert one(table, "zskt")["reason"] == "skipped: teacher has no BatchNorm layer (seeds 0, 1, 2)"
    assert one(table, "adi")["reason"] == (
        "still running (seed 0); interrupted: out of memory & <killed> (seed 1); not run yet (seed 2)"
    )


def test_a_trial_that_stands_twice_counts_once(world, table):
    # ten rows of three trials and one of one, cmi's under two names: 28; done 3 + 3 + 3 + 3 + 2 + 3 + 3 + 1
    said = "21 of 28 trials done, 1 failed, 1 missing, 1 partial, 1 running, 3 skipped"
    for name in ("report.html", "report.md", "report.tex"):
        assert said in world.text(name)
    assert one(table, "dfad")["seeds"] == 3  # seed 2 is in the grid twice


def test_verdicts_and_why_there_is_none(world):
    found = pd.read_csv(world.reports / "verdicts.csv", keep_default_na=False, na_values=[""])
    cmi = one(found, "cmi")
    # CMI's README: 94.84 by a teacher of 95.7
    assert (cmi["published"], cmi["published_teacher"], cmi["verdict"]) == (94.84, 95.7, "reproduced")
    assert cmi["gap"] == pytest.approx(-0.34) and cmi["teacher_gap"] == pytest.approx(-0.7)
    assert cmi["ratio_gap"] == pytest.approx(100 * (94.5 / 95 - 94.84 / 95.7))
    assert cmi["tolerance"] == pytest.approx(100 / 95 * 0.5 * 4.302653 / math.sqrt(3), rel=1e-6)
    assert one(found, "one seed")["why"] == "not testable at n = 1"
    assert one(found, "dfad")["why"] == "2 of 3 ran" and one(found, "zskt")["why"] == "0 of 3 ran"
    stated = [row["why"] for row in rows_of(found, "dfq") if row["pair"] == "stated"]
    assert stated == ["2 of 3 here", "1 of 3 here"]
    assert one(found, ODD)["why"] == "smaller budget: 80,000 student updates, the source's 240,000"
    assert found.loc[~found["label"].isin(["cmi", "cmi again"]), "verdict"].isna().all()
    # and what is not there is named
    assert set(TOP1) | {"cmi again", "zskt", "adi"} == set(found["label"]) | {"fast"}
    nothing = "Nothing is published with the task, pair and settings of fast (cifar10: resnet34 → resnet18)"
    for name in ("report.html", "report.md"):
        assert nothing in world.text(name)


def test_a_fid_without_weights_says_why(world, table):
    assert one(table, "cmi")["fid_10000_test"] == 32.0  # 30, 32, 34
    text = world.text("report.md")
    notes = [line.split(r"\] ")[1] for line in text.splitlines() if line.startswith(r"- \[")]
    assert "| FID (n=10000, test)" in text and {"makes no images", NO_FID} <= set(notes)
    assert f"- KID x 1000 (n=10000, test): not available: {NO_FID}" in text


class TestNames:
    """A row's name, a reason and a note with every sign that some format reads as its own."""

    def test_html(self, world):
        text = world.text("report.html")
        page = Page(text)
        (row,) = [r for r in page.rows if any(c.startswith("91.00 ± 2.48") for c in r) and "3" in r]
        assert any(ODD in cell for cell in row)
        assert "Für & <alle>" in page.words and "adv_1 | <nan>" in page.words
        assert "<b>$x$" not in text and "<alle>" not in text and "<nan>" not in text and "<more>" not in text

    def test_markdown(self, world):
        name = r"größer_中文 &amp; 50% #1 \| &lt;b&gt;\$x\$"
        lines = [line for line in world.text("report.md").splitlines() if line.startswith("|")]
        (row,) = [line for line in lines if name in line and "91.00 ± 2.48" in line]
        heads = next(line for line in lines if "| method |" in line)
        columns = [text.replace(r"\|", "").count("|") for text in (row, heads)]
        assert columns[0] == columns[1]
        assert "<nan>" not in world.text("report.md") and r"adv_1 \| &lt;nan&gt;" in world.text("report.md")

    def test_latex(self, world):
        text = world.text("report.tex")
        name = (
            r"größer\_\dfkdchar{4E2D}\dfkdchar{6587} \& 50\% \#1 \textbar{} "
            r"\textless{}b\textgreater{}\$x\$"
        )
        lines = [line for line in text.splitlines() if name in line]
        (row,) = [line for line in lines if r"91.00 \ensuremath{\pm} 2.48" in line]
        assert row.endswith(r"\\")
        assert r"adv\_1 \textbar{} \textless{}nan\textgreater{}" in text

    def test_csv(self, world, table):
        assert one(table, ODD)["variant"] == ODD and one(table, ODD)["top1"] == 91.0
        tests = pd.read_csv(world.reports / "comparisons.csv")
        assert ODD in set(tests["row"]) | set(tests["against"])
        # the three trials of cmi under another name are compared with nothing
        assert one(table, "cmi again")["same_as"] == "cmi"
        assert "cmi" in set(tests["row"]) and "cmi again" not in set(tests["row"]) | set(tests["against"])


def test_provenance_counts_each_trial_once(world):
    text = world.text("report.md")
    line = next(each for each in text.splitlines() if "teacher resnet34 on cifar10" in each)
    assert f"{OLD}, 90.00 % top-1 (1 trial)" in line and f"{NEW}, 95.00 % top-1 (20 trials)" in line
