"""A headless Chromium for tests of pages, or the reason there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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


def watched(page: Page) -> list[str]:
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
