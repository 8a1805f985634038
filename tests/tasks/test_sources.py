"""Digits, MNIST and CIFAR: fixed splits, true file formats, one clear line when something is bad."""

from __future__ import annotations

import gzip
import hashlib
import os
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torchvision import datasets

from harness.tasks import catalog
from harness.tasks.images import load
from tests.build import idx, mnist, refused, write

REAL = os.environ.get("DFKD_DATA_ROOT")

# --- digits -------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_split_half_and_half_class_by_class():
    from sklearn.datasets import load_digits

    got, all_of_them = load("digits"), load_digits()
    assert got.train.images.shape[1:] == (1, 8, 8) and got.train.images.dtype == np.uint8
    assert got.train.labels.dtype == np.int64
    ours = sorted(
        (int(y), x.tobytes()) for s in (got.train, got.test) for x, y in zip(s.images, s.labels, strict=True)
    )
    theirs = sorted(
        (int(y), np.array([round(v * 255 / 16) for v in x], dtype=np.uint8).tobytes())
        for x, y in zip(all_of_them.data, all_of_them.target, strict=True)
    )
    assert ours == theirs  # every image once, in one of the two
    train, test = np.bincount(got.train.labels), np.bincount(got.test.labels)
    assert np.abs(train - test).max() <= 1 and abs(len(got.train) - len(got.test)) <= 1


def test_the_split_of_digits_belongs_to_version_1():
    # Where this fails the split has changed: raise the task's version, then note the new digest here.
    assert catalog.version("digits") == 1
    assert load("digits").digest.startswith("2272f88fb58e0d90")


def test_digits16_is_the_same_split_enlarged_bilinearly():
    small, wide = load("digits"), load("digits16")
    for part in ("train", "val", "test"):
        a, b = getattr(small, part), getattr(wide, part)
        assert np.array_equal(a.labels, b.labels)
        want = F.interpolate(torch.tensor(a.images).double(), size=16, mode="bilinear", align_corners=False)
        assert np.abs(want.numpy() - b.images).max() <= 1  # 8-bit rounding, once an axis


@pytest.mark.parametrize("name", ["digits", "digits16"])
def test_the_normaliser_of_digits_is_that_of_its_training_images(name):
    got = load(name)
    pixels = got.train.images.astype(np.float64) / 255
    assert got.task.mean == (round(pixels.mean(), 4),)
    assert got.task.std == (round(pixels.std(), 4),)


# --- MNIST --------------------------------------------------------------------------------------


def test_mnist_is_read_from_its_own_files(tmp_path):
    files = mnist()
    write(tmp_path / "MNIST" / "raw", files)
    got = load("mnist", tmp_path)
    assert got.train.images.shape == (40, 1, 28, 28) and got.test.images.shape == (20, 1, 28, 28)
    assert got.train.images.tobytes() == files["train-images-idx3-ubyte"][16:]
    assert got.test.images.tobytes() == files["t10k-images-idx3-ubyte"][16:]
    assert got.test.labels.tolist() == list(range(10)) * 2
    assert np.bincount(got.val.labels).tolist() == [1] * 10  # of four a class: a tenth, but one at least
    assert len(got.digest) == 64


def test_missing_mnist_says_where_and_how(tmp_path):
    home = tmp_path / "MNIST" / "raw"
    says = (str(home), "--data-root", "DFKD_DATA_ROOT", "dfkd tasks --download mnist")
    refused(lambda: load("mnist", tmp_path), *says)
    assert not list(tmp_path.iterdir())  # looking makes no folder
    write(home, mnist())
    (home / "t10k-labels-idx1-ubyte").unlink()
    refused(lambda: load("mnist", tmp_path), *says)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("train-images-idx3-ubyte", mnist()["train-images-idx3-ubyte"][:-100], "damaged"),
        ("train-images-idx3-ubyte", b"", "damaged"),
        ("t10k-images-idx3-ubyte", b"<html>not here</html>", "damaged"),
        ("train-labels-idx1-ubyte", idx((np.arange(39) % 10).astype(np.uint8)), "for 39 labels"),
        ("train-labels-idx1-ubyte", idx((np.arange(40) % 9).astype(np.uint8)), "9 distinct labels"),
        ("t10k-labels-idx1-ubyte", idx(np.arange(20).astype(np.uint8)), "test has 20 distinct labels"),
    ],
)
def test_damaged_mnist_is_one_line(file, content, says, tmp_path):
    write(tmp_path / "MNIST" / "raw", mnist() | {file: content})
    refused(lambda: load("mnist", tmp_path), "mnist", says)


