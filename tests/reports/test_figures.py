"""What is drawn from what: numbers in the axes, colours, room for every label, when there is no figure."""

from __future__ import annotations

import json
import re
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.text import Text
from sklearn import manifold

from reports.figures import canvas, draw, features, maps
from reports.figures.bars import Bar, Difference, bars, differences
from reports.figures.curves import learning_curves
from reports.figures.places import Picture, Place, places_of
from reports.figures.ranks import Dot, cost, rank_diagram
from reports.figures.samples import Strip, _mosaic
from reports.figures.style import Style, styles
from reports.figures.sweeps import alone, depth
from reports.numbers import sweeps
from reports.numbers.contrasts import paired
from reports.numbers.findings import work_out
from reports.numbers.rows import tiles
from reports.numbers.stats import Interval, interval
from tests.build import frame_rows
from tests.reports.golden import images

NO_CURVES = pd.DataFrame({name: pd.Series(dtype=float) for name in ("id", "round", "top1", "flops")})
#: 90, 92, 94: mean 92, deviation 2, and t(0.975; 2) = 4.302653 from a printed table
HALF = 4.302653 * 2 / 3**0.5


def frame(*rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([row for group in rows for row in group])


def row(label: str, *top1: float, **more: object) -> list[dict[str, object]]:
    """Trials of a row, one a seed; settings may be a dictionary."""
    if isinstance(settings := more.get("settings"), dict):
        more["settings"] = json.dumps(settings)
    return frame_rows(*top1, **{"variant": label, "flops": 1e12, **more})


class Start:
    """In place of t-SNE."""

    def __init__(self, init: np.ndarray, **_: object) -> None:
        self.init = init

    def fit_transform(self, h: np.ndarray) -> np.ndarray:
        return self.init


def drawn(
    table: pd.DataFrame, samples=lambda id: None, predictions=lambda id: None, contrasts=None, svg="nothing"
) -> tuple[dict[str, Picture], list[tuple[str, str]]]:
    """Stem of the file -> picture, and what was read: (kind, trial).

    Laying out takes most of the time: a picture whose stem does not begin with ``svg`` has none. t-SNE takes
    what is left: images stay where it starts.
    """
    read: list[tuple[str, str]] = []

    def noted(kind, of):
        return lambda id: (read.append((kind, id)), of(id))[1]

    over = None if contrasts is None else paired(table, contrasts, lambda id: None)
    curves = NO_CURVES.assign(student_updates=pd.Series(dtype=float))
    found, whole = work_out(table, None, (), over), canvas.svg
    stored = noted("samples", samples), noted("predictions", predictions)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifold, "TSNE", Start)
        patch.setattr(canvas, "svg", lambda figure, name: whole(figure, name) if name.startswith(svg) else "")
        made = {p.name: p for p in draw.draw(table, curves, stored[0], found, stored[1])}
    return made, read


def place(table: pd.DataFrame) -> Place:
    return places_of(table)[0]


def styled(*labels: str, kind: str = "method") -> dict[str, Style]:
    return styles({label: (label, kind) for label in labels})


def overlaps(figure) -> list[tuple[str, str]]:
    """Pairs of texts that are drawn and whose boxes meet by more than a pixel."""
    shown = []

    def noted(text: Text, renderer) -> None:
        if text.get_visible() and (words := text.get_text().strip()):
            shown.append((words, text.get_window_extent(renderer).padded(-1)))

    with canvas.drawing(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(Text, "draw", noted)
        seen = FigureCanvasAgg(figure)
        seen.draw()
    width, height = seen.get_width_height()
    beyond = [
        (w, "the edge") for w, b in shown if b.x0 < -2 or b.y0 < -2 or b.x1 > width + 2 or b.y1 > height + 2
    ]
    return beyond + [(a, b) for (a, one), (b, two) in combinations(shown, 2) if one.overlaps(two)]


def lines(ax) -> list[tuple[list[float], list[float]]]:
    return [(list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))) for line in ax.lines]


def bar(label: str, *top1: float, kind: str = "method") -> Bar:
    return Bar(label, kind, interval(top1), top1)


