"""The whole way to FID, on a file with the published layout and random weights: never downloads, never lies.

The numbers are no FID, for the weights are random; they must equal pytorch-fid's own on the same file.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import socket

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from numpy.testing import assert_allclose
from PIL import Image
from pytorch_fid import fid_score, inception

from harness.errors import Unavailable
from harness.metrics import fid
from harness.metrics.base import evaluate
from harness.metrics.distance import frechet_features, kid
from harness.metrics.fid import WEIGHTS, features, load_inception, weights_file
from tests import build

N = 3


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path):
    """No weights in torch's cache, and nobody gets a connection."""

    def refuse(*args, **kwargs):
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


def pictures(n, channels, seed):
    """Smooth pictures of unlike brightness, (n, C, 8, 8) uint8."""
    rng = np.random.default_rng(seed)
    wide = rng.integers(0, 256, (n, channels, 2, 2)).astype(np.uint8)
    return np.repeat(np.repeat(wide, 4, axis=2), 4, axis=3)


def evidence(made, real, **more):
    task = build.a_task(8, made.shape[1], 2)
    return build.evidence(build.samples([0] * len(made), task, images=made), task, test=real, **more)


def in_their_span(a, b):
    """The same points in as few coordinates as they need: distances stay, 2048 x 2048 roots go."""
    both = np.concatenate([a, b]).astype(np.float64)
    q = np.linalg.qr(both.T)[0]
    return a @ q, b @ q


def score(logits):
    """Inception Score by scipy's relative entropy, an image at a time."""
    p = scipy.special.softmax(np.asarray(logits, np.float64), axis=1)
    return np.exp(np.mean([scipy.stats.entropy(row, p.mean(0)) for row in p]))


def test_the_whole_path_equals_pytorch_fid(known, tmp_path, monkeypatch):
    made, real = pictures(N + 2, 3, 0), pictures(N, 3, 1)
    ev = evidence(made, real, inception=known)
    numbers, unavailable, _ = evaluate(ev, ["fid", "kid", "inception_score"])
    assert not unavailable

    # theirs: their loader on the same file in torch's cache, their resize, PNG files
    monkeypatch.setenv("TORCH_HOME", str(known.parents[2]))
    theirs = inception.InceptionV3([3]).eval()
    found = []
    for name, images in (("made", made[:N]), ("real", real)):
        folder = tmp_path / name
        folder.mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image.transpose(1, 2, 0)).save(folder / f"{i}.png")
        files = [folder / f"{i}.png" for i in range(N)]
        found.append(fid_score.get_activations(files, theirs, 50, 2048, "cpu", num_workers=0))
    assert ev.features is not None
    for ours, their in zip(ev.features[:2], found, strict=True):
        assert ours.shape == (N, 2048) and ours.dtype == np.float32
        assert their.std(0).mean() > 0.05 * their.mean()  # the pictures differ to this network
        assert_allclose(ours, their, rtol=0, atol=1e-5 * their.max())

    a, b = in_their_span(*found)
    sqrtm = scipy.linalg.sqrtm
    monkeypatch.setattr(fid_score.linalg, "sqrtm", lambda m, disp=True: (sqrtm(m), 0.0))
    distance = fid_score.calculate_frechet_distance(
        a.mean(0), np.cov(a, rowvar=False), b.mean(0), np.cov(b, rowvar=False)
    )
    assert_allclose(frechet_features(*found), distance, rtol=1e-6)
    assert numbers == {
        f"fid_{N}_test": pytest.approx(distance, rel=1e-4),
        f"kid_{N}_test": pytest.approx(kid(*found), rel=1e-4),
        f"is_{N}_samples": pytest.approx(score(found[0] @ ev.features[2].T), rel=1e-4),
        f"is_{N}_test": pytest.approx(score(found[1] @ ev.features[2].T), rel=1e-4),
    }
    assert numbers[f"fid_{N}_test"] > 0.01 and 1.01 < numbers[f"is_{N}_samples"] < N


