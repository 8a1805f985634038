"""How every picture looks: colours that differ for all eyes, and the same drawing in fewer bytes."""

from __future__ import annotations

import base64
import io
import re
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from reports.figures import canvas
from reports.figures.bars import Bar, bars
from reports.figures.style import THEME, styles
from reports.figures.svg import path, smaller
from reports.numbers.stats import interval


def linear(colour: str) -> np.ndarray:
    """Linear RGB of a colour in hex (IEC 61966-2-1)."""
    s = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)


class TestStyles:
    def test_a_row_looks_the_same_everywhere(self):
        rows = {"scratch": ("scratch", "reference"), "kd": ("kd", "reference"), "noise": ("noise", "control")}
        rows |= {f"m{i}": (f"m{i}", "method") for i in range(15)}
        found = styles(rows)
        assert list(found) == list(rows)
        assert len(set(found.values())) == len(rows)
        assert found["scratch"].dash and found["kd"].dash and not found["m0"].dash
        greys = {THEME["r0"][0], THEME["r1"][0]}
        assert {n for n, style in found.items() if style.colour in greys} == {"scratch", "kd"}
        brown = THEME["c5"][0]
        assert {n for n, style in found.items() if style.colour == brown} == {"noise"}
        assert found["noise"].dash

    def test_a_method_looks_the_same_in_every_report(self):
        few = styles({"kd": ("kd", "reference"), "cpsc": ("cpsc", "method"), "fast": ("fast", "method")})
        names = ("fast k=2", "fast k=5", "mine", "cpsc released", "cpsc")
        many = styles({name: (name.split()[0], "method") for name in names})
        assert few["cpsc"] == many["cpsc"] and few["fast"] == many["fast k=2"]
        assert len({style.colour for style in many.values()}) == 5
        assert styles({"- bn": ("cpsc", "method")})["- bn"] == few["cpsc"]

    def test_variants_of_one_method_have_different_hues(self):
        names = [f"cpsc {i}" for i in range(20)]
        found = list(styles({name: ("cpsc", "method") for name in names}).values())
        assert len(set(found)) == 20
        assert all(a.colour != b.colour for a, b in pairwise(found))

    @pytest.mark.parametrize("theme", [0, 1])
    @pytest.mark.parametrize("paper", ["paper", "shade"])
    def test_words_stand_out(self, paper, theme):
        # WCAG 2.2, 1.4.3: relative luminance, then (lighter + 0.05) / (darker + 0.05), 4.5 for text
        def luminance(name: str) -> float:
            return float(linear(THEME[name][theme]) @ [0.2126, 0.7152, 0.0722])

        for name in ("ink", "muted", "accent", "warn"):
            dark, light = sorted((luminance(name), luminance(paper)))
            assert (light + 0.05) / (dark + 0.05) >= 4.5, name

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
            x, y, z = np.cbrt(to_xyz @ np.clip(eye @ linear(hex_), 0, 1) / [0.9505, 1, 1.089])
            return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])

        hues = [THEME[f"c{i}"][theme] for i in range(8)]
        for eye in eyes.values():
            seen = [lab(hue, np.reshape(eye, (3, 3))) for hue in hues]
            assert min(np.linalg.norm(a - b) for i, a in enumerate(seen) for b in seen[:i]) > 14


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
        assert path(d) == short

    def test_errors_do_not_add_up(self):
        rng = np.random.default_rng(0)
        walk = np.cumsum(rng.normal(0, 0.3, (2000, 2)), axis=0)
        d = "M " + " \nL ".join(f"{x:.6f} {y:.6f}" for x, y in walk)
        got = np.array([(x, y) for _, x, y in points(path(d))])
        assert np.abs(got - walk).max() < 0.00501
        assert len(path(d)) < 0.6 * len(d)


class TestSmaller:
    def test_a_picture_of_few_colours_keeps_every_one(self):
        pixels = np.zeros((9, 11, 4), np.uint8)
        pixels[..., 0], pixels[..., 3] = np.arange(99).reshape(9, 11), 255
        pixels[0, 0, 3] = 70
        got = self.back(pixels)
        assert np.array_equal(got, pixels)

    @pytest.mark.parametrize("zoom", [1, 2, 5])
    def test_a_picture_of_many_colours_keeps_every_one_once(self, zoom):
        rng = np.random.default_rng(0)
        pixels = rng.integers(0, 256, (32, 34, 4)).astype(np.uint8)
        pixels[:, :4] = 0  # nothing at all
        got = self.back(pixels.repeat(zoom, axis=0).repeat(zoom, axis=1))
        assert np.array_equal(got, pixels)  # whoever shows the drawing enlarges without smoothing

    def back(self, pixels: np.ndarray) -> np.ndarray:
        buffer = io.BytesIO()
        Image.fromarray(pixels, "RGBA").save(buffer, "png")
        packed = base64.b64encode(buffer.getvalue()).decode()
        text = smaller(f'<svg><image href="data:image/png;base64,{packed}"/></svg>')
        encoded = re.findall(r"base64,([^\"]+)", text)[0]
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))

    def test_what_is_referred_to_stays(self):
        rows = [Bar("a", "control", interval([50.0, 60.0]), (50.0, 60.0))] * 2
        text = canvas.svg(bars(rows, styles({"a": ("a", "control")}), 99.0, 10.0), "x")
        ids = re.findall(r' id="([^"]+)"', text)
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
        assert used and used == set(ids) and len(ids) == len(set(ids))
        assert "<!--" not in text.replace("<!DOCTYPE", "") and "rotate(-0" not in text

    @pytest.mark.parametrize(
        "name", ['a d="M"', 'a id="y" b', 'x="1.23456"', "url(#p)", 'href="#p"', "#0072b2", 'y x="0.00001"']
    )
    def test_what_looks_like_a_tag_s_own_in_a_name_is_a_name(self, name):
        rows = [Bar(name, "method", interval([50.0, 60.0]), (50.0, 60.0))] * 2
        text = canvas.svg(bars(rows, styles({name: ("m", "method")}), 99.0, 10.0), "p")
        assert text.count(f">{name}<") == canvas.themed(text, "t").count(f">{name}<") == 2

    def test_text_and_places_stay(self):
        text = '<svg><g id="a">\n <text x="1.23456" y="-0.001">a  b</text>\n</g></svg>'
        assert smaller(text) == '<svg><g><text x="1.23" y="0">a  b</text></g></svg>'