class TestBars:
    def test_the_axes_hold_the_means_the_intervals_and_the_seeds(self):
        rows = [bar("kd", 99.0, kind="reference"), bar("cpsc", 90.0, 92.0, 94.0)]
        looks = styles({"kd": ("kd", "reference"), "cpsc": ("cpsc", "method")})
        figure = bars(rows, looks, 99.5, 10.0)
        whole, near = figure.axes
        widths = [p.get_width() for p in whole.patches]
        assert widths == [99.0, 99.0, 92.0]  # the reference has a hatch of its own
        assert whole.get_xlim() == (0, 100)
        shown = lines(near)
        assert ([90.0, 92.0, 94.0], [1, 1, 1]) in shown and ([99.0], [0]) in shown
        ends = next(x for x, y in shown if y == [1, 1] and len(x) == 2)
        assert ends == pytest.approx([92 - HALF, 92 + HALF], rel=1e-6)
        assert {x[0] for x, y in lines(whole) if y == [0, 1]} == {99.5, 10.0}  # teacher and chance
        assert [t.get_text() for t in near.texts] == ["99.00", "92.00 ± 4.97"]  # 4.302653 * 2 / sqrt 3
        assert near.get_xlim()[0] < 90 < 99.5 < near.get_xlim()[1]

    def test_far_rows_leave_the_close_up_and_low_rows_need_none(self):
        rows = [bar("a", 97.0), bar("b", 96.0), bar("c", 20.0)]
        near = bars(rows, styled("a", "b", "c"), 99.0, 10.0).axes[1]
        assert near.get_xlim()[0] > 90 and "◂" in [t.get_text() for t in near.texts]
        low = bars([bar("a", 30.0), bar("b", 20.0)], styled("a", "b"), float("nan"), 10.0)
        assert len(low.axes) == 1

    def test_two_rows_of_nothing_else_have_bars_alone_and_missing_seeds_are_told(self):
        assert drawn(frame(row("a", 90.0)))[0] == {}
        made, _ = drawn(frame(row("a", 90.0, None), row("b", 91.0, 92.0)))
        assert list(made) == ["bars-1"] and "Not all seeds ran: a (1 of 2)." in made["bars-1"].caption


class TestReach:
    @pytest.mark.parametrize(
        ("shown", "more", "want"),
        [
            ([(40.0, 30.0), (50.0, float("nan"))], {}, (10.0, 70.0, False)),  # whole intervals and no more
            ([(40.0, 20.0), (42.0, 1.0)], {}, (32.0, 50.0, True)),  # cut at four spans of the means
            ([(40.0, 20.0), (40.0, 1.0)], {"least": 0.5}, (38.0, 42.0, True)),
            ([(20.0, 30.0), (90.0, 20.0)], {}, (0.0, 100.0, True)),  # the ends of an accuracy
            ([(-10.0, 30.0), (20.0, 1.0)], {"most": canvas.POINTS}, (-40.0, 21.0, False)),
        ],
    )
    def test_by_hand(self, shown, more, want):
        assert canvas.reach([Interval(mean, half, 3) for mean, half in shown], **more) == want

    def test_a_cut_is_said_beside_the_picture(self):
        for wide, said in ((2.0, False), (90.0, True)):
            tops = {"full": (40.0, 41.0, 42.0), "drop3": (45.0, 45.5, 46.0)}
            tops["none"] = (50.0 - wide / 2, 50.0, 50.0 + wide / 2)
            rows = [row(n, *t, settings={"cfe_layers": n, "alpha": 1.0}) for n, t in tops.items()]
            made, _ = drawn(frame(*rows), contrasts={"none": "full"})
            for name in ("depth-1", "differences-1"):
                assert ("An interval that leaves the picture is cut" in made[name].caption) == said


