"""A cache of its own for each test, a web server on this machine, a user's folder of pictures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DFKD_DATA_ROOT", raising=False)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """A web server on this machine alone: its address and folder."""
    served = tmp_path / "served"
    served.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(served))) as web:
        thread = threading.Thread(target=web.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", served
        web.shutdown()


def paint(
    path: Path, size: tuple[int, int] = (16, 16), colour: Any = (200, 100, 50), mode: str = "RGB"
) -> Path:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Two classes, three training images and one test image each; red for cats, blue for dogs."""
    root = tmp_path / "own"
    for label, colour in (("dog", (0, 0, 255)), ("cat", (255, 0, 0))):
        for i in range(3):
            paint(root / "train" / label / f"{i}.png", colour=colour)
        paint(root / "test" / label / "x.PNG", colour=colour)
    return root
