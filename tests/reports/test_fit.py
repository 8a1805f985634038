"""Drawings inside the page: the same picture in fewer bytes, and never more bytes than there is room."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from reports.figures import canvas
from reports.figures import svg as figures_svg
from reports.figures.places import Picture
from reports.figures.samples import Strip, sample_grid
from reports.page import fit, page
from reports.tables import seeds
from tests.reports.test_reports import images, stored


def picture(name: str, body: str = "", width: int = 100) -> Picture:
    svg = f'<?xml version="1.0"?>\n<svg width="100pt" height="50pt" viewBox="0 0 {width} 50">{body}</svg>'
    return Picture(name, "block", "", f"title of {name}", "caption", svg)


def grid(side: int, grey: bool, colours: int = 256) -> Picture:
    """A sample grid of random images."""
    rng = np.random.default_rng(0)
    tiles = [
        [rng.integers(0, colours, (1 if grey else 3, side, side)).astype(np.uint8) for _ in range(2)]
        for _ in range(10)
    ]
    figure = sample_grid([Strip("cpsc", "", tiles)], list(range(10)), 2)
    return Picture("samples-1", "block", "", "Samples", "", canvas.svg(figure, "samples-1"))


def pixels(svg: str) -> np.ndarray:
    (data,) = re.findall(r"data:image/\w+;base64,([^\"]*)", svg)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def points(d: str) -> list[tuple[str, float, float]]:
    """(letter, x, y) of every pair of a path, absolute: the reading of SVG 1.1, 8.3."""
    found, at, start = [], (0.0, 0.0), (0.0, 0.0)
    for letter, rest in re.findall(r"([A-Za-z])([^A-Za-z]*)", d):
        if letter == "z":
            at = start
        numbers = [float(v) for v in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", rest)]
        base = at if letter.islower() else (0.0, 0.0)
        for x, y in zip(numbers[::2], numbers[1::2], strict=True):
            at = (base[0] + x, base[1] + y)
            found.append((letter.upper(), *at))
        if letter == "M":
            start = at
    return found


class TestPath:
    @pytest.mark.parametrize(
        ("d", "short"),
        [
            ("M 1.234567 2 \nL 1.5 -0.004 \nL 1.5 0 ", "M1.23 2l.27-2l0 0"),
            ("M 10 20 \nC 11 20 12 21 12.5 22 \nz", "M10 20c1 0 2 1 2.5 2z"),
            ("M 0 0 \nL 1 1 \nz \nM 5 5 \nL 6 5.1 ", "M0 0l1 1zM5 5l1 .1"),
            ("M 100 -0 \nQ 90 0.05 -100 7.999", "M100 0q-10 .05-200 8"),
            ("M0 0 H 5", "M0 0 H 5"),  # nobody here writes H: left alone
        ],
    )
    def test_by_hand(self, d, short):
        assert figures_svg.path(d) == short

    def test_errors_do_not_add_up(self):
        rng = np.random.default_rng(0)
        walk = np.cumsum(rng.normal(0, 0.3, (2000, 2)), axis=0)
        d = "M " + " \nL ".join(f"{x:.6f} {y:.6f}" for x, y in walk)
        got = np.array([(x, y) for _, x, y in points(figures_svg.path(d))])
        assert np.abs(got - walk).max() < 0.00501
        assert len(figures_svg.path(d)) < 0.6 * len(d)


class TestColours:
    def test_fewer_are_close_and_much_smaller(self):
        whole = grid(32, grey=False)
        small = fit.coarse(whole.svg)
        assert len(small) < 0.4 * len(whole.svg)  # of noise, which nothing compresses
        before, after = pixels(whole.svg).astype(float), pixels(small).astype(float)
        seen = before[..., 3] == 255
        assert np.corrcoef(before[seen][:, :3].mean(1), after[seen][:, :3].mean(1))[0, 1] > 0.8


def shown(drawings: Sequence[fit.Drawing]) -> list[str]:
    return [drawing.picture.name for drawing in drawings if drawing.svg]


class TestFit:
    def test_room_for_all(self):
        (drawing,) = fit.fit([picture("a", "<g/>")], 1000)
        assert drawing.whole and drawing.ratio == "100/50"
        assert fit.said([drawing]) == ""

    def test_the_largest_go_first_and_of_equals_the_last(self):
        made = [picture(name, "<!---->" * n) for name, n in (("a", 20), ("b", 90), ("c", 20), ("d", 60))]
        sizes = {d.picture.name: len(d.svg) + 100 for d in fit.fit(made, 10**6)}
        total = sum(sizes.values())
        assert shown(fit.fit(made, total)) == ["a", "b", "c", "d"]
        assert shown(fit.fit(made, total - 1)) == ["a", "c", "d"]
        assert shown(fit.fit(made, sizes["a"] + sizes["c"] + 1)) == ["a", "c"]
        assert shown(fit.fit(made, sizes["a"])) == ["a"]
        left = fit.fit(made, 0)
        assert shown(left) == [] and not any(drawing.whole for drawing in left)
        assert fit.said(left).endswith("0 of 4 figures shown; the largest are files in figures/.")

    def test_samples_lose_colours_before_anything_is_left_out(self):
        made = [grid(32, grey=False), picture("curves", "<g/>" * 10)]
        whole = sum(len(d.svg) + 100 for d in fit.fit(made, 10**7))
        samples, curves = fit.fit(made, whole - 1)
        assert samples.svg and not samples.exact and curves.whole
        assert fit.said([samples, curves]).endswith(
            ": 1 figure with fewer colours than the exact ones in figures/."
        )
        assert len(fit.said([samples, curves])) < len(fit.SAYS_MOST)


def written(folder: Path) -> str:
    files = page.write("g", "", stored("trials"), stored("curves"), images, folder, ("html",))
    return files["html"].read_text("utf-8")


class TestPage:
    def test_whatever_is_drawn_the_page_stays_under_its_limit(self, tmp_path, monkeypatch):
        whole = written(tmp_path / "whole")
        assert not (tmp_path / "whole" / "figures").exists() and "To keep this page" not in whole
        limit = len(whole.encode()) - 30_000
        monkeypatch.setattr(fit, "LIMIT", limit)
        text = written(tmp_path)
        assert limit - 60_000 < len(text.encode()) <= limit
        files = {path.name for path in (tmp_path / "figures").iterdir()}
        assert files and {f'href="figures/{name}"' for name in files} <= set(
            re.findall(r'href="[^"]*"', text)
        )
        assert whole.count("<svg") == 8  # of each of two places bars, two curves and samples
        assert text.count("<svg") == 8 - text.count("Not on this page, for its size: ") < 8
        assert "of 8 figures shown" in text

    def test_many_pictures_with_fewer_colours_are_counted_with_their_words(self, tmp_path, monkeypatch):
        few = picture("x", "<g/>")
        made = [
            dataclasses.replace(few, name=f"curves-{i}", block="digits: wrn16_2 → wrn16_1")
            for i in range(300)
        ]
        monkeypatch.setattr(page, "draw", lambda *_: iter(made))
        monkeypatch.setattr(fit, "DATA", re.compile("<g/>()"))  # as if each held samples
        monkeypatch.setattr(fit, "_coarse", lambda found: "<g>")
        whole = len(written(tmp_path).encode())
        monkeypatch.setattr(fit, "LIMIT", whole)
        text = written(tmp_path)
        assert "Fewer colours than in" in text and len(text.encode()) <= whole

    def test_numbers_before_pictures_and_rows_before_trials(self, tmp_path, monkeypatch):
        monkeypatch.setattr(fit, "LIMIT", 1)
        text = written(tmp_path)
        assert "96.92" in text and "<svg" not in text and 'class="more"' not in text
        assert "Too many trials to list each on this page: <code>dfkd results GRID --csv</code>" in text


class TestSeeds:
    def test_what_is_shared_is_said_once(self):
        frame = stored("trials")
        first, second = seeds.made(frame)
        assert first.trials + second.trials == len(frame)
        assert dict(first.facts)["commit"] == "0123456789ab" and "teacher file" not in dict(first.facts)
        cpsc = first.rows[5]
        assert cpsc.heads == ["seed", "top-1 (%)", "trial", "seconds"]
        assert dict(cpsc.facts) == {"teacher file": "9c" * 8}

    def test_what_differs_stands_beside_each_trial(self):
        frame = stored("trials")
        cpsc = (frame["task"] == "digits") & (frame["variant"] == "cpsc")
        frame.loc[cpsc & (frame["seed"] == 1), ["machine", "threads"]] = ["other", 4.0]
        row = seeds.made(frame)[0].rows[5]
        assert row.heads == ["seed", "top-1 (%)", "trial", "seconds", "machine", "threads"]
        assert [line[4:] for line in row.lines] == [
            ("x86_64, 2 cores", "1"),
            ("other", "4"),
            ("x86_64, 2 cores", "1"),
        ]

    def test_all_numbers_are_in_the_plain_page(self, tmp_path):
        frame = stored("trials")
        text = written(tmp_path)
        for row in frame.itertuples():
            said = f"{row.top1:.2f}" if row.status == "done" else ""
            assert re.search(rf"<td>{said}[^<]*</td><td>{row.id}</td>", text), row.id
