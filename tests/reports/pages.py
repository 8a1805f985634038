"""Pages for tests: what one holds, and a headless Chromium, or the reason there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Window

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Page(HTMLParser):
    """Everything a page refers to, its ids, its words, and the rows of its tables as texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.words = ""
        self._cells = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            if name in ("href", "xlink:href", "src", "srcset", "poster", "data", "action"):
                self.links.append(value)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._cells += 1

    def handle_endtag(self, tag: str) -> None:
        self._cells -= tag in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.words += data
        if self._cells:
            self.rows[-1][-1] += data


@contextmanager
def launched() -> Iterator[Browser]:
    """The system's own Chromium; nothing is downloaded. Skips where it or playwright is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install '.[dev]')")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no Chromium on PATH: {', '.join(NAMES)} (Debian: chromium)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


def watched(page: Window) -> list[str]:
    """What a page says on the console, throws or asks for besides itself: filled while it lives."""
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("requestfailed", lambda request: said.append(f"failed {request.url[:200]}"))
    page.on(
        "request",
        lambda request: request.url.startswith(("file:", "data:")) or said.append(f"asked {request.url}"),
    )
    return said