@pytest.fixture(scope="module")
def loaded(planted):
    """What `load_inception` gives of the planted file, and torch's random state before and after."""
    digest = hashlib.sha256(planted.read_bytes()).hexdigest()
    before = torch.get_rng_state()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fid, "SHA256", digest[:8])
        net, head, found = load_inception(planted)
    assert found == digest
    assert torch.equal(torch.get_rng_state(), before), "loading draws no random number"
    assert inception.load_state_dict_from_url.__module__ == "torch.hub"  # given back
    return net, head


def test_the_head_makes_the_logits_of_the_whole_network(loaded, planted, monkeypatch):
    net, head = loaded
    assert not net.training and not any(p.requires_grad for p in net.parameters())
    state = torch.load(planted, weights_only=True)
    monkeypatch.setattr(inception, "load_state_dict_from_url", lambda *a, **k: state)
    whole = inception.fid_inception_v3().eval()
    images = pictures(1, 3, 0)
    with torch.no_grad():
        x = torch.from_numpy(images).float() / 255
        logits = whole(2 * torch.nn.functional.interpolate(x, size=(299, 299), mode="bilinear") - 1)
    without_bias = (logits - whole.fc.bias).detach().numpy()
    assert head.shape == (1008, 2048) and without_bias.std() > 0.1
    off = 1e-5 * np.abs(without_bias).max()
    assert_allclose(features(net, images, "cpu") @ head.T, without_bias, rtol=0, atol=off)


def test_grey_images_are_repeated_and_others_refused(loaded):
    net, _ = loaded
    grey = pictures(1, 1, 0)
    assert_allclose(features(net, grey, "cpu"), features(net, np.repeat(grey, 3, axis=1), "cpu"), rtol=1e-4)
    with pytest.raises(Unavailable, match="1 or 3 channels, not 2"):
        features(net, pictures(2, 2, 0), "cpu")


def npy(array):
    """What ``np.save`` writes."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


class TestCache:
    @pytest.fixture
    def counted(self, monkeypatch):
        """A stand-in for the network: features are pixels; says what it was asked for."""
        asked = []

        def pixels(net, images, device):
            asked.append(len(images))
            flat = images.reshape(len(images), -1).astype(np.float32)
            return np.tile(flat, (1, 2048 // flat.shape[1] + 1))[:, :2048]

        head = np.zeros((1008, 2048), np.float32)
        monkeypatch.setattr(fid, "load_inception", lambda file: (None, head, "d" * 64))
        monkeypatch.setattr(fid, "features", pixels)
        return asked

    def measure(self, tmp_path, *, made=5, real=9, digest="data", device="cpu", names=("fid", "kid")):
        ev = evidence(
            pictures(made, 3, 0),
            pictures(real, 3, 1),
            inception=tmp_path / "any",
            cache=tmp_path / "cache",
            data_digest=digest,
            device=device,
        )
        return evaluate(ev, names)[0]

    def test_test_features_are_computed_once(self, counted, tmp_path):
        every = ("inception_score", "fid", "kid")
        first = self.measure(tmp_path, names=every)
        assert counted == [5, 5]  # the metrics share them
        assert self.measure(tmp_path, names=every[::-1]) == first
        assert counted == [5, 5, 5]
        assert [f.suffix for f in (tmp_path / "cache" / "inception").iterdir()] == [".npy"]

    @pytest.mark.parametrize("other", [{"digest": "else"}, {"made": 6}, {"device": "cuda:0"}])
    def test_other_data_size_or_device_is_another_entry(self, counted, tmp_path, other):
        self.measure(tmp_path)
        self.measure(tmp_path, **other)
        assert len(counted) == 4

    @pytest.mark.parametrize("damage", [b"", b"\x93NUMPY torn", b"nothing", npy(np.zeros((4, 2048)))])
    def test_a_damaged_entry_or_one_of_another_shape_is_made_again(self, counted, tmp_path, damage):
        first = self.measure(tmp_path)
        (entry,) = (tmp_path / "cache" / "inception").iterdir()
        entry.write_bytes(damage)
        assert self.measure(tmp_path) == first
        assert np.load(entry).shape == (5, 2048)

    def test_a_cache_that_cannot_be_written_costs_nothing_but_time(self, counted, tmp_path):
        (tmp_path / "cache").write_text("a file where a folder should be")
        assert self.measure(tmp_path).keys() == {"fid_5_test", "kid_5_test"}

    def test_n_is_the_least_of_limit_test_and_samples(self, counted, tmp_path, monkeypatch):
        assert self.measure(tmp_path, made=9, real=5).keys() == {"fid_5_test", "kid_5_test"}
        monkeypatch.setattr(fid, "MOST", 3)
        assert self.measure(tmp_path, made=9, real=5).keys() == {"fid_3_test", "kid_3_test"}

    def test_looks_beyond_what_the_store_keeps(self, counted, tmp_path, monkeypatch):
        monkeypatch.setattr(fid, "kid", lambda made, real: len(made) + len(real) / 1e4)
        assert self.measure(tmp_path, made=2010, real=2005, names=["kid"]) == {"kid_2005_test": 2005.2005}


class Bomb:
    """Unpickled, it opens a file."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return (open, (str(self.folder / "exploded"), "w"))


