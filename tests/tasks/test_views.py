"""Views of images: each worked by hand from the same draws, and a law."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from harness.tasks import views
from harness.trials.toy import TOY
from tests.methods.by_hand import cropped

IMAGES = torch.rand(6, 3, 5, 4, generator=torch.Generator().manual_seed(0))
SQUARE = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
VIEWS = {
    "crop": lambda x, rng: views.crop(x, 2, rng),
    "flip": views.flip,
    "flip_all": views.flip_all,
    "jitter": lambda x, rng: views.jitter(x, 2, rng),
    "zoom": lambda x, rng: views.zoom(x, 0.25, rng),
}
each_view = pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@each_view
def test_a_view_keeps_the_shape_follows_its_stream_and_leaves_torchs_own(view):
    ambient = torch.get_rng_state()
    one, two = (view(IMAGES, rng(3)) for _ in range(2))
    assert torch.equal(ambient, torch.get_rng_state())
    assert torch.equal(one, two) and one.shape == IMAGES.shape and one.dtype == IMAGES.dtype


@each_view
def test_gradients_flow_through_a_view(view):
    x = IMAGES[:2].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda u: view(u, rng(4)), (x,))


@pytest.mark.parametrize("name", ["flip", "flip_all", "jitter", "zoom"])
def test_a_constant_image_stays_so(name):
    assert torch.allclose(VIEWS[name](torch.full_like(IMAGES, 0.7), rng(5)), torch.tensor(0.7))


def test_the_margin_is_an_eighth_and_at_least_a_pixel():
    assert [views.margin(side) for side in (4, 8, 15, 28, 32, 64)] == [1, 1, 1, 3, 4, 8]


def test_a_crop_is_a_slice_of_the_padded_image():
    assert torch.equal(views.crop(IMAGES, 2, rng(7)), cropped(IMAGES, 2, rng(7)))


def test_a_crop_brings_in_black_and_reaches_every_offset():
    x = torch.zeros(900, 1, 3, 3)
    x[:, :, 1, 1] = 1  # where the one pixel lands says the offset
    out = views.crop(x, 1, rng(8)).flatten(1)
    assert (out.sum(1) == 1).all()
    # 900 draws of 9 equal offsets: 100 each, five standard deviations of sqrt(900 / 9 * 8 / 9) = 9.4
    assert ((out.sum(0) - 100).abs() < 47).all()
    assert (views.crop(torch.ones(60, 1, 2, 2), 2, rng(1)) == 0).any()


def test_a_flip_mirrors_those_that_drew_below_a_half():
    drawn = torch.rand(6, generator=rng(2)) < 0.5
    assert 0 < drawn.sum() < 6
    out = views.flip(IMAGES, rng(2))
    for i, mirrored in enumerate(drawn):
        expected = torch.tensor(IMAGES[i].numpy()[:, :, ::-1].copy()) if mirrored else IMAGES[i]
        assert torch.equal(out[i], expected)
    assert torch.equal(views.flip(out, rng(2)), IMAGES)  # twice is not at all


def test_a_whole_batch_is_mirrored_together_half_of_the_time():
    mirrored = []
    for seed in range(40):
        out = views.flip_all(IMAGES, rng(seed))
        mirrored.append(torch.equal(out, torch.tensor(IMAGES.numpy()[..., ::-1].copy())))
        assert mirrored[-1] or torch.equal(out, IMAGES)
    assert 8 <= sum(mirrored) <= 32  # 20 +- 4 standard deviations


@pytest.mark.parametrize("seed", range(6))
def test_a_jitter_is_a_roll_by_one_offset_for_all(seed):
    dy, dx = torch.randint(-2, 3, (2, 1), generator=rng(seed)).flatten().tolist()
    assert torch.equal(views.jitter(IMAGES, 2, rng(seed)), torch.roll(IMAGES, (dy, dx), (2, 3)))


def test_a_jitter_of_more_than_the_side_goes_round():
    out = views.jitter(IMAGES, 11, rng(3))
    assert torch.equal(out.flatten(2).sort()[0], IMAGES.flatten(2).sort()[0])


@pytest.mark.parametrize("low", [1.0, 0.25, 0.01])
def test_a_zoom_is_a_window_read_between_the_pixels(low):
    """By scipy: window [top, top + tall H), its pixel centres at top + (i + 1/2) tall - 1/2."""
    area, aspect, at_y, at_x = torch.rand(4, len(IMAGES), generator=rng(9)).double().numpy()
    out = views.zoom(IMAGES, low, rng(9))
    for i, image in enumerate(IMAGES.double().numpy()):
        share, ratio = low + (1 - low) * area[i], (3 / 4) * (16 / 9) ** aspect[i]  # log-uniform, 3/4 to 4/3
        tall, wide = min(1, (share / ratio) ** 0.5), min(1, (share * ratio) ** 0.5)
        if tall < 1 and wide < 1:
            assert tall * wide == pytest.approx(share)
        height, width = image.shape[1:]
        rows = at_y[i] * (1 - tall) * height + (np.arange(height) + 0.5) * tall - 0.5
        cols = at_x[i] * (1 - wide) * width + (np.arange(width) + 0.5) * wide - 0.5
        where = np.meshgrid(rows, cols, indexing="ij")
        for c, plane in enumerate(image):
            expected = map_coordinates(plane, where, order=1, mode="nearest")
            assert np.allclose(out[i, c], expected, atol=1e-5)


def test_a_zoom_of_the_whole_at_aspect_one_is_the_image(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.full(shape, 0.5))
    assert torch.allclose(views.zoom(SQUARE, 1.0, rng()), SQUARE, atol=1e-6)


def test_a_zoom_invents_no_brightness():
    out = views.zoom(SQUARE, 0.05, rng(2))
    low, high = SQUARE.flatten(1).min(1)[0], SQUARE.flatten(1).max(1)[0]
    assert (out.flatten(1).min(1)[0] >= low - 1e-6).all() and (out.flatten(1).max(1)[0] <= high + 1e-6).all()


@pytest.mark.parametrize("bears", [(), ("pad",), ("flip",), ("pad", "flip"), ("rotation",)])
def test_an_augmentation_is_what_the_task_bears(bears):
    task = dataclasses.replace(TOY, augment=frozenset(bears))
    beside, out = rng(6), views.augment(SQUARE, task, rng(6))
    expected = SQUARE
    if "pad" in bears:
        expected = cropped(expected, 1, beside)  # 8 / 8
    if "flip" in bears:
        mirrored = torch.rand(len(SQUARE), generator=beside) < 0.5
        expected = torch.stack(
            [x.flip(2) if m else x for x, m in zip(expected, mirrored.tolist(), strict=True)]
        )
    assert torch.equal(out, expected)
