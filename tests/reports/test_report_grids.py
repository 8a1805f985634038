"""`dfkd report` on several grids, and on ten thousand trials."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from harness.grids import expand, load
from reports.page import page
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
BOTH = ("first", "second [2]")
#: of trials that the first one finished
DIGITS = GRID.format(tasks=("digits",), seeds=(0, 1, 2), note="n")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Iterator[Path]:
    """A store with two finished grids, whose own reports have no figures: what is drawn is another's test."""
    out = tmp_path_factory.mktemp("store")
    for name, tasks, note in (
        ("first", ("digits", "digits16"), "tuned <by hand>"),
        ("second [2]", ("mnist",), "as published"),
    ):
        (out / f"{name}.py").write_text(GRID.format(tasks=tasks, seeds=(0, 1, 2), note=note))
        populate(out, expand.remembered(load.load(out / f"{name}.py")), images=10, side=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "draw", lambda *_: iter(()))
        yield out


@pytest.fixture(scope="module")
def told(world, dfkd) -> Callable[..., tuple[list[str], str]]:
    """Run a command on grids of the store: what it prints, and the index that it leaves in Markdown."""

    def call(command: str, grids: Sequence[str], *more: object) -> tuple[list[str], str]:
        said = dfkd(command, *(world / f"{name}.py" for name in grids), "--out", world, *more)
        assert said.code == 0, said.err
        return said.out.splitlines(), (world / "reports" / "index.md").read_text("utf-8")

    return call


@pytest.mark.xdist_group("grids")
class TestSeveral:
    def test_each_gets_its_own_and_the_index_lists_them(self, told, world):
        out, marked = told("report", BOTH, "--format", "html,md,csv,tex")
        reports = world / "reports"
        kinds = {"html": "report.html", "md": "report.md", "csv": "report.csv", "tex": "report.tex"}
        files = kinds | {"verdicts": "verdicts.csv", "comparisons": "comparisons.csv"}
        assert set(out[:-2]) == {f"{k}: {reports / name / f}" for name in BOTH for k, f in files.items()}
        assert out[-2:] == [f"index: {reports / 'index.html'}", f"index: {reports / 'index.md'}"]
        assert all(Path(line.split(": ", 1)[1]).is_file() for line in out)

        text = (reports / "index.html").read_text("utf-8")
        shown = Page(text)
        asked = set(re.findall(r"https?://[^\s\"']+", text))
        assert asked <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
        assert "<script " not in text and "<by hand>" not in text
        links = [link for link in shown.links if not link.startswith(("data:", "#"))]
        assert len(links) == 12 and "second%20%5B2%5D/report.html" in links
        assert "15 of 15 trials done" in shown.words and "tuned <by hand>" in shown.words
        # best of each cell, and all three cells ranked together
        assert "Mean ranks over 3 cells" in shown.words and "Paired tests over all cells" in shown.words
        assert len(text) < 100_000

        assert text.count("<svg") == 1 and ">critical difference 1.91<" in text  # 2.343 sqrt(3 * 4 / (6 * 3))

        assert "](figures/ranks.svg)" in marked and (reports / "figures" / "ranks.svg").is_file()
        assert "[html](<second [2]/report.html>)" in marked and "## second \\[2\\]" in marked
        assert "| digits: wrn16_2 → wrn16_1, teacher file " in marked and "| 95.00 | 5 of 5 | 3 |" in marked

        # three seeds of three cells in two grids: nine pairs, which neither grid has
        compared = re.findall(r"\| (?:dafl|dfad|cpsc) \| (?:dafl|dfad|cpsc) \| (\d+) \| (\d+) \|", marked)
        assert compared == [("9", "3")] * 3

        _, again = told("report", BOTH, "--format", "html,md,csv,tex")
        assert again == marked and (reports / "index.html").read_text("utf-8") == text, "the same bytes again"

    def test_nothing_ran_yet(self, told, world):
        (world / "later.py").write_text(GRID.format(tasks=("cifar10",), seeds=(0,), note=""))
        _, marked = told("report", ("later", "first"), "--format", "csv,tex")
        assert "0 of 5 trials done, 5 missing" in marked and "0 of 5 | 0 | –" in marked  # noqa: RUF001

    def test_overrides_reach_every_grid(self, told, world):
        told("report", BOTH, "--format", "md", "--seeds", "0", "--methods", "cpsc,kd")
        for name in BOTH:
            text = (world / "reports" / name / "report.md").read_text("utf-8")
            assert "| cpsc" in text and "dfad" not in text and "(n=1)" in text

    @pytest.mark.parametrize("command", [("report",), ("run", "--no-mlflow")])
    def test_two_of_one_name(self, dfkd, world, tmp_path, command):
        (tmp_path / "first.py").write_text((world / "first.py").read_text())
        said = dfkd(*command, world / "first.py", tmp_path / "first.py", "--out", world)
        said.refuses("two grids are named first: OUT/reports/first can hold one of them at a time")

    def test_one_has_no_index(self, dfkd, world):
        (world / "reports" / "index.html").unlink(missing_ok=True)
        said = dfkd("report", world / "first.py", "--out", world, "--format", "csv")
        assert said.code == 0 and "index" not in said.out
        assert not (world / "reports" / "index.html").exists()

    def test_a_run_of_several_ends_in_the_index(self, dfkd, world):
        said = dfkd("run", *(world / f"{n}.py" for n in BOTH), "--out", world, "--no-mlflow", "--workers", 0)
        assert said.code == 0, said.err
        out = said.out.splitlines()
        reports = [line for line in out if line.startswith("report: ")]
        assert reports == [f"report: {world / 'reports' / name / 'report.html'}" for name in BOTH]
        assert out[-1] == f"index: {world / 'reports' / 'index.html'}"
        assert "30 done" in said.err and "15 done" in said.err  # nothing ran: every trial had its result

    def test_none_is_a_mistake(self, dfkd, world):
        said = dfkd("report", "--out", world)
        assert said.code == 2 and "Missing argument 'GRID'" in said.err

    def test_rows_of_one_name_and_two_methods_are_two_rows(self, told, world):
        for grid, method in (("own", "cpsc"), ("other", "dafl")):
            row = f"{{'mine': ('{method}', {{}}), 'dfad': ('dfad', {{}})}}"
            (world / f"{grid}.py").write_text(re.sub(r"variants=.*,", f"variants={row},", DIGITS))
        _, marked = told("report", ("own", "other"), "--format", "csv")
        assert "mine (cpsc)" in marked and "mine (dafl)" in marked and "dfad (" not in marked

    def test_the_index_compares_what_each_grid_compares(self, told, world):
        (world / "every.py").write_text(DIGITS)  # dafl, dfad and cpsc, every two of them
        (world / "one.py").write_text(DIGITS.replace("note=", "contrasts={'kd': 'noise'}, note="))
        _, marked = told("report", ("every", "one"), "--format", "csv")
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
from harness.cli.main import main
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