class TestWeights:
    def columns(self, file):
        numbers, unavailable, _ = evaluate(
            evidence(pictures(3, 3, 0), pictures(4, 3, 1), inception=file), ["fid", "kid", "inception_score"]
        )
        assert numbers == {}
        # the column, for methods of any n
        assert unavailable.keys() == {"fid_4_test", "kid_4_test", "is_4_samples"}
        assert len(set(unavailable.values())) == 1
        return unavailable["fid_4_test"]

    def test_none_says_how_to_get_them(self):
        reason = self.columns(None)
        assert reason.startswith("no Inception weights") and "--inception-weights" in reason
        assert reason.split()[4] == inception.FID_WEIGHTS_URL

    def test_missing_file(self, tmp_path):
        said = f"Inception weights {tmp_path}/no.pth: No such file or directory"
        assert self.columns(tmp_path / "no.pth") == said

    def test_another_file_is_not_opened(self, tmp_path):
        file = tmp_path / WEIGHTS
        file.write_bytes(pickle.dumps(Bomb(tmp_path)))
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        assert f"have SHA-256 {digest[:8]}..., not 6726825d..." in self.columns(file)
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize("old", [True, False])
    def test_a_pickle_payload_is_not_run_whatever_its_digest(self, tmp_path, monkeypatch, old):
        file = tmp_path / "bomb.pth"
        torch.save({"w": Bomb(tmp_path)}, file, _use_new_zipfile_serialization=not old)
        monkeypatch.setattr(fid, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest()[:8])
        assert self.columns(file) == f"Inception weights {file} are not a plain state dict"
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize("state", [{"w": torch.zeros(2)}, torch.zeros(2)])
    def test_weights_that_do_not_fit(self, tmp_path, monkeypatch, state):
        file = tmp_path / "other.pth"
        torch.save(state, file)
        monkeypatch.setattr(fid, "SHA256", hashlib.sha256(file.read_bytes()).hexdigest()[:8])
        reason = self.columns(file)
        assert reason.startswith(f"Inception weights {file} do not fit pytorch-fid's network: ")
        assert "\n" not in reason
        assert inception.load_state_dict_from_url.__module__ == "torch.hub"  # given back

    def test_found_where_torch_keeps_downloads(self, tmp_path, monkeypatch):
        assert weights_file() is None
        for variable, home in (("TORCH_HOME", "a"), ("XDG_CACHE_HOME", "b/torch")):
            monkeypatch.delenv("TORCH_HOME", raising=False)
            monkeypatch.setenv(variable, str(tmp_path / home.split("/")[0]))
            file = tmp_path / home / "hub" / "checkpoints" / WEIGHTS
            assert file.parent.parent == type(file)(torch.hub.get_dir())
            file.parent.mkdir(parents=True)
            file.write_bytes(b"")
            assert weights_file() == file
        given = tmp_path / "given.pth"
        assert weights_file(given) == given