class TestStanding:
    def test_the_front_steps_through_the_optimal(self):
        dots = [
            Dot("cheap", interval([80.0, 82.0]), 1.0, True),
            Dot("dear", Interval(95.0, float("nan"), 1), 100.0, True),
            Dot("worse", Interval(70.0, float("nan"), 1), 10.0, False),
        ]
        ax = cost(dots, styled("cheap", "dear", "worse"), 99.0).axes[0]
        assert ax.get_xscale() == "log" and "TFLOP" in ax.get_xlabel() and "%" in ax.get_ylabel()
        front = next(pair for pair in lines(ax) if len(pair[0]) == 3)
        assert front[0][:2] == [1.0, 100.0] and front[1] == [81.0, 95.0, 95.0]
        assert ax.get_ylim()[0] < 70 and ax.get_xlim()[0] < 1 < 100 < ax.get_xlim()[1]

    def test_equal_costs_say_nothing(self):
        costs = {"a": 1.0e12, "b": 1.05e12, "c": 1e12}
        rows = [row(n, 90.0 + i, flops=f) for i, (n, f) in enumerate(costs.items())]
        assert "pareto-1" not in drawn(frame(*rows))[0]
        rows[1] = row("b", 91.0, flops=2e12)
        assert "pareto-1" in drawn(frame(*rows))[0]

    def test_ranks_and_groups(self):
        figure = rank_diagram(["a", "b", "c"], [1.0, 1.5, 3.0], 0.9, [(0, 1)], styled("a", "b", "c"))
        ax, side = figure.axes
        dots = [(x[0], y[0]) for x, y in lines(ax) if len(x) == 1]
        assert {(1.0, 0.0), (1.5, 1.0), (3.0, 2.0)} <= set(dots)
        assert lines(side) == [([0, 0], [-0.2, 1.2])]
        assert "critical difference 0.90" in [t.get_text() for t in ax.texts]

    def test_without_a_test_it_says_so(self):
        tops = {"a": 90.0, "b": 80.0, "c": 70.0}
        rows = [row(n, v, task=t) for t in ("digits", "mnist") for n, v in tops.items()]
        made, _ = drawn(frame(*rows), svg="ranks")
        assert made["ranks"].block == "across" and made["ranks"].title == "Mean ranks"
        assert "not testable at n = 2" in made["ranks"].svg
        assert "Not testable at n = 2" in made["ranks"].caption
        assert "ranks" not in drawn(frame(*rows[:3]))[0]


class TestDifferences:
    def test_values_and_intervals_by_hand(self):
        # differences 1, 2, 3: mean 2, deviation 1
        table = frame(
            row("full", 90.0, 90.0, 90.0),
            row("- bn", 91.0, 92.0, 93.0),
            row("bare", 50.0, 50.0, 50.0),
            row("bare + bn", 60.0, 60.0, 60.0),
        )
        contrasts = {"- bn": "full", "bare": "full", "bare + bn": "bare"}
        made, _ = drawn(table, contrasts=contrasts, svg="diff")
        assert made["differences-1"].title == "What each loss term gives"
        svg = made["differences-1"].svg
        for text in ("minus full", "minus bare", "+2.00 ± 2.48", "−40.00 ± 0.00", "+10.00 ± 0.00"):  # noqa: RUF001
            assert f">{text}</text>" in svg
        found = Difference("- bn", 2.0, 2.484138, "- bn")
        ax = differences({"minus full": [found]}, styled("full", "- bn")).axes[0]
        assert [p.get_width() for p in ax.patches] == [2.0]
        ends = ax.collections[0].get_segments()[0][:, 0]
        assert ends == pytest.approx([2 - 2.484138, 2 + 2.484138])

    def test_a_base_is_said_once(self):
        rows = [row(n, 90.0 + i, 90.0) for i, n in enumerate(("a", "a: x", "a: y", "b", "b: x"))]
        contrasts = {"a: x": "a", "a: y": "a", "b: x": "b"}
        svg = drawn(frame(*rows), contrasts=contrasts, svg="diff")[0]["differences-1"].svg
        for text in ("minus a", "x", "y", "minus the row before the colon", "b: x"):
            assert f">{text}</text>" in svg


def cfe(*pairs: tuple[str, float], **more: object) -> pd.DataFrame:
    return frame(
        *(row(f"cfe {c}", v, v + 2, settings={"cfe_layers": c, "alpha": 1.0} | more) for c, v in pairs)
    )


