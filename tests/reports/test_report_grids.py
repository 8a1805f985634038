"""`dfkd report` on several grids, and on ten thousand trials."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.cli import main
from harness.grids import expand, load
from tests.build import populate
from tests.reports.pages import Page, launched, watched

GRID = """
from harness.config import Budget, Grid
GRID = Grid(
    tasks={tasks}, pairs=(("wrn16_2", "wrn16_1"),), seeds={seeds},
    budget=Budget(amount=5000, unit="student_updates"),
    variants={{name: (name, {{}}) for name in ("kd", "noise", "dafl", "dfad", "cpsc")}}, note={note!r},
)
"""


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A store with two finished grids."""
    out = tmp_path_factory.mktemp("store")
    for name, tasks, note in (
        ("first", ("digits", "digits16"), "tuned <by hand>"),
        ("second [2]", ("mnist",), "as published"),
    ):
        (out / f"{name}.py").write_text(GRID.format(tasks=tasks, seeds=(0, 1, 2), note=note))
        populate(out, expand.remembered(load.load(out / f"{name}.py")), images=10, side=8)
    return out


@pytest.fixture
def dfkd(world, monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, list[str], str]:
        monkeypatch.setattr(sys, "argv", ["dfkd", *map(str, arguments), "--out", str(world)])
        with pytest.raises(SystemExit) as end:
            main.main()
        said = capsys.readouterr()
        return int(end.value.code or 0), said.out.splitlines(), said.err

    return call


class TestSeveral:
    def test_each_gets_its_own_and_the_index_lists_them(self, dfkd, world):
        code, out, err = dfkd(
            "report", world / "first.py", world / "second [2].py", "--format", "html,md,csv,tex"
        )
        assert code == 0, err
        reports = world / "reports"
        kinds = {"html": "report.html", "md": "report.md", "csv": "report.csv", "tex": "report.tex"}
        files = kinds | {"verdicts": "verdicts.csv", "comparisons": "comparisons.csv"}
        wanted = {f"{k}: {reports / name / f}" for name in ("first", "second [2]") for k, f in files.items()}
        assert set(out[:-2]) == wanted
        assert out[-2:] == [f"index: {reports / 'index.html'}", f"index: {reports / 'index.md'}"]
        assert all(Path(line.split(": ", 1)[1]).is_file() for line in out)

        text = (reports / "index.html").read_text("utf-8")
        page = Page(text)
        asked = set(re.findall(r"https?://[^\s\"']+", text))
        assert asked <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "<script " not in text and "<by hand>" not in text
        links = [link for link in page.links if not link.startswith(("data:", "#"))]
        assert len(links) == 12 and "second%20%5B2%5D/report.html" in links
        assert "15 of 15 trials done" in page.words and "tuned <by hand>" in page.words
        # best of each cell, and all three cells ranked together
        assert "Mean ranks over 3 cells" in page.words and "Paired tests over all cells" in page.words
        assert len(text) < 100_000

        assert text.count("<svg") == 1 and ">critical difference 1.91<" in text  # 2.343 sqrt(3 * 4 / (6 * 3))

        marked = (reports / "index.md").read_text("utf-8")
        assert "](figures/ranks.svg)" in marked and (reports / "figures" / "ranks.svg").is_file()
        assert "[html](<second [2]/report.html>)" in marked and "## second \\[2\\]" in marked
        assert "| digits: wrn16_2 → wrn16_1, teacher file " in marked and "| 95.00 | 5 of 5 | 3 |" in marked

    def test_nine_pairs_over_three_cells_are_tested(self, dfkd, world):
        # three seeds of three cells in two grids: nine pairs, which neither grid has
        dfkd("report", world / "first.py", world / "second [2].py", "--format", "csv")
        marked = (world / "reports" / "index.md").read_text("utf-8")
        rows = [
            line.split(" | ")
            for line in marked.splitlines()
            if re.match(r"\| (dafl|dfad|cpsc) \| (dafl|dfad|cpsc)", line)
        ]
        assert len(rows) == 3 and all(row[2:4] == ["9", "3"] for row in rows)

    def test_the_same_bytes_again(self, dfkd, world):
        index = world / "reports" / "index.html"
        dfkd("report", world / "first.py", world / "second [2].py", "--format", "csv")
        before = index.read_bytes()
        dfkd("report", world / "first.py", world / "second [2].py", "--format", "csv")
        assert index.read_bytes() == before

    def test_nothing_ran_yet(self, dfkd, world):
        (world / "later.py").write_text(GRID.format(tasks=("cifar10",), seeds=(0,), note=""))
        code, _, err = dfkd("report", world / "later.py", world / "first.py", "--format", "csv,tex")
        assert code == 0, err
        marked = (world / "reports" / "index.md").read_text("utf-8")
        assert "0 of 5 trials done, 5 missing" in marked and "0 of 5 | 0 | –" in marked  # noqa: RUF001

    def test_overrides_reach_every_grid(self, dfkd, world):
        code, _, err = dfkd(
            "report",
            world / "first.py",
            world / "second [2].py",
            "--format",
            "md",
            "--seeds",
            "0",
            "--methods",
            "cpsc,kd",
        )
        assert code == 0, err
        for name in ("first", "second [2]"):
            text = (world / "reports" / name / "report.md").read_text("utf-8")
            assert "| cpsc" in text and "dfad" not in text and "(n=1)" in text

    def test_two_of_one_name(self, dfkd, world, tmp_path):
        (tmp_path / "first.py").write_text((world / "first.py").read_text())
        code, out, err = dfkd("report", world / "first.py", tmp_path / "first.py")
        assert code and not out
        assert "two grids are named first: OUT/reports/first can hold one of them at a time" in err.replace(
            "\n", " "
        )

    def test_one_has_no_index(self, dfkd, world):
        (world / "reports" / "index.html").unlink(missing_ok=True)
        code, out, _ = dfkd("report", world / "first.py", "--format", "csv")
        assert code == 0 and not any(line.startswith("index") for line in out)
        assert not (world / "reports" / "index.html").exists()

    def test_a_run_of_several_ends_in_the_index(self, dfkd, world):
        both = (world / "first.py", world / "second [2].py")
        code, out, err = dfkd("run", *both, "--no-mlflow", "--workers", 0)
        assert code == 0, err
        reports = [line for line in out if line.startswith("report: ")]
        wanted = [f"report: {world / 'reports' / name / 'report.html'}" for name in ("first", "second [2]")]
        assert reports == wanted and out[-1] == f"index: {world / 'reports' / 'index.html'}"
        assert "30 done" in err and "15 done" in err  # nothing ran: every trial had its result

    def test_a_run_refuses_two_of_one_name_before_it_begins(self, dfkd, world, tmp_path):
        (tmp_path / "first.py").write_text((world / "first.py").read_text())
        code, out, err = dfkd("run", world / "first.py", tmp_path / "first.py", "--no-mlflow")
        assert code and not out and "two grids are named first" in err

    def test_none_is_a_mistake(self, dfkd):
        code, _, err = dfkd("report")
        assert code == 2 and "Missing argument 'GRID'" in err


