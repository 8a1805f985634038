"""Accuracy on corrupted and on other images: by hand on a student that is told what to say, then for real."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.testing import assert_allclose
from PIL import Image

from harness.config import Recipe
from harness.errors import Unavailable
from harness.metrics import corrupt as module
from harness.metrics.base import evaluate
from harness.metrics.corrupt import CORRUPTIONS, STRENGTHS, corrupt
from harness.metrics.robust import fitted
from harness.tasks import catalog
from harness.tasks.images import load
from tests import build
from tests.build import mnist, write

CLASSES = tuple("0123456789")
NAMES = [f"corruption_{name}_{strength}" for name in CORRUPTIONS for strength in STRENGTHS]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("DFKD_CACHE", str(tmp_path / "cache"))


class Student:
    """Keeps what it is shown; is right on the first ``right[i]`` images of call i, then wrong."""

    def __init__(self, labels, right=None):
        self.labels, self.right, self.shown = np.asarray(labels), right or [], []

    def __call__(self, images):
        self.shown.append(images.copy())
        right = self.right[len(self.shown) - 1] if self.right else len(images)
        said = self.labels[: len(images)] + (np.arange(len(images)) >= right)
        return np.eye(10, dtype=np.float32)[said % 10]


def evidence(task="digits", predict=None, root=None, clean=20, n=20):
    """n test images, on the first ``clean`` of which the student is right."""
    described = catalog.describe(task) if isinstance(task, str) else task
    labels = np.arange(n) % 10
    images = np.random.default_rng(0).integers(0, 256, (n, *described.shape)).astype(np.uint8)
    return build.evidence(
        task=described,
        labels=labels,
        s_logits=np.eye(10, dtype=np.float32)[(labels + (np.arange(n) >= clean)) % 10],
        test=images,
        predict=predict,
        data_root=root,
    )


class TestCorruption:
    def test_by_hand(self):
        # of 20 images: noise 20, 18, ... 12 right, blur all, contrast none, pixelate 10 of each
        right = [20, 18, 16, 14, 12, *[20] * 5, *[0] * 5, *[10] * 5]
        ev = evidence(predict=Student(np.arange(20) % 10, right), clean=18)
        numbers, unavailable, _ = evaluate(ev, ["corruption"])
        assert not unavailable
        assert [numbers.pop(name) for name in NAMES] == pytest.approx([5.0 * r for r in right])
        means = {"noise": 80, "blur": 100, "contrast": 0, "pixelate": 50}
        assert numbers == pytest.approx(
            {f"corruption_{k}": v for k, v in means.items()}
            | {"corruption": 57.5, "corruption_drop": 100 * (1 - 57.5 / 90)}
        )

    def test_every_student_is_shown_the_same_images(self):
        students = Student(np.arange(20) % 10), Student(np.arange(20) % 10)
        for student in students:
            ev = evidence(predict=student)
            evaluate(ev, ["corruption"])
            assert len(student.shown) == 20  # each image once in each of 4 x 5
        kinds = [(n, s) for n in CORRUPTIONS for s in STRENGTHS]
        for one, other, kind in zip(*(s.shown for s in students), kinds, strict=True):
            assert (one == other).all() and (one == corrupt(ev.test, *kind)).all()

    def test_a_student_that_is_never_right_loses_no_share(self):
        ev = evidence(predict=Student(np.arange(20) % 10), clean=0)
        numbers, unavailable, _ = evaluate(ev, ["corruption"])
        assert numbers["corruption"] == 100 and unavailable == {"corruption_drop": "the number is nan"}

    def test_logits_that_are_no_numbers_are_no_decisions(self):
        ev = evidence(predict=lambda images: np.full((len(images), 10), np.nan, np.float32))
        assert evaluate(ev, ["corruption"])[1] == {"corruption": "the student's logits are not finite"}


def labelled(folder, classes, colour):
    """One picture of 12 x 12 a class: its place in the list, times ``colour``."""
    for i, name in enumerate(classes):
        (folder / "test" / name).mkdir(parents=True)
        pixel = tuple(i * c for c in colour)
        Image.new("RGB", (12, 12), pixel).save(folder / "test" / name / "a.png")


class TestShift:
    def test_mnist_is_shown_to_a_student_of_digits_as_pillow_would_shrink_it(self, tmp_path):
        write(tmp_path / "MNIST" / "raw", mnist())
        student = Student(np.arange(20) % 10, [15])
        numbers, unavailable, _ = evaluate(evidence(predict=student, root=tmp_path), ["shift"])
        assert numbers == {"shift_mnist": 75.0} and not unavailable
        (shown,) = student.shown
        assert shown.shape == (20, 1, 8, 8) and shown.dtype == np.uint8
        for image, ours in zip(load("mnist", tmp_path).test.images, shown, strict=True):
            theirs = Image.fromarray(image[0]).resize((8, 8), Image.Resampling.BILINEAR)
            assert_allclose(ours[0].astype(int), np.asarray(theirs).astype(int), atol=1)

    def test_digits_are_shown_to_a_student_of_mnist_once(self, tmp_path):
        real = load("digits").test
        student = Student(real.labels)
        numbers, _, _ = evaluate(evidence("mnist", student, tmp_path), ["shift"])
        assert numbers == {"shift_digits": 100.0}  # not digits16 too, which are the same images
        (shown,) = student.shown
        assert shown.shape == (899, 1, 28, 28)
        theirs = Image.fromarray(real.images[3, 0]).resize((28, 28), Image.Resampling.BILINEAR)
        assert_allclose(shown[3, 0].astype(int), np.asarray(theirs).astype(int), atol=1)

    @pytest.mark.parametrize("task", ["digits", "digits16"])
    def test_what_is_not_on_disk_says_so_in_its_column(self, tmp_path, task):
        numbers, unavailable, _ = evaluate(evidence(task, Student([0]), tmp_path), ["shift"])
        assert numbers == {} and unavailable.keys() == {"shift_mnist"}
        assert "dfkd tasks --download mnist" in unavailable["shift_mnist"]

    def test_a_folder_of_the_same_classes_by_their_names(self, tmp_path):
        labelled(tmp_path / "shifted" / "mine 2", CLASSES[::-1], (10, 20, 0))  # grey 0.299 x 10 + 0.587 x 20
        labelled(tmp_path / "shifted" / "animals", ["ant", "bee"], (1, 1, 1))
        student = Student(np.arange(10))
        numbers, unavailable, _ = evaluate(evidence(predict=student, root=tmp_path), ["shift"])
        assert numbers == {"shift_mine 2": 100.0}
        assert unavailable.keys() == {"shift_mnist"}  # and nothing of animals
        grey = [round((9 - k) * (0.299 * 10 + 0.587 * 20)) for k in range(10)]
        assert student.shown[0][:, 0, 4, 4].tolist() == grey and student.shown[0].shape == (10, 1, 8, 8)

    def test_a_folder_with_some_of_the_classes_says_which_are_wrong(self, tmp_path):
        labelled(tmp_path / "shifted" / "typo", [*CLASSES[:9], "nine"], (1, 1, 1))
        (tmp_path / "shifted" / "README").write_text("no folder")
        _, unavailable, _ = evaluate(evidence(predict=Student([0]), root=tmp_path), ["shift"])
        wrong = f"{tmp_path}/shifted/typo/test: class folders are not those of digits: 9, nine"
        assert unavailable["shift_typo"] == wrong

    def test_no_other_data_set_says_what_would_be_one(self, tmp_path):
        _, unavailable, _ = evaluate(evidence("cifar10", Student([0]), tmp_path), ["shift"])
        says = "no other data set has the classes of cifar10; a folder "
        assert unavailable == {"shift": f"{says}{tmp_path}/shifted/NAME/test/CLASS/* would be one"}

    @pytest.mark.parametrize("name", ["corruption", "shift"])
    def test_without_a_student_there_is_a_reason(self, name):
        assert "there is no student to show" in evaluate(evidence(), [name])[1][name]


class TestFitted:
    def test_colour_becomes_pillows_grey(self):
        x = np.random.default_rng(0).integers(0, 256, (600, 3, 9, 9)).astype(np.uint8)
        got = fitted(x, build.a_task(9, 1, 2))
        for image, ours in zip(x, got, strict=True):
            assert (ours[0] == np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))).all()

    def test_grey_is_repeated_and_what_fits_is_left_as_it_is(self):
        x = np.random.default_rng(0).integers(0, 256, (3, 1, 8, 8)).astype(np.uint8)
        assert (fitted(x, build.a_task(8, 3, 2)) == np.repeat(x, 3, axis=1)).all()
        assert (fitted(x, build.a_task(8, 1, 2)) == x).all()

    @pytest.mark.parametrize(("had", "side"), [(20, 8), (8, 20), (33, 32)])
    def test_sides_as_pillow_resizes(self, had, side):
        x = np.random.default_rng(0).integers(0, 256, (3, 3, had, had)).astype(np.uint8)
        for image, ours in zip(x, fitted(x, build.a_task(side, 3, 2)), strict=True):
            picture = Image.fromarray(image.transpose(1, 2, 0))
            theirs = np.asarray(picture.resize((side, side), Image.Resampling.BILINEAR))
            assert_allclose(ours.transpose(1, 2, 0).astype(int), theirs.astype(int), atol=1)

    def test_other_channels_are_refused(self):
        with pytest.raises(Unavailable, match="images of 2 channels cannot be shown to a student of 3"):
            fitted(np.zeros((1, 2, 8, 8), np.uint8), build.a_task(8, 3, 2))


GRID = """
from harness.config import Budget, Grid
GRID = Grid(
    tasks=("digits",), pairs=(("lenet5_bn", "lenet5_half_bn"),), seeds=(0,), budget=Budget(amount=40),
    points=2, variants={"kd": ("kd", {"batch": 64})}, metrics=%r,
)
"""


def test_a_grid_asks_for_an_unknown_metric(tmp_path, dfkd):
    file = tmp_path / "grid.py"
    file.write_text(GRID % (("shfit",),))
    dfkd("list", file).refuses("unknown metric 'shfit'; did you mean 'shift'")


def test_a_grid_asks_and_measure_gives_the_same_numbers_later(tmp_path, monkeypatch, dfkd):
    monkeypatch.setattr(module, "STRENGTHS", (1,))
    monkeypatch.setitem(catalog.RECIPES, "small", Recipe(name="small", epochs=3, lr=0.1, batch=64))
    write(tmp_path / "data" / "MNIST" / "raw", mnist())
    for name, asked in (("plain", ()), ("robust", ("corruption", "shift"))):
        (tmp_path / f"{name}.py").write_text(GRID % (asked,))

    def call(command, grid, out):
        words = ["--out", tmp_path / out, "--teachers", tmp_path / "teachers"]
        words += ["--data-root", tmp_path / "data", "--no-mlflow"]
        words += ["--workers", 0] if command == "run" else []
        code, *said = dfkd(command, tmp_path / f"{grid}.py", *words)
        assert not code, said
        (file,) = (tmp_path / out / "trials").glob("*/result.json")
        return json.loads(file.read_text()), *said

    asked, out, err = call("run", "robust", "a")
    assert "have no" not in err and "corrupted" in out and "on mnist" in out
    expected = {f"corruption_{name}_1" for name in CORRUPTIONS}
    assert expected | {"corruption", "corruption_drop", "shift_mnist"} < asked["metrics"].keys()
    assert asked["metrics"]["corruption"] > 15  # the student has learned something
    markdown = (tmp_path / "a" / "reports" / "robust" / "report.md").read_text()
    assert "| corrupted (%) |" in markdown and "| on mnist (%) |" in markdown
    assert "corruption_noise_1" not in markdown
    table = (tmp_path / "a" / "reports" / "robust" / "report.csv").read_text()
    assert "corruption_noise_1" in table

    plain, *_ = call("run", "plain", "b")
    assert plain["id"] == asked["id"]
    assert not [k for k in plain["metrics"] if k.startswith(("corruption", "shift"))]
    *_, err = call("run", "robust", "b")
    assert "1 of 1 finished trials have no corruption, shift yet: `dfkd measure` on this grid" in err
    later, *_ = call("measure", "robust", "b")
    assert later["metrics"] == asked["metrics"]