class TestDepth:
    def test_norms(self):
        norms = {"full": 4, "none": 0, "drop2": 3, "0+1": 2, "3": 1, "0+1+2": 3, "sum": None, "": None}
        assert {choice: sweeps.depth(choice) for choice in norms} == norms

    def test_one_point_a_choice_at_its_depth(self):
        table = cfe(("full", 90.0), ("drop0", 80.0), ("drop3", 84.0), ("none", 60.0))
        (choices,) = sweeps.depths(place(table).rows)
        figure = depth(choices, 99.0)
        ax = figure.axes[0]
        means = [pair for pair in lines(ax) if len(pair[0]) == 3]
        assert ([0, 3, 4], [61, 83, 91]) in means  # 81 and 85 at depth three
        points = {(round(x[0]), y[0]) for x, y in lines(ax) if len(x) == 1}
        assert {(0, 61), (3, 81), (3, 85), (4, 91)} <= points
        svg = canvas.svg(figure, "d")  # a name stands even right above the number of its depth
        assert all(f">{name}</text>" in svg for name in ("none", "1+2+3", "0+1+2", "full"))

    def test_another_setting_or_two_depths_make_no_curve(self):
        assert sweeps.depths(place(cfe(("full", 90.0), ("none", 60.0))).rows) == []
        mixed = pd.concat([cfe(("full", 90.0), ("none", 60.0)), cfe(("0", 80.0), alpha=2.0)])
        assert sweeps.depths(place(mixed).rows) == []


def cross(fields: dict[tuple[float, float], float]) -> pd.DataFrame:
    return frame(*(row(f"a {a} g {g}", v, settings={"alpha": a, "gamma": g}) for (a, g), v in fields.items()))


class TestSettings:
    def test_a_cross_is_a_map_and_no_curve(self):
        fields = {(a, g): 50 + 10 * a + g for a in (1, 2, 3) for g in (0.1, 0.5)}
        (found,) = sweeps.crosses(place(cross(fields)).rows)
        assert (found.y, found.rows, found.x, found.columns) == ("alpha", (1, 2, 3), "gamma", (0.1, 0.5))
        assert {at: top1.mean for at, top1 in found.top1.items()} == fields
        made, _ = drawn(cross(fields))
        assert "map-1" in made and "settings-1" not in made
        assert made["map-1"].title == "Top-1 over alpha and gamma"

    def test_one_at_a_time_is_no_cross(self):
        star = {(3, 0.1): 1.0, (3, 0.5): 2.0, (3, 0.9): 3.0, (1, 0.5): 4.0, (5, 0.5): 5.0, (7, 0.5): 6.0}
        cells = place(cross(star)).rows
        assert sweeps.crosses(cells) == []
        found = {s.setting: [(p.value, p.top1.mean) for p in s.points] for s in sweeps.sweeps(cells)}
        assert found == {"gamma": [(0.1, 1), (0.5, 2), (0.9, 3)], "alpha": [(1, 4), (3, 2), (5, 5), (7, 6)]}

    def test_a_sparse_cross_is_none_and_a_partial_one_says_so(self):
        six = {(1, 1): 1.0, (1, 2): 2.0, (2, 1): 3.0, (2, 2): 4.0, (3, 3): 5.0, (4, 4): 6.0}
        assert sweeps.crosses(place(cross(six)).rows) == []  # six of sixteen
        most = {(a, g): 50.0 + a for a in (1, 2, 3) for g in (1, 2, 3) if (a, g) != (3, 3)}
        assert "1 combinations have no result" in drawn(cross(most))[0]["map-1"].caption

    def test_the_same_trials_in_two_rows_are_one_point(self):
        twice = [row(n, 90.0, settings={"beta": 1.0}) for n in ("default", "beta 1")]
        rows = [row(f"beta {b}", 80.0, settings={"beta": b}) for b in (0.1, 10.0)]
        (found,) = sweeps.sweeps(place(frame(*twice, *rows)).rows)
        assert [p.value for p in found.points] == [0.1, 1.0, 10.0]

    def test_the_map_is_fullest_where_top1_is_highest(self):
        top1 = {(1, 0.1): 50.0, (1, 0.5): 60.0, (2, 0.1): 90.0}
        ax = maps.heat(("g", [0.1, 0.5]), ("a", [1, 2]), top1).axes[0]
        assert [t.get_text() for t in ax.texts] == ["50.0", "60.0", "90.0"]  # the fourth stays empty
        full = {(p.get_x() + 0.5, p.get_y() + 0.5): p.get_facecolor()[3] for p in ax.patches}
        assert full[(0, 1)] == pytest.approx(0.96) and full[(0, 0)] == pytest.approx(0.06)
        assert full[(1, 0)] == pytest.approx(0.06 + 0.9 / 4)

    @pytest.mark.parametrize(
        ("values", "scale", "said"),
        [
            ((0.01, 1, 10), "log", "log scale"),
            ((1, 2, 3), "linear", "b"),
            ((0, 0.1, 5), "linear", "equally spaced"),
        ],
    )
    def test_the_axis_fits_the_values(self, values, scale, said):
        points = [sweeps.Point(float(v), "x", interval([50.0 + i])) for i, v in enumerate(values)]
        ax = alone([("b", points)]).axes[0]
        assert ax.get_xscale() == scale and ax.get_xlabel().endswith(said)

    def test_two_sweeps_of_a_setting_are_told_apart(self):
        values = [{"alpha": a, "l2": k} for k in ("mse", "log") for a in (1, 2, 3)]
        rows = [row(f"{each}", 90.0, settings=each) for each in values]
        svg = drawn(frame(*rows), svg="settings")[0]["settings-1"].svg
        assert "alpha (l2=mse)" in svg and "alpha (l2=log)" in svg