def test_rows_of_one_name_and_two_methods_are_two_rows(world, dfkd):
    text = GRID.format(tasks=("digits",), seeds=(0, 1, 2), note="n")  # trials that the first grid finished
    for grid, method in (("own", "cpsc"), ("other", "dafl")):
        row = f"{{'mine': ('{method}', {{}}), 'dfad': ('dfad', {{}})}}"
        (world / f"{grid}.py").write_text(re.sub(r"variants=.*,", f"variants={row},", text))
    dfkd("report", world / "own.py", world / "other.py", "--format", "csv")
    marked = (world / "reports" / "index.md").read_text("utf-8")
    assert "mine (cpsc)" in marked and "mine (dafl)" in marked and "dfad (" not in marked


def test_the_index_compares_what_each_grid_compares(world, dfkd):
    text = GRID.format(tasks=("digits",), seeds=(0, 1, 2), note="n")  # trials that the first grid finished
    (world / "every.py").write_text(text)  # dafl, dfad and cpsc, every two of them
    (world / "one.py").write_text(text.replace("note=", "contrasts={'kd': 'noise'}, note="))
    dfkd("report", world / "every.py", world / "one.py", "--format", "csv")
    marked = (world / "reports" / "index.md").read_text("utf-8")
    assert "4 comparisons: not testable at n = 3" in marked  # three of the one, one of the other


