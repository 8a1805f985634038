"""The page in a browser: sorting, filter, cards, phone, dark, print, and without JavaScript."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from reports.figures.style import THEME
from reports.page import page
from reports.tables.model import DASH, Head, Line, Table
from tests.reports.golden import stored
from tests.reports.pages import launched, watched

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("page")]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as found:
        yield found


@pytest.fixture(scope="module")
def files(tmp_path_factory, digits_report) -> dict[str, Path]:
    """The report of the stored trials, and a page with one table that is easily sorted by hand."""
    heads = [Head("row", words=True), Head("value", "a number"), Head("n"), Head("p")]
    rows = [
        ("b 10", "96.81 ± 1.96 (n=3)", "3", "not testable at n = 1"),
        ("a", DASH, "2 of 3 ran", "0.04"),
        ("b 9", "1,234", "3", "<0.001"),
        ("c", "-2.5", "3", DASH),
        ("d", "+0.5", "1", "0.004"),
        ("e", "", "2", "0.5"),
    ]
    tables = [Table("Hand made", [], heads, [Line(row) for row in rows]), Table("None", [], heads)]
    words = {"grids": [], "across": tables, "pictures": []}
    small = tmp_path_factory.mktemp("page") / "small.html"
    small.write_text(page.render("index.html.j2", words), encoding="utf-8")
    return {"report": digits_report["html"], "small": small}


@pytest.fixture
def opened(browser, files) -> Iterator[Any]:
    """Open a file in a window of its own; at the end nothing was said on the console or asked for."""
    contexts, said = [], []

    def go(name: str = "report", **options: Any) -> Any:
        options = {"viewport": {"width": 1280, "height": 900}} | options
        contexts.append(browser.new_context(**options))
        contexts[-1].set_default_timeout(5000)
        window = contexts[-1].new_page()
        said.append(watched(window))
        window.goto(files[name].as_uri())
        return window

    yield go
    for context in contexts:
        context.close()
    assert not any(said), said


def column(window: Any, number: int, rows: str = "table.sort >> nth=0 >> tbody tr") -> list[str]:
    return [row.locator(">*").nth(number).inner_text() for row in window.locator(rows).all()]


class TestSort:
    @pytest.mark.parametrize(
        ("head", "up", "down"),
        [
            ("value", "c d b10 b9 a e", "b9 b10 d c a e"),  # a dash and nothing come last both ways
            ("n", "d a e b10 b9 c", "b10 b9 c a e d"),  # "2 of 3 ran" is 2; equal ones keep their order
            ("row", "a b9 b10 c d e", "e d c b10 b9 a"),  # words, with their numbers by value
            ("p", "b9 d a e b10 c", "e a d b9 b10 c"),
        ],
    )
    def test_by_hand(self, opened, head, up, down):
        window = opened("small")
        button = window.get_by_role("button", name=head, exact=True)
        cell = window.locator("th", has=button)
        for order, said in ((up, "ascending"), (down, "descending"), ("b10 a b9 c d e", None)):
            button.click()
            assert [name.replace(" ", "") for name in column(window, 0)] == order.split()
            assert cell.get_attribute("aria-sort") == said

    def test_one_column_at_a_time_and_by_keyboard(self, opened):
        window = opened("small")
        window.get_by_role("button", name="n", exact=True).click()
        value = window.get_by_role("button", name="value", exact=True)
        assert value.get_attribute("title") == "a number"
        value.focus()
        window.keyboard.press("Enter")
        sorted_by = window.locator("th[aria-sort]")
        assert sorted_by.count() == 1 and "value" in sorted_by.inner_text()
        window.keyboard.press("Tab")
        window.keyboard.press("Space")
        assert "n" in sorted_by.inner_text() and sorted_by.get_attribute("aria-sort") == "ascending"

    def test_top1_of_the_report(self, opened):
        window = opened()
        before = column(window, 2)
        button = window.locator("table.sort").first.get_by_role("button", name=re.compile("top-1"))
        for reverse in (False, True):
            button.click()
            texts = column(window, 2)
            assert sorted(texts) == sorted(before)
            numbers = [float(found[0]) for t in texts if (found := re.match(r"[\d.]+", t))]
            assert len(numbers) > 5 and numbers == sorted(numbers, reverse=reverse)
            # rows without a result say so, last
            assert not any(re.match(r"[\d.]+", t) for t in texts[len(numbers) :])


class TestFilter:
    def test_narrows_all_tables_and_counts(self, opened):
        window = opened()
        rows, answer = window.locator("table.sort tbody tr"), window.locator(".filter output")
        everything = rows.count()
        assert answer.inner_text() == f"{everything} rows"
        window.get_by_label("Filter rows").fill("CPSC größer")
        texts = [row.inner_text() for row in rows.all() if row.is_visible()]
        assert texts and all("größer" in text for text in texts)
        assert answer.inner_text() == f"{len(texts)} of {everything} rows shown"
        window.get_by_label("Filter rows").fill("mnist")  # in a table's title
        assert not window.locator("#b1").is_visible() and window.locator("#b2 tbody tr").first.is_visible()
        assert not window.locator("nav a[href='#b1']").is_visible()
        window.get_by_label("Filter rows").fill("")
        assert all(row.is_visible() for row in rows.all()) and window.locator("#b1").is_visible()

    def test_nothing_fits(self, opened):
        window = opened("small")
        window.get_by_label("Filter rows").fill("no such row")
        assert window.locator(".filter output").inner_text() == "0 of 6 rows shown"
        assert not window.get_by_role("heading", name="Hand made").is_visible()
        window.emulate_media(media="print")  # paper has no filter: it shows all
        assert window.get_by_role("heading", name="Hand made").is_visible()


def shows_seeds(card: Any) -> None:
    """The card of the first cpsc row holds what the stored frame says of it."""
    frame = stored("report_trials")
    rows = frame[(frame["task"] == "digits") & (frame["variant"] == "cpsc")]
    text = card.inner_text()
    assert len(rows) == 3
    for row in rows.itertuples():
        assert row.id in text and f"{row.top1:.2f}" in text and f"{row.seconds:.0f}" in text
    for fact in ("commit", "torch", "python", "machine", "device", "threads", "teacher file"):
        assert fact in text
    for value in ("0123456789ab", "2.9.0", "3.12.3", "x86_64, 2 cores", "9c" * 8):
        assert value in text


class TestCard:
    def test_the_mouse(self, opened):
        window = opened()
        link, card = window.locator("#b1 a.more", has_text=re.compile("^cpsc$")), window.locator("#card")
        link.hover()
        card.wait_for()
        shows_seeds(card)
        box = card.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 1280 and box["y"] + box["height"] <= 900
        card.hover()  # it stays while the mouse is on it
        window.wait_for_timeout(400)
        assert card.is_visible()
        window.mouse.move(1270, 5)
        card.wait_for(state="hidden")

    def test_the_keyboard(self, opened):
        window = opened()
        link, card = window.locator("#b1 a.more", has_text=re.compile("^cpsc$")), window.locator("#card")
        window.keyboard.press("Tab")  # from now on focus is the keyboard's
        link.focus()
        card.wait_for()
        shows_seeds(card)
        assert link.get_attribute("aria-expanded") == "true"
        window.keyboard.press("Escape")
        assert card.is_hidden() and link.get_attribute("aria-expanded") == "false"
        assert link.evaluate("each => each === document.activeElement")
        window.keyboard.press("Enter")
        assert card.is_visible()
        window.keyboard.press("Tab")
        assert card.evaluate("each => each === document.activeElement")
        window.keyboard.press("Escape")
        assert card.is_hidden() and link.evaluate("each => each === document.activeElement")
        window.keyboard.press("Space")
        assert card.is_visible()
        for _ in range(3):  # the card, its button, the next name
            window.keyboard.press("Tab")
        assert card.get_attribute("aria-label") == "Seeds and provenance of cpsc - L_BN <β=0> | größer"

    def test_a_finger(self, opened):
        window = opened(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
        link, card = window.locator("#b1 a.more", has_text=re.compile("^cpsc$")), window.locator("#card")
        link.tap()
        shows_seeds(card)
        box = card.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        card.get_by_role("button", name="Close").tap()
        assert card.is_hidden()
        link.tap()
        assert card.is_visible()
        window.locator("h1").tap()
        assert card.is_hidden()

    def test_a_row_that_failed_says_so(self, opened):
        window = opened()
        window.locator("#b1 a.more", has_text=re.compile("^dfad$")).click()
        assert "failed: loss of 'G' is not finite in round 31: bn" in window.locator("#card").inner_text()


class TestLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("name", ["report", "small"])
    def test_a_phone(self, opened, scheme, name):
        window = opened(
            name, viewport={"width": 390, "height": 844}, is_mobile=True, has_touch=True, color_scheme=scheme
        )
        width, seen = window.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width == seen == 390
        hexed = THEME["paper"][scheme == "dark"], THEME["ink"][scheme == "dark"]
        wanted = [f"rgb({', '.join(str(int(h[i : i + 2], 16)) for i in (1, 3, 5))})" for h in hexed]
        style = "getComputedStyle(document.body)"
        assert window.evaluate(f"[{style}.backgroundColor, {style}.color]") == wanted

    def test_pictures_load(self, opened):
        window = opened()
        found = window.evaluate(
            """() => Promise.all([...document.querySelectorAll("svg image, img")].map(async (each) => {
                const image = new Image();
                image.src = each.href.baseVal;
                await image.decode();
                return image.naturalWidth * each.getBoundingClientRect().width;
            }))"""
        )
        assert len(found) == 9 and all(found)  # strips of samples: six methods on digits, three on mnist
        assert all(svg.bounding_box()["height"] > 100 for svg in window.locator("svg").all())

    def test_paper(self, opened):
        window = opened(color_scheme="dark")
        window.locator("#b1 a.more").first.click()
        window.emulate_media(media="print")
        for control in (".filter", "#card", "nav"):
            assert window.locator(control).is_hidden()
        content = "getComputedStyle(document.querySelector('thead button'), '::after').content"
        assert window.evaluate(content) == "none"
        seeds = window.locator("#trials .seeds").first
        assert seeds.is_visible() and seeds.bounding_box()["height"] > 20
        assert window.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert window.pdf(prefer_css_page_size=True).startswith(b"%PDF")

    def test_without_javascript(self, opened):
        window = opened(java_script_enabled=False)
        assert window.locator(".filter").is_hidden() and window.locator("thead button").count() == 0
        group = window.locator("#b1-r1")
        assert not group.is_visible()
        window.locator("#b1 a.more").first.click()  # a link to what the card would show
        assert group.is_visible() and "top-1 (%)" in group.inner_text()