def guessed(t: list[int], s: list[int], y: list[int]) -> dict[str, np.ndarray]:
    return {k: np.array(v, np.uint8) for k, v in (("t", t), ("s", s), ("y", y))}


class TestConfusion:
    def test_shares_by_hand(self):
        one = guessed([0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 0])
        two = guessed([0, 0, 1, 1], [0, 0, 0, 1], [0, 0, 0, 0])
        got = features.shares([one, two], "t", 3)
        assert got[:2].tolist() == [[0.75, 0.25, 0], [0.25, 0.75, 0]]
        assert np.isnan(got[2]).all()

    @pytest.mark.parametrize(("stored", "title"), [("tsy", "the teacher"), ("sy", "the truth")])
    def test_against_whom_is_said(self, stored, title):
        arrays = {k: v for k, v in guessed([0, 1], [0, 0], [0, 0]).items() if k in stored}
        made, _ = drawn(frame(row("a", 90.0)), predictions=lambda id: arrays, svg="confusion")
        picture = made["confusion-1"]
        assert picture.title == f"Confusion against {title}"
        assert ("did not store" in picture.caption) == ("t" not in stored)
        assert ("50.0 % agree" if "t" in stored else "100.0 % right") in picture.svg

    def test_a_handful_of_trials_is_read(self):
        rows = [row(f"m{i}", *[50.0 + i + s / 10 for s in range(9)]) for i in range(8)]
        rows += [row("kd", 99.0, reference=True), row("noise", 98.0, control=True)]
        arrays = guessed([0, 1], [0, 1], [0, 1])
        made, read = drawn(frame(*rows), predictions=lambda id: arrays)
        best = [id for kind, id in read if kind == "predictions"]
        assert all(re.match(r"m[4567]-[0-4]-", id) for id in best)
        assert len(best) == features.ROWS * features.SEEDS == 20
        caption = made["confusion-1"].caption
        assert "The 4 best data-free rows of 8" in caption and "first 5 seeds" in caption

    def test_many_classes_are_a_picture(self):
        table = np.full((100, 100), 0.01)
        svg = canvas.svg(maps.confusion([(maps.Panel("a", ""), table)], "true class"), "c")
        assert "data:image/png" in svg and len(svg) < 30_000


def stored(apart: float, n: int = 120, asked: bool = True) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    k = np.arange(n) % 4
    h = rng.normal(size=(n, 8)) + apart * np.eye(8)[k]
    images = np.zeros((n, 1, 8, 8), np.uint8)
    return {"h": h.astype(np.float16), "y": k if asked else np.full(n, -1), "t": k, "images": images}