BIG = """
from harness.config import Budget, Grid
GRID = Grid(
    tasks=("cifar10", "cifar100", "mnist", "digits", "digits16"),
    pairs=(("resnet34", "resnet18"), ("vgg11", "resnet18"), ("wrn40_2", "wrn16_1"), ("wrn40_2", "wrn16_2")),
    variants={{m: (m, {{}}) for m in "scratch kd noise untrained dafl dfad zskt cmi fast cpsc".split()}},
    seeds=range({seeds}), budget=Budget(amount=5000, unit="student_updates"),
)
"""
MEASURED = """
import resource, sys
from harness.cli import main
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def measure(*words: object) -> tuple[float, int]:
    """Seconds of a processor that ``dfkd`` takes with these words, and its largest memory in bytes.

    Of a processor: whatever else runs on the machine is not the report's.
    """
    command = [sys.executable, "-c", MEASURED, *map(str, words)]
    before, began = os.times(), time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True)
    took = os.times()
    assert done.returncode == 0, done.stderr
    seconds = took.children_user + took.children_system - before.children_user - before.children_system
    peak = int(done.stdout.split("peak ")[1])
    print(f"{seconds:.0f} s of a processor, {time.monotonic() - began:.0f} s in all, {peak / 2**20:.0f} MiB")
    return seconds, peak


def big(out: Path, name: str, seeds: int, **files: int) -> int:
    """Write a grid of 200 trials a seed, and finish those that are not."""
    (out / f"{name}.py").write_text(BIG.format(seeds=seeds))
    trials = expand.remembered(load.load(out / f"{name}.py"))
    populate(out, [t for t in trials if not (out / "trials" / t.id).exists()], **files)
    return len(trials)


@pytest.fixture(scope="module")
def ten_thousand(tmp_path_factory) -> tuple[Path, float, int]:
    """Folder of the report over 10,000 trials with 32 x 32 images, seconds of a processor, peak bytes."""
    out = tmp_path_factory.mktemp("big")
    assert big(out, "big", 50) == 10_000
    seconds, peak = measure("report", out / "big.py", "--out", out, "--format", "html,md,tex,csv")
    shutil.rmtree(out / "trials")
    return out / "reports" / "big", seconds, peak


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.xdist_group("big")
class TestTenThousand:
    """Every format, 100 points and five loss terms a curve; the figures of 20 pairs are most of the time."""

    def test_a_minute_and_two_gigabytes(self, ten_thousand):
        folder, seconds, peak = ten_thousand
        assert seconds < 60 and peak < 2 * 2**30
        assert "10000 of 10000 trials done" in (folder / "report.md").read_text("utf-8")

    def test_the_page_stays_under_eight_megabytes(self, ten_thousand):
        folder, _, _ = ten_thousand
        page = folder / "report.html"
        print(f"{page.stat().st_size / 1e6:.2f} MB")
        assert page.stat().st_size < 8e6
        text = page.read_text("utf-8")
        # every trial is there with its top-1, and every picture, or where it lies
        assert len(set(re.findall(r"</td><td>([0-9a-f]{12})</td>", text))) == 10_000
        files = {f"figures/{path.name}" for path in (folder / "figures").glob("*.svg")}
        assert text.count("<figure>") == len(files)
        assert {link for link in Page(text).links if not link.startswith(("#", "data:"))} <= files

    @pytest.mark.browser
    def test_interactive_in_two_seconds(self, ten_thousand):
        folder, _, _ = ten_thousand
        with launched() as browser:
            window = browser.new_page(viewport={"width": 1280, "height": 900})
            said = watched(window)
            began = time.monotonic()
            window.goto((folder / "report.html").as_uri())
            window.locator("thead button").nth(2).click()
            assert window.locator("th[aria-sort=ascending]").count() == 1
            seconds = time.monotonic() - began
            window.get_by_label("Filter rows").fill("cpsc")
            answer = window.locator(".filter output").inner_text()
            filtered = time.monotonic() - began - seconds
            window.locator("a.more:visible").first.hover()
            window.locator("#card").wait_for()
            assert window.locator("#card td").count() >= 50 * 4
        print(f"sorted {seconds:.2f} s after the page was asked for, filtered in {filtered:.2f} s: {answer}")
        assert seconds < 2 and filtered < 2 and not said


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_runs_of_mlflow_too(tmp_path):
    """The same minute and 2 GiB from MLflow, the same bytes as from the store; writing takes 25 minutes.

    A line through fewer runs says nothing: its slope is within the noise of a machine.
    """
    assert big(tmp_path, "large", 50, images=10, side=8) == 10_000
    measure("sync", tmp_path / "large.py", "--out", tmp_path)
    words = ("report", tmp_path / "large.py", "--out", tmp_path, "--format", "html,md,tex,csv")
    found = []
    for source in ("mlflow", "store"):
        seconds, peak = measure(*words, "--from", source)
        assert seconds < 60 and peak < 2 * 2**30, source
        made = tmp_path / "reports" / "large"
        found.append({file.name: file.read_bytes() for file in made.iterdir() if file.is_file()})
    assert found[0] == found[1]
