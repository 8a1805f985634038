"""The report of stored trials as files: it asks for nothing, names stay words, the rest is linked."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from harness.errors import DfkdError
from reports.figures.places import Picture
from reports.figures.style import THEME
from reports.page import fit, page
from reports.tables import seeds
from tests.build import frame_rows
from tests.reports.golden import stored, write_digits
from tests.reports.pages import Page

pytestmark = pytest.mark.xdist_group("page")


class Written(NamedTuple):
    files: dict[str, Path]
    html: str
    md: str
    page: Page


@pytest.fixture(scope="module")
def written(digits_report) -> Written:
    html, md = (digits_report[kind].read_text("utf-8") for kind in ("html", "md"))
    return Written(digits_report, html, md, Page(html))


class TestPage:
    def test_asks_the_network_for_nothing(self, written):
        for link in written.page.links:
            assert link.startswith(("#", "data:")), link[:80]
        assert not re.search(r"@import|url\((?!#)", written.html)
        assert set(re.findall(r"https?://[^\s\"']+", written.html)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        # nothing but its own script and style may run, whatever a name in a table holds
        assert written.page.tags.count("script") == 1 and "<script>" in written.html
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', written.html)
        assert policy and policy[1].startswith("default-src 'none'; img-src data:; ")
        assert not re.search(r"\b(eval|Function|fetch|XMLHttpRequest|import)\b *\(|innerHTML", written.html)
        script = written.html[written.html.index("<script>") + 8 : written.html.index("</script>")]
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        assert f"script-src 'sha256-{digest}'" in policy[1], "the policy lets the page's script run"

    def test_ids_are_unique_and_links_lead_somewhere(self, written):
        ids = written.page.ids
        assert len(ids) == len(set(ids))
        assert {link[1:] for link in written.page.links if link.startswith("#")} <= set(ids)

    def test_strangers_words_stay_words(self, written):
        assert "cpsc - L_BN <β=0> | größer" in written.page.words
        assert "<β" not in written.html and "<ours>" not in written.html
        row = next(x for x in written.md.splitlines() if "größer" in x)
        assert r"cpsc - L_BN &lt;β=0&gt; \| größer" in row

    def test_pictures_take_the_pages_colours_and_nothing_moves(self, written):
        svgs = re.findall(r"<svg.*?</svg>", written.html, flags=re.DOTALL)
        # two curves and a sample grid of each of two tasks; bars and costs of one of them
        assert len(svgs) == 8
        for svg in svgs:
            assert not any(light in svg for light, _ in THEME.values())
        assert "var(--c0)" in svgs[0] and f"--c0:{THEME['c0'][1]}" in written.html
        assert not re.search("transition|animation|[^r]scroll-behavior", written.html)

    def test_markdown_shows_files_that_are_there(self, written):
        shown = re.findall(r"!\[.*?\]\((.*?)\)", written.md)
        assert len(shown) == 8
        assert all((written.files["md"].parent / name).is_file() for name in shown)

    def test_what_samples_show_and_what_is_left_out(self, written):
        svg = (written.files["md"].parent / "figures" / "samples-1.svg").read_text("utf-8")
        shown = ["dafl", "dfad", "cpsc", "cpsc - L_BN &lt;β=0&gt; | größer", "two teachers", "noise"]
        assert all(f">{label}</text>" in svg for label in shown)
        # class 3 never appears: it says so, once in each strip
        assert svg.count(">none</text>") >= len(shown)
        assert written.md.count("Stale results are left out: two teachers.") == 5  # of the first task alone

    def test_provenance_names_both_teacher_files(self, written):
        words = written.page.words
        assert "1f" * 32 + ", 99.11 % top-1 (1 trial)" in words and "9c" * 32 in words
        assert "0123456789ab" in words and "x86_64, 2 cores" in words and "2.9.0" in words

    def test_every_trial_is_in_the_plain_page(self, written):
        for row in stored("report_trials").itertuples():
            said = f"{row.top1:.2f}" if row.status == "done" else ""
            assert re.search(rf"<td>{said}[^<]*</td><td>{row.id}</td>", written.html), row.id

    def test_only_what_was_asked_for(self, tmp_path):
        assert list(write_digits(tmp_path, ("csv",))) == ["csv", "verdicts", "comparisons"]
        assert {p.name for p in tmp_path.iterdir()} == {"report.csv", "verdicts.csv", "comparisons.csv"}
        with pytest.raises(DfkdError, match=r"report format 'pdf'.*html"):
            write_digits(tmp_path, ("pdf",))

    def test_nothing_ran_yet(self, tmp_path):
        frame = stored("report_trials")
        files = write_digits(tmp_path, frame=frame[frame["status"] != "done"])
        assert "not run yet" in files["html"].read_text("utf-8")


def picture(name: str, body: str = "") -> Picture:
    svg = f'<?xml version="1.0"?>\n<svg width="100pt" height="50pt" viewBox="0 0 100 50">{body}</svg>'
    return Picture(name, "block", "", f"title of {name}", "caption", svg)


class TestFit:
    def test_in_the_pages_order_as_long_as_there_is_room(self):
        made = [picture(name, "<g/>" * n) for name, n in (("a", 20), ("b", 90), ("c", 20), ("d", 60))]
        every = fit.fit(made, 10**6)
        assert every[0].ratio == "100/50" and fit.said(every) == ""
        sizes = [len((each.svg or "").encode()) + 100 for each in every]

        def shown(room: int) -> str:
            return "".join(each.picture.name for each in fit.fit(made, room) if each.svg)

        assert shown(sum(sizes)) == "abcd" and shown(sum(sizes) - 1) == "abc"
        assert shown(sizes[0] + sizes[2] + 1) == "ac"  # b is too large for what a leaves
        assert shown(sizes[0]) == "a" and shown(0) == ""
        said = fit.said(fit.fit(made, 0))
        assert said.startswith("0 of 4 figures are shown") and len(said) < len(fit.SAYS_MOST)

    def test_the_page_stays_under_its_limit_and_links_the_rest(self, written, tmp_path, monkeypatch):
        limit = len(written.html.encode()) - 30_000
        monkeypatch.setattr(fit, "LIMIT", limit)
        text = write_digits(tmp_path, ("html",))["html"].read_text("utf-8")
        assert len(text.encode()) <= limit and "figures are shown" not in written.html
        files = {f"figures/{path.name}" for path in (tmp_path / "figures").iterdir()}
        for name in files:
            first = written.files["md"].parent / name
            assert (tmp_path / name).read_bytes() == first.read_bytes(), "the same input, the same bytes"
        assert files and files == {link for link in Page(text).links if link.startswith("figures/")}
        assert text.count("<svg") == 8 - len(files) and f"{8 - len(files)} of 8 figures are shown" in text

    def test_numbers_before_pictures_and_rows_before_trials(self, tmp_path, monkeypatch):
        monkeypatch.setattr(fit, "LIMIT", 1)
        monkeypatch.setattr(page, "draw", lambda *_: iter([picture("a")]))
        text = write_digits(tmp_path, ("html",))["html"].read_text("utf-8")
        assert "96.92" in text and "<svg" not in text and 'class="more"' not in text
        assert "Too many trials to list each on this page: <code>dfkd results GRID --csv</code>" in text


class TestSeeds:
    def test_what_is_shared_is_said_once_and_what_differs_beside_each_trial(self):
        frame = stored("report_trials")
        first, second = seeds.made(frame)
        assert first.trials + second.trials == len(frame)
        assert dict(first.facts)["commit"] == "0123456789ab" and "teacher file" not in dict(first.facts)
        assert first.rows[5].heads == ["seed", "top-1 (%)", "trial", "seconds"]
        assert dict(first.rows[5].facts) == {"teacher file": "9c" * 8}
        cpsc = (frame["task"] == "digits") & (frame["variant"] == "cpsc")
        frame.loc[cpsc & (frame["seed"] == 1), ["machine", "threads"]] = ["other", 4.0]
        row, usual = seeds.made(frame)[0].rows[5], ("x86_64, 2 cores", "1")
        assert row.heads == ["seed", "top-1 (%)", "trial", "seconds", "machine", "threads"]
        assert [line[4:] for line in row.lines] == [usual, ("other", "4"), usual]


def test_a_methods_first_row_in_full_and_what_differs_in_the_others():
    made = frame_rows(90.0, settings='{"a": 1, "b": "x"}', variant="full")
    made += frame_rows(80.0, settings='{"a": 0, "b": "x"}', variant="- a")
    made += frame_rows(80.0, settings='{"b": "x", "c": [1]}', variant="odd")
    made += frame_rows(80.0, settings='{"a": 1, "b": "x"}', variant="same")
    made += frame_rows(70.0, settings='{"a": 1, "b": "x"}', variant="full", task="mnist")
    assert page.settings(pd.DataFrame(made)) == [
        ("full", "cpsc", 'a = 1, b = "x"'),
        ("- a", "cpsc", "as full, but a = 0"),
        ("odd", "cpsc", "as full, but c = [1], no a"),
        ("same", "cpsc", "as full"),
    ]