class TestWhatIsLeftOutIsSaid:
    def test_a_generator_whose_images_are_of_no_class_drawn(self):
        one, many = (stored(0.0) | {"t": k, "y": k} for k in (np.full(120, 1), np.arange(120) % 100))
        table = frame(row("collapsed", 90.0, classes=100.0), row("good", 80.0, classes=100.0))
        made, _ = drawn(table, samples=lambda id: one if id.startswith("collapsed") else many)
        caption = made["samples-1"].caption
        assert "No image of these classes: collapsed." in caption and "20 of 100 classes" in caption

    def test_classes_nobody_knows_are_those_of_all_rows(self):
        few = stored(3.0) | {"y": np.arange(120) % 2, "t": np.arange(120) % 2}
        table = frame(row("a", 90.0, classes=np.nan), row("b", 80.0, classes=np.nan))
        made, _ = drawn(table, lambda id: stored(3.0) if id.startswith("a") else few, svg="features")
        classes = [text for text in re.findall(r">(\d)</text>", made["features-1"].svg)]
        assert classes == ["0", "1", "2", "3"]

    def test_one_half_of_a_pair_is_no_pair(self):
        rows = [row(n, 90.0, settings={"cfe_layers": n, "alpha": 1.0}) for n in ("full", "none")]
        samples = {True: stored(3.0), False: None}
        for both in (True, False):
            made, _ = drawn(frame(*rows), lambda id, both=both: samples[both or id.startswith("full")])
            assert ("With and without CFE." in made["features-1"].caption) == both

    def test_a_teacher_far_below_its_students_does_not_move_the_axis(self):
        ends = (("full", 4.0, 90.0), ("none", 0.0, 60.0))
        points = [(name, sweeps.Point(n, name, interval([top1]))) for name, n, top1 in ends]
        for teacher, there in ((20.0, False), (40.0, True), (95.0, True)):
            ax = depth(points, teacher).axes[0]
            assert ("teacher" in [t.get_text() for t in ax.texts]) == there
            low, high = ax.get_ylim()
            assert 30 < low < 60 and high > 90 and (low < teacher < high) == there


class TestFeatures:
    def test_silhouette_by_hand(self):
        # 0: a = 1, b = (10 + 11) / 2; 1: a = 1, b = (9 + 10) / 2; the other class is the mirror image
        h = np.array([[0.0], [1.0], [10.0], [11.0]])
        samples = {"h": h, "y": np.array([0, 0, 1, 1]), "t": np.zeros(4, int)}
        assert features.silhouette(samples) == pytest.approx((9.5 / 10.5 + 8.5 / 9.5) / 2)
        assert np.isnan(features.silhouette(samples | {"y": np.zeros(4, int)}))

    def test_the_plane_keeps_neighbours_and_its_bits(self):
        samples = stored(20.0)
        (xy, own), (again, _) = (features.plane(samples, np.arange(4)) for _ in range(2))
        assert np.array_equal(xy, again) and len(xy) == 120
        middles = np.array([xy[own == k].mean(axis=0) for k in range(4)])
        nearest = np.linalg.norm(xy[:, None] - middles, axis=2).argmin(axis=1)
        assert (nearest == own).all()

    def test_too_little_to_draw(self):
        assert features.plane(stored(1.0, n=8), np.arange(4)) is None
        same = stored(1.0) | {"h": np.ones((120, 8), np.float16)}
        assert features.plane(same, np.arange(4)) is None

    def test_with_and_without_cfe_stand_side_by_side(self):
        table = frame(row("better", 99.0, settings={"cfe_layers": "0", "alpha": 1.0}),
                      row("none", 60.0, settings={"cfe_layers": "none", "alpha": 1.0}),
                      row("full", 90.0, settings={"cfe_layers": "full", "alpha": 1.0}))  # fmt: skip
        made, _ = drawn(table, lambda id: stored(0.0 if id.startswith("none") else 20.0), svg="features")
        svg = made["features-1"].svg
        assert ">full</text>" in svg and ">none</text>" in svg and ">better</text>" not in svg
        scores = [float(v.replace("−", "-")) for v in re.findall(r"silhouette (\S+), by label asked", svg)]  # noqa: RUF001
        assert scores[0] > 0.5 > 0.2 > scores[1]

    def test_one_figure_a_report_of_the_best_rows(self):
        rows = [row(f"m{i}", 90.0 - i, task=t) for t in ("digits", "mnist") for i in range(6)]
        made, _ = drawn(frame(*rows), lambda id: stored(5.0, asked=False), svg="features")
        assert [name for name in made if name.startswith("features")] == ["features-1"]
        svg = made["features-1"].svg
        assert [f">m{i}</text>" in svg for i in range(6)] == [True] * 4 + [False] * 2
        assert "by the teacher's label" in svg


