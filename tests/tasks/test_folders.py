"""A user's own folders as a task: what is read, how, and one clear line when something is bad."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from harness.tasks import catalog
from harness.tasks.images import load
from tests.build import refused
from tests.tasks.conftest import paint


def test_a_folder_is_a_task(own):
    name = f"folder:{own}?side=8"
    got, described = load(name), catalog.describe(name)
    assert (
        got.task == described and described.name == name and described.version == catalog.version(name) == 1
    )
    assert described.classes == ("cat", "dog") and described.shape == (3, 8, 8)
    assert described.mean == described.std == (0.5, 0.5, 0.5) and described.augment == {"pad", "flip"}
    assert got.train.labels.tolist() == [0, 0, 0, 1, 1, 1] and got.test.labels.tolist() == [0, 1]
    assert got.test.images[0, :, 0, 0].tolist() == [255, 0, 0]
    assert got.test.images[1, :, 0, 0].tolist() == [0, 0, 255]
    assert got.val.labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(20, 90), (33, 21), (19, 19)], 24),  # shorter sides 19, 20, 21: the middle one, up from the half
        ([(19, 19), (19, 40), (90, 19)], 16),
        ([(3, 4), (5, 5), (2, 9)], 8),  # never below what a network takes
        ([(2000, 1500), (1200, 1201), (900, 1300)], 512),  # nor above what one should
    ],
)
def test_the_default_side_is_the_median_of_the_shorter_sides_rounded_to_8(sizes, side, tmp_path):
    for i, size in enumerate(sizes):
        paint(tmp_path / "own" / "train" / "ab"[i % 2] / f"{i}.png", size)
    for label in "ab":
        paint(tmp_path / "own" / "test" / label / "x.png", (500, 500))  # test images have no say
    assert catalog.describe(f"folder:{tmp_path / 'own'}").side == side


def test_images_are_resized_and_cropped_to_the_centre(own):
    stream = np.random.default_rng(0)
    pixels = stream.integers(0, 256, (24, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(own / "test" / "cat" / "x.PNG")
    got = load(f"folder:{own}?side=8").test.images[0]
    whole = torch.tensor(pixels).permute(2, 0, 1)[None].double()
    want = F.interpolate(whole, size=(8, 16), mode="bilinear", antialias=True)[0, :, :, 4:12].numpy()
    assert np.abs(got - want).max() <= 1.01  # 8-bit rounding, once an axis
    same = load(f"folder:{own}?side=24").test.images[0]
    assert np.abs(same.astype(int) - pixels[:, 12:36].transpose(2, 0, 1)).max() == 0


def test_grey_palette_alpha_and_turned_images_become_upright_rgb(own):
    paint(own / "train" / "cat" / "grey.png", colour=77, mode="L")
    see_through = paint(own / "train" / "cat" / "alpha.png", colour=(9, 8, 7, 0), mode="RGBA")
    Image.new("P", (16, 16), 0).save(own / "train" / "cat" / "palette.gif")
    half = Image.new("L", (16, 16), 0)
    half.paste(255, (0, 0, 16, 8))  # the upper half is white ...
    exif = Image.Exif()
    exif[0x0112] = 3  # ... and the camera was upside down
    half.save(own / "test" / "cat" / "x.PNG", exif=exif)
    got = load(f"folder:{own}?side=16")
    by_name = dict(zip(["0", "1", "2", "alpha", "grey", "palette"], got.train.images[:6], strict=True))
    assert by_name["grey"][:, 3, 3].tolist() == [77, 77, 77]
    assert by_name["alpha"][:, 3, 3].tolist() == [9, 8, 7] and see_through.exists()
    assert got.test.images[0, 0, :, 5].tolist() == [0] * 8 + [255] * 8


def test_links_and_inner_folders_are_followed_and_hidden_files_are_not(own, tmp_path):
    (own / "train" / "cat").rename(tmp_path / "cats")
    (own / "train" / "cat").symlink_to(tmp_path / "cats")
    paint(tmp_path / "cats" / "more" / "3.jpg")
    (own / "train" / ".DS_Store").write_text("x")
    (own / "train" / "dog" / ".hidden.png").write_text("x")
    (own / "train" / ".cache" / "deep").mkdir(parents=True)
    (own / "train" / ".cache" / "deep" / "x.png").write_text("x")
    got = load(f"folder:{own}?side=8")
    assert got.task.classes == ("cat", "dog") and np.bincount(got.train.labels).tolist() == [4, 3]


def without(own, *labels):
    for part in ("train", "test"):
        for label in labels:
            (own / part / label).rename(own / f"{part}-{label}")


def truncated(own):
    whole = paint(own / "train/cat/cut.jpg", (99, 99))
    whole.write_bytes(whole.read_bytes()[:700])


def deep(own):
    Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)).save(own / "train/cat/deep.png")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda own: (own / "train/eel").mkdir(), ("train/eel", "holds no image")),
        (lambda own: paint(own / "test/eel/x.png"), ("'eel'", "test images only")),
        (lambda own: paint(own / "train/eel/x.png"), ("'eel'", "training images only")),
        (lambda own: without(own, "dog"), ("1 class folders ('cat')", "two or more")),
        (lambda own: without(own, "cat", "dog"), ("0 class folders", "two or more")),
        (lambda own: (own / "test").rename(own / "tset"), ("own/test is missing", "test/<class>/*")),
        (lambda own: (own / "train/cat/notes.txt").write_text("a cat"), ("cat/notes.txt", "is not an image")),
        (lambda own: (own / "train/cat/false.png").write_text("a cat"), ("cat/false.png", "is not an image")),
        (lambda own: (own / "train/cat/empty.png").touch(), ("cat/empty.png", "is not an image")),
        (lambda own: paint(own / "train/loose.png"), ("train/loose.png", "no class folder")),
        (lambda own: (own / "train/cat/x.png").symlink_to("nowhere"), ("cat/x.png", "No such file")),
        (truncated, ("train/cat/cut.jpg", "truncated")),
        (deep, ("train/cat/deep.png", "8 bits")),
    ],
)
@pytest.mark.parametrize("side", ["", "?side=16"])
def test_an_unusable_folder_is_one_line(spoil, says, side, own):
    spoil(own)
    refused(lambda: load(f"folder:{own}{side}"), *says)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder:/x?side=7", "side=7 is not a whole number from 8 to 512"),
        ("folder:/x?side=big", "side=big"),
        ("folder:/x?side=", "side= is not"),
        ("folder:/x?size=32", "unknown option 'size'; known: side"),
        ("folder:pictures?side=32", "not an absolute path"),
        ("folder:", "not an absolute path"),
        ("folder:/no/such/place", "/no/such/place/train is missing"),
    ],
)
def test_a_folders_name_is_checked(name, says):
    refused(lambda: catalog.describe(name), says)
    refused(lambda: load(name), says)