def test_mnist_is_fetched_only_on_request_and_verified(server, tmp_path, monkeypatch):
    address, served = server
    packed = {f"{name}.gz": gzip.compress(content) for name, content in mnist().items()}
    write(served, packed)
    monkeypatch.setattr(datasets.MNIST, "mirrors", [f"{address}/"])
    # the published checksums are not those of our files
    refused(lambda: load("mnist", tmp_path, download=True), "cannot be fetched", "corrupted")
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in packed.items()]
    monkeypatch.setattr(datasets.MNIST, "resources", sums)
    refused(lambda: load("mnist", tmp_path), "missing")
    assert len(load("mnist", tmp_path, download=True).train) == 40
    assert len(load("mnist", tmp_path).test) == 20  # it is there now
    (served / "t10k-labels-idx1-ubyte.gz").unlink()
    refused(lambda: load("mnist", tmp_path / "b", download=True), "cannot be fetched", "404")


@pytest.mark.skipif(
    REAL is None or not (Path(REAL) / "MNIST" / "raw").is_dir(), reason="DFKD_DATA_ROOT holds no MNIST"
)
def test_the_real_mnist():
    got = load("mnist", Path(str(REAL)))
    assert (len(got.train), len(got.test)) == (60_000, 10_000)
    # label counts of the published test set
    assert np.bincount(got.test.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = got.train.images / 255
    assert got.task.mean == (round(pixels.mean(), 4),) and got.task.std == (round(pixels.std(), 4),)
    assert abs(len(got.val) - 6000) <= 5


# --- CIFAR --------------------------------------------------------------------------------------


def cifar_files(name: str) -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    """Files of the python version (rows of 3072 bytes: red plane, green, blue) and what they hold."""
    stream, n = np.random.default_rng(1), 20 if name == "cifar10" else 200
    parts = [f"data_batch_{i}" for i in range(1, 6)] if name == "cifar10" else ["train"]
    key = "labels" if name == "cifar10" else "fine_labels"
    classes = 10 if name == "cifar10" else 100
    files, rows = {}, {}
    for part in [*parts, "test_batch" if name == "cifar10" else "test"]:
        rows[part] = stream.integers(0, 256, (n, 3072), dtype=np.uint8)
        files[part] = pickle.dumps({"data": rows[part], key: [i % classes for i in range(n)]})
    meta, names = ("batches.meta", "label_names") if name == "cifar10" else ("meta", "fine_label_names")
    files[meta] = pickle.dumps({names: [str(k) for k in range(classes)]})
    return files, rows


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, bytes], dict[str, np.ndarray]]:
    """A task's name, files and contents, with torchvision expecting the checksums of these files."""
    files, rows = cifar_files(request.param)
    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[request.param]
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    lists = {
        "train_list": [[n, sums[n]] for n, _ in source.train_list],
        "test_list": [[n, sums[n]] for n, _ in source.test_list],
        "meta": source.meta | {"md5": sums[source.meta["filename"]]},
    }
    for field, value in lists.items():
        monkeypatch.setattr(source, field, value)
    return request.param, files, rows


HOMES = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def test_cifar_is_read_plane_by_plane(cifar, tmp_path):
    name, files, rows = cifar
    write(tmp_path / HOMES[name], files)
    got = load(name, tmp_path)
    *train, test = rows.values()
    assert np.array_equal(got.train.images, np.concatenate(train).reshape(-1, 3, 32, 32))
    assert np.array_equal(got.test.images, test.reshape(-1, 3, 32, 32))
    assert got.train.images.flags.c_contiguous
    assert got.test.labels.tolist() == [i % got.task.K for i in range(len(test))]


def test_missing_or_altered_cifar_is_one_line(cifar, tmp_path):
    name, files, _ = cifar
    home = tmp_path / HOMES[name]
    says = (str(home), "--data-root", "DFKD_DATA_ROOT", f"dfkd tasks --download {name}")
    refused(lambda: load(name, tmp_path), *says)
    for file in files:
        write(home, files | {file: files[file][:-1]})
        refused(lambda: load(name, tmp_path), "missing or damaged", *says)


def test_cifar_is_fetched_on_request_and_verified(cifar, server, tmp_path, monkeypatch):
    (name, files, _), (address, served) = cifar, server
    archive = served / "archive.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(write(tmp_path / "made", files), arcname=HOMES[name])
    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    monkeypatch.setattr(source, "url", f"{address}/{archive.name}")
    refused(lambda: load(name, tmp_path / "a", download=True), "cannot be fetched", "corrupted")
    monkeypatch.setattr(source, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    fetched = load(name, tmp_path / "a", download=True)
    archive.unlink()
    assert fetched.digest == load(name, tmp_path / "a", download=True).digest  # nothing to fetch
    refused(lambda: load(name, tmp_path / "b", download=True), "cannot be fetched", "404")
    blocked = tmp_path / "file"
    blocked.write_text("")
    refused(lambda: load(name, blocked, download=True), "cannot be fetched", str(blocked))