class TestCrowds:
    def test_rows_are_spread_over_panels(self):
        rows = [row(f"r{i}", 90.0, method=f"method{i // 5}") for i in range(20)]
        where = place(frame(*rows))
        shown, beyond = draw._best(where)
        panels = draw._panels(where, shown)
        assert beyond == "" and sorted(n for panel in panels for n in panel) == sorted(where.styles)
        assert max(map(len, panels)) <= draw.PANEL and panels[0] == [f"r{i}" for i in range(5)]
        for panel in panels:  # in a panel no two are of one colour
            assert len({where.styles[n].colour for n in panel}) == len(panel)

    def test_the_best_of_many_are_shown_and_said(self):
        rows = [row(f"r{i}", 50.0 + i) for i in range(40)] + [row("kd", 1.0, reference=True, method="kd")]
        table = frame(*rows)
        shown, _ = draw._best(place(table))
        assert {c.label for c in shown} == {"kd"} | {f"r{i}" for i in range(17, 40)}
        assert "The 23 best rows of 40." in drawn(table)[0]["bars-1"].caption

    def test_samples_are_read_of_one_trial_a_row(self):
        rows = [row(f"m{i}", *[90.0] * 5, method=f"m{i}") for i in range(3)]
        _, read = drawn(frame(*rows), samples=lambda id: {k: v for k, v in stored(1.0).items() if k != "h"})
        assert {id.split("-")[1] for kind, id in read if kind == "samples"} == {"0"}


def curves(steps: dict[str, float], seeds: int = 1) -> pd.DataFrame:
    """Eight points of each row, so many updates apart."""
    return pd.DataFrame(
        {"label": n, "seed": s, "x": step * i, "top1": 50.0 + i}
        for n, step in steps.items()
        for s in range(seeds)
        for i in range(1, 9)
    )


LONG = [f"a rather long name of a row, {i}" for i in range(24)]


#: whose legend was once a letter too wide
SHORT = "full,norms 1+2+3,norms 0+2+3,norms 0+1+3,norms 0+1+2,no CFE,- l2,- bn,- scl,- ce".split(",")


@pytest.mark.parametrize("names", [LONG[:3], SHORT, LONG[:13], LONG])
def test_labels_never_meet(names):
    n = len(names)
    looks = styled(*names)
    values = [interval([90.0 + i / 9, 91.0 + i / 9, 90.5]) for i in range(n)]
    rows = [Bar(m, "method", v, (90.0, 91.0)) for m, v in zip(names, values, strict=True)]
    dots = [Dot(m, v, 1.5**i, i == 2) for i, (m, v) in enumerate(zip(names, values, strict=True))]
    minus = [Difference(m, -3.0 * i, 2.0, m) for i, m in enumerate(names)]
    panels = [names[i : i + 6] for i in range(0, n, 6)] if n > 13 else [names]
    made = {
        "bars": bars(rows, looks, 99.0, 10.0),
        "cost": cost(dots, looks, 99.0),
        "ranks": rank_diagram(names, [1 + i * 0.9 for i in range(n)], 2.0, [(0, 1), (1, 2)], looks),
        "differences": differences({"minus full": minus}, looks),
        "curves": learning_curves(
            curves(dict.fromkeys(names, 100.0)), looks, "student updates", 99.0, panels
        ),
    }
    assert {name: found for name, figure in made.items() if (found := overlaps(figure))} == {}


def test_labels_of_maps_and_sweeps_never_meet():
    at = (0.02, 0.03, 0.04, 0.07, 0.15, 0.3, 1.0)
    points = [sweeps.Point(v, "r", interval([90.0 + i, 91.0])) for i, v in enumerate(at)]
    two = map("+".join, combinations("0123", 2))
    choices = {c: sweeps.depth(c) for c in ("none", *"0123", *two, *(f"drop{i}" for i in range(4)), "full")}
    deep = [(c, sweeps.Point(d, c, interval([90.0 + d, 92.0]))) for c, d in choices.items()]
    values = {(a, g): 90.0 + a - g for a in range(5) for g in range(6)}
    table = np.full((10, 10), 0.1)
    cloud = np.random.default_rng(0).normal(size=(60, 2))
    short = maps.Panel("a rather long name of a row", "97.5 % agree")
    panel = maps.Panel("a rather long name of a row", "silhouette 0.12, by the teacher's label")
    made = {
        "alone": alone([(f"setting {i}", points) for i in range(3)]),
        "one": alone([("setting", points)]),
        "depth": depth(deep, 96.0),
        "heat": maps.heat(("gamma", range(6)), ("alpha", range(5)), values),
        "confusion": maps.confusion([(short, table)] * 4, "true class"),
        "clouds": maps.clouds([(panel, cloud, np.arange(60) % 10)] * 2, range(10)),
        "cloud": maps.clouds([(panel, cloud, np.arange(60) % 10)], range(10)),
    }
    assert {name: found for name, figure in made.items() if (found := overlaps(figure))} == {}


def test_a_row_has_one_colour_in_every_figure():
    looks = styled("a", "b")
    wanted = looks["b"].colour
    shown = bars([bar(n, 50.0) for n in "ab"], looks, 99.0, 10.0)
    assert to_hex(shown.axes[0].patches[1].get_edgecolor()) == wanted
    dear = cost([Dot(n, interval([50.0]), 1.0, False) for n in "ab"], looks, 99.0)
    assert wanted in {line.get_color() for line in dear.axes[0].lines}
    ranks = rank_diagram(["a", "b", "c"], [1, 2, 3], 1.0, [], styled("a", "b", "c"))
    assert wanted in {line.get_color() for line in ranks.axes[0].lines}
    minus = differences({"minus a": [Difference("b", 1.0, 1.0, "b")]}, looks)
    assert to_hex(minus.axes[0].patches[0].get_edgecolor()) == wanted
    lines = learning_curves(curves({"a": 1.0, "b": 1.0}), looks, "updates").axes[0].lines
    assert {to_hex(line.get_color()) for line in lines} == {looks["a"].colour, wanted}


class TestPictures:
    def test_the_mosaic_holds_the_pixels_in_place(self):
        shown = tiles(images(""), list(range(10)), 2)
        canvas = _mosaic(Strip("x", "", shown), 2)
        height, width = canvas.shape[0] // 2, canvas.shape[1] // 10
        for row in range(2):
            for k in range(10):
                pixel = canvas[row * height + height // 2, k * width + width // 2]
                assert pixel.tolist() == ([10 * k] * 3 + [255] if k != 3 else [*pixel[:3], 0])

    def test_any_name_can_be_drawn(self):
        names = ["_hidden", "$x^2$", "größer 中文", "a\x07b", "long " * 20]
        data = curves(dict.fromkeys(names, 10.0), seeds=2)
        text = canvas.svg(learning_curves(data, styled(*names), "student updates", 99.0), "n")
        for shown in ("_hidden", "$x^2$", "größer 中文", "a b"):
            assert shown in text
        assert "Time" not in text and "<metadata>" not in text

    def test_budgets_far_apart_get_a_log_axis(self):
        for far, said in ((2.0, "student updates"), (50.0, "student updates, log scale")):
            figure = learning_curves(curves({"a": 1.0, "b": far}), styled("a", "b"), "student updates")
            assert figure.axes[0].get_xlabel() == said
