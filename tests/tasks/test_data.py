"""Tasks and their images: fixed splits, true file formats, and one clear line when something is bad."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import threading
import warnings
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torchvision import datasets

from harness.config import Task
from harness.errors import DfkdError
from harness.tasks import cache, catalog, folders, tiny_imagenet, views
from harness.tasks.images import Loader, Split, data_root, load

CPU = torch.device("cpu")
REAL = os.environ.get("DFKD_DATA_ROOT")


@pytest.fixture(autouse=True)
def own_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DFKD_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DFKD_DATA_ROOT", raising=False)


def refused(call: Callable[[], Any], *says: str) -> None:
    with pytest.raises(DfkdError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    for words in says:
        assert words in text


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


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
        thread = threading.Thread(target=web.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{web.server_port}", served
        web.shutdown()


# --- digits -------------------------------------------------------------------------------------


def test_digits_are_scikit_learns_split_half_and_half_class_by_class() -> None:
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


def test_the_split_of_digits_belongs_to_version_1() -> None:
    # Where this fails the split has changed: raise the task's version, then note the new digest here.
    assert catalog.version("digits") == 1
    assert load("digits").digest.startswith("2272f88fb58e0d90")


def test_digits16_is_the_same_split_enlarged_bilinearly() -> None:
    small, wide = load("digits"), load("digits16")
    for part in ("train", "val", "test"):
        a, b = getattr(small, part), getattr(wide, part)
        assert np.array_equal(a.labels, b.labels)
        want = F.interpolate(torch.tensor(a.images).double(), size=16, mode="bilinear", align_corners=False)
        assert np.abs(want.numpy() - b.images).max() <= 1  # 8-bit rounding, once an axis


@pytest.mark.parametrize("name", ["digits", "digits16"])
def test_the_normaliser_of_digits_is_that_of_its_training_images(name: str) -> None:
    got = load(name)
    pixels = got.train.images.astype(np.float64) / 255
    assert got.task.mean == (round(pixels.mean(), 4),)
    assert got.task.std == (round(pixels.std(), 4),)


def test_val_is_a_stratified_tenth_of_train() -> None:
    got = load("digits")
    known = {(int(y), x.tobytes()) for x, y in zip(got.train.images, got.train.labels, strict=True)}
    held = [(int(y), x.tobytes()) for x, y in zip(got.val.images, got.val.labels, strict=True)]
    assert set(held) <= known and len(set(held)) == len(held)
    assert np.abs(np.bincount(got.val.labels) - np.bincount(got.train.labels) / 10).max() <= 0.5
    again = load("digits")
    assert np.array_equal(again.val.images, got.val.images) and again.digest == got.digest


# --- descriptions -------------------------------------------------------------------------------


def test_names_and_versions_load_no_heavy_package() -> None:
    code = (
        "import sys; from harness.tasks import catalog as data\n"
        "[data.version(n) for n in [*data.names(), 'folder:/x']]\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'sklearn', 'PIL', 'pooch', 'pandas'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("name", "shape", "classes", "augment"),
    [
        ("digits", (1, 8, 8), 10, {"pad"}),
        ("digits16", (1, 16, 16), 10, {"pad"}),
        ("mnist", (1, 28, 28), 10, {"pad"}),
        ("cifar10", (3, 32, 32), 10, {"pad", "flip"}),
        ("cifar100", (3, 32, 32), 100, {"pad", "flip"}),
        ("tiny_imagenet", (3, 64, 64), 200, {"pad", "flip"}),
    ],
)
def test_a_built_in_task_is_described_without_a_file(
    name: str, shape: tuple[int, int, int], classes: int, augment: set[str], tmp_path: Path
) -> None:
    task = catalog.describe(name, tmp_path / "nothing")
    assert (task.name, task.shape, task.K, task.augment) == (name, shape, classes, augment)
    assert len(set(task.classes)) == classes and len(task.mean) == len(task.std) == shape[0]
    assert hash(task) == hash(catalog.describe(name))


def test_the_tasks_are_listed_and_an_unknown_one_gets_the_nearest_name() -> None:
    assert catalog.names() == ["digits", "digits16", "mnist", "cifar10", "cifar100", "tiny_imagenet"]
    for call in (catalog.version, catalog.describe, load):
        refused(lambda call=call: call("cifar11"), "unknown task 'cifar11'", "did you mean 'cifar10'")  # type: ignore[misc]


def test_the_data_root_is_as_given_else_the_variable_else_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    assert data_root(None).name == "data" and data_root(None).parent.name == "dfkd-bench"
    monkeypatch.setenv("DFKD_DATA_ROOT", "/env")
    assert data_root(None) == Path("/env")
    assert data_root(Path("/given")) == Path("/given")


# --- MNIST --------------------------------------------------------------------------------------


def idx(array: np.ndarray) -> bytes:
    """The IDX format: two zero bytes, 8 for unsigned bytes, the rank, the sizes big-endian, the values."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def mnist_files(n_train: int = 40, n_test: int = 20) -> dict[str, bytes]:
    stream = np.random.default_rng(0)
    files = {}
    for part, n in (("train", n_train), ("t10k", n_test)):
        files[f"{part}-images-idx3-ubyte"] = idx(stream.integers(0, 256, (n, 28, 28), dtype=np.uint8))
        files[f"{part}-labels-idx1-ubyte"] = idx((np.arange(n) % 10).astype(np.uint8))
    return files


def write(root: Path, files: dict[str, bytes]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (root / name).write_bytes(content)
    return root


def test_mnist_is_read_from_its_own_files(tmp_path: Path) -> None:
    files = mnist_files()
    write(tmp_path / "MNIST" / "raw", files)
    got = load("mnist", tmp_path)
    assert got.train.images.shape == (40, 1, 28, 28) and got.test.images.shape == (20, 1, 28, 28)
    assert got.train.images.tobytes() == files["train-images-idx3-ubyte"][16:]
    assert got.test.images.tobytes() == files["t10k-images-idx3-ubyte"][16:]
    assert got.test.labels.tolist() == list(range(10)) * 2
    assert np.bincount(got.val.labels).tolist() == [1] * 10  # of four a class: a tenth, but one at least
    assert len(got.digest) == 64


def test_missing_mnist_says_where_and_how(tmp_path: Path) -> None:
    home = tmp_path / "MNIST" / "raw"
    says = (str(home), "--data-root", "DFKD_DATA_ROOT", "dfkd tasks --download mnist")
    refused(lambda: load("mnist", tmp_path), *says)
    assert not list(tmp_path.iterdir())  # looking makes no folder
    write(home, mnist_files())
    (home / "t10k-labels-idx1-ubyte").unlink()
    refused(lambda: load("mnist", tmp_path), *says)


@pytest.mark.parametrize(
    ("file", "content", "says"),
    [
        ("train-images-idx3-ubyte", mnist_files()["train-images-idx3-ubyte"][:-100], "damaged"),
        ("train-images-idx3-ubyte", b"", "damaged"),
        ("t10k-images-idx3-ubyte", b"<html>not here</html>", "damaged"),
        ("train-labels-idx1-ubyte", idx((np.arange(39) % 10).astype(np.uint8)), "for 39 labels"),
        ("train-labels-idx1-ubyte", idx((np.arange(40) % 9).astype(np.uint8)), "9 distinct labels"),
        ("t10k-labels-idx1-ubyte", idx(np.arange(20).astype(np.uint8)), "test has 20 distinct labels"),
    ],
)
def test_damaged_mnist_is_one_line(file: str, content: bytes, says: str, tmp_path: Path) -> None:
    write(tmp_path / "MNIST" / "raw", mnist_files() | {file: content})
    refused(lambda: load("mnist", tmp_path), "mnist", says)


def test_mnist_is_fetched_only_on_request_and_verified(
    server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = server
    packed = {f"{name}.gz": gzip.compress(content) for name, content in mnist_files().items()}
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
def test_the_real_mnist() -> None:
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


def test_cifar_is_read_plane_by_plane(
    cifar: tuple[str, dict[str, bytes], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    name, files, rows = cifar
    write(tmp_path / HOMES[name], files)
    got = load(name, tmp_path)
    *train, test = rows.values()
    assert np.array_equal(got.train.images, np.concatenate(train).reshape(-1, 3, 32, 32))
    assert np.array_equal(got.test.images, test.reshape(-1, 3, 32, 32))
    assert got.train.images.flags.c_contiguous
    assert got.test.labels.tolist() == [i % got.task.K for i in range(len(test))]


def test_missing_or_altered_cifar_is_one_line(
    cifar: tuple[str, dict[str, bytes], dict[str, np.ndarray]], tmp_path: Path
) -> None:
    name, files, _ = cifar
    home = tmp_path / HOMES[name]
    says = (str(home), "--data-root", "DFKD_DATA_ROOT", f"dfkd tasks --download {name}")
    refused(lambda: load(name, tmp_path), *says)
    for file in files:
        write(home, files | {file: files[file][:-1]})
        refused(lambda: load(name, tmp_path), "missing or damaged", *says)


def test_cifar_is_fetched_on_request_and_verified(
    cifar: tuple[str, dict[str, bytes], dict[str, np.ndarray]],
    server: tuple[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
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


def test_the_constants_of_cifar() -> None:
    # As the published code normalises; CIFAR-100 has its own.
    ten, hundred = catalog.describe("cifar10"), catalog.describe("cifar100")
    assert ten.mean == (0.4914, 0.4822, 0.4465) and ten.std == (0.2023, 0.1994, 0.2010)
    assert hundred.mean == (0.5071, 0.4867, 0.4408) and hundred.std == (0.2675, 0.2565, 0.2761)
    assert (ten.classes[0], ten.classes[9]) == ("airplane", "truck")
    assert (hundred.classes[0], hundred.classes[99]) == ("apple", "worm")


# --- Tiny-ImageNet ------------------------------------------------------------------------------

TINY = "tiny-imagenet-200"
WNIDS = [f"n{k * 37 + 1000000:08d}" for k in range(200)]


def jpeg(level: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64), (level, 255 - level, 7)).save(out, "JPEG", quality=95)
    return out.getvalue()


def tiny_members() -> dict[str, bytes]:
    """The official layout with one image a class in train and in val, level = class; val runs backwards."""
    members = {f"{TINY}/wnids.txt": "\n".join(WNIDS[::-1]).encode()}
    notes = []
    for k, wnid in enumerate(WNIDS):
        members[f"{TINY}/train/{wnid}/{wnid}_boxes.txt"] = f"{wnid}_0.JPEG\t0\t0\t63\t63\n".encode()
        members[f"{TINY}/train/{wnid}/images/{wnid}_0.JPEG"] = jpeg(k)
        notes.append(f"val_{199 - k}.JPEG\t{wnid}\t0\t0\t63\t63")
        members[f"{TINY}/val/images/val_{199 - k}.JPEG"] = jpeg(k)
        members[f"{TINY}/test/images/test_{k}.JPEG"] = b"of no use"
    members[f"{TINY}/val/val_annotations.txt"] = "\n".join(notes).encode() + b"\n"
    return members


@pytest.fixture(scope="module")
def members() -> dict[str, bytes]:
    return tiny_members()


def pack(
    path: Path, members: dict[str, bytes], extra: tuple[zipfile.ZipInfo | str, bytes] | None = None
) -> Path:
    with zipfile.ZipFile(path, "w") as zipped:
        for name, content in [*members.items(), *([extra] if extra else [])]:
            zipped.writestr(name, content)
    return path


def level(split: Split) -> np.ndarray:
    return split.images[:, 0].mean((1, 2)).round()


def test_tiny_imagenet_is_unpacked_once_and_its_val_is_the_test_split(
    members: dict[str, bytes], tmp_path: Path
) -> None:
    archive = pack(tmp_path / f"{TINY}.zip", members)
    got = load("tiny_imagenet", tmp_path)
    assert got.train.images.shape == got.test.images.shape == (200, 3, 64, 64)
    for split in (got.train, got.test):
        assert split.labels.tolist() == list(range(200))
        assert np.abs(level(split) - split.labels).max() <= 2  # JPEG
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == ["cache", TINY, archive.name]
    archive.unlink()
    assert load("tiny_imagenet", tmp_path).digest == got.digest


def test_tiny_imagenet_that_somebody_regrouped_is_read_alike(
    members: dict[str, bytes], tmp_path: Path
) -> None:
    pack(tmp_path / f"{TINY}.zip", members)
    want = load("tiny_imagenet", tmp_path)
    val = tmp_path / TINY / "val"
    for line in (val / "val_annotations.txt").read_text().splitlines():
        file, wnid, *_ = line.split("\t")
        (val / wnid).mkdir()
        (val / "images" / file).rename(val / wnid / file)
    (val / "images").rmdir()
    assert load("tiny_imagenet", tmp_path).digest == want.digest


def test_missing_or_truncated_tiny_imagenet_is_one_line(members: dict[str, bytes], tmp_path: Path) -> None:
    says = (str(tmp_path), "--data-root", "DFKD_DATA_ROOT", "dfkd tasks --download tiny_imagenet")
    refused(lambda: load("tiny_imagenet", tmp_path), *says)
    archive = pack(tmp_path / f"{TINY}.zip", members)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    refused(lambda: load("tiny_imagenet", tmp_path), str(archive), "truncated or damaged")
    at = whole.index(members[f"{TINY}/train/{WNIDS[5]}/images/{WNIDS[5]}_0.JPEG"]) + 100
    archive.write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])  # one bit pattern inside
    refused(lambda: load("tiny_imagenet", tmp_path), str(archive), "truncated or damaged")
    assert not (tmp_path / TINY).exists() and not (tmp_path / f".{TINY}.part").exists()
    archive.write_bytes(whole)
    assert len(load("tiny_imagenet", tmp_path).train) == 200  # and nothing stands in the way


def link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return info


@pytest.mark.parametrize(
    ("member", "content"),
    [
        ("../evil.txt", b"x"),
        (f"{TINY}/../../evil.txt", b"x"),
        (f"{TINY}\\..\\..\\evil.txt", b"x"),
        ("/tmp/evil.txt", b"x"),
        ("elsewhere/evil.txt", b"x"),
        (link(f"{TINY}/evil"), b"/etc"),
    ],
)
def test_an_archive_that_leaves_its_folder_is_refused_unopened(
    member: zipfile.ZipInfo | str, content: bytes, tmp_path: Path
) -> None:
    root = tmp_path / "deep" / "root"
    root.mkdir(parents=True)
    pack(root / f"{TINY}.zip", {f"{TINY}/wnids.txt": b"n0"}, (member, content))
    refused(lambda: load("tiny_imagenet", root), "evil", "does not belong")
    assert not list(tmp_path.rglob("evil*")) and not (root / TINY).exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({f"{TINY}/val/val_annotations.txt": b"gone.JPEG\tn00000001\t0\t0\t1\t1\n"}, "gone.JPEG"),
        ({f"{TINY}/val/val_annotations.txt": b"no columns\n"}, "cannot be read"),
        ({f"{TINY}/train/n99999999/images/a.JPEG": jpeg(1)}, "training images only"),
        ({f"{TINY}/train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG": jpeg(0)[:300]}, "not an image"),
    ],
)
def test_an_archive_that_is_not_tiny_imagenet_is_one_line(
    change: dict[str, bytes], says: str, members: dict[str, bytes], tmp_path: Path
) -> None:
    pack(tmp_path / f"{TINY}.zip", members | change)
    refused(lambda: load("tiny_imagenet", tmp_path), str(tmp_path), says)


def test_tiny_imagenet_is_fetched_on_request_and_verified(
    members: dict[str, bytes], server: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, served = server
    archive = pack(served / f"{TINY}.zip", members)
    monkeypatch.setattr(tiny_imagenet, "_URL", f"{address}/{TINY}.zip")
    root = tmp_path / "root"
    refused(lambda: load("tiny_imagenet", root, download=True), "cannot be fetched", "hash")
    assert not (root / f"{TINY}.zip").exists()
    monkeypatch.setattr(tiny_imagenet, "_SHA256", hashlib.sha256(archive.read_bytes()).hexdigest())
    assert len(load("tiny_imagenet", root, download=True).train) == 200
    archive.unlink()
    refused(lambda: load("tiny_imagenet", tmp_path / "b", download=True), "cannot be fetched", "404")


# --- folders ------------------------------------------------------------------------------------


def paint(
    path: Path, size: tuple[int, int] = (16, 16), colour: Any = (200, 100, 50), mode: str = "RGB"
) -> Path:
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


def test_a_folder_is_a_task(own: Path) -> None:
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
def test_the_default_side_is_the_median_of_the_shorter_sides_rounded_to_8(
    sizes: list[tuple[int, int]], side: int, tmp_path: Path
) -> None:
    for i, size in enumerate(sizes):
        paint(tmp_path / "own" / "train" / "ab"[i % 2] / f"{i}.png", size)
    for label in "ab":
        paint(tmp_path / "own" / "test" / label / "x.png", (500, 500))  # test images have no say
    assert catalog.describe(f"folder:{tmp_path / 'own'}").side == side


def test_images_are_resized_and_cropped_to_the_centre(own: Path) -> None:
    stream = np.random.default_rng(0)
    pixels = stream.integers(0, 256, (24, 48, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(own / "test" / "cat" / "x.PNG")
    got = load(f"folder:{own}?side=8").test.images[0]
    whole = torch.tensor(pixels).permute(2, 0, 1)[None].double()
    want = F.interpolate(whole, size=(8, 16), mode="bilinear", antialias=True)[0, :, :, 4:12].numpy()
    assert np.abs(got - want).max() <= 1.01  # 8-bit rounding, once an axis
    same = load(f"folder:{own}?side=24").test.images[0]
    assert np.abs(same.astype(int) - pixels[:, 12:36].transpose(2, 0, 1)).max() == 0


def test_grey_palette_alpha_and_turned_images_become_upright_rgb(own: Path) -> None:
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


def test_links_and_inner_folders_are_followed_and_hidden_files_are_not(own: Path, tmp_path: Path) -> None:
    (own / "train" / "cat").rename(tmp_path / "cats")
    (own / "train" / "cat").symlink_to(tmp_path / "cats")
    paint(tmp_path / "cats" / "more" / "3.jpg")
    (own / "train" / ".DS_Store").write_text("x")
    (own / "train" / "dog" / ".hidden.png").write_text("x")
    (own / "train" / ".cache" / "deep").mkdir(parents=True)
    (own / "train" / ".cache" / "deep" / "x.png").write_text("x")
    got = load(f"folder:{own}?side=8")
    assert got.task.classes == ("cat", "dog") and np.bincount(got.train.labels).tolist() == [4, 3]


def spoil(own: Path, how: str) -> None:
    train, test = own / "train", own / "test"
    if how == "empty class":
        (train / "eel").mkdir()
    elif how == "test only":
        paint(test / "eel" / "x.png")
    elif how == "train only":
        paint(train / "eel" / "x.png")
    elif how == "one class":
        for part in (train, test):
            (part / "dog").rename(own / f"{part.name}-dog")
    elif how == "no class":
        for part in (train, test):
            for label in ("cat", "dog"):
                (part / label).rename(own / f"{part.name}-{label}")
    elif how == "no test":
        test.rename(own / "tset")
    elif how == "no image":
        (train / "cat" / "notes.txt").write_text("a cat")
    elif how == "false image":
        (train / "cat" / "false.png").write_text("a cat")
    elif how == "truncated":
        whole = paint(train / "cat" / "cut.jpg", (99, 99))
        whole.write_bytes(whole.read_bytes()[:700])
    elif how == "empty file":
        (train / "cat" / "empty.png").write_bytes(b"")
    elif how == "deep":
        Image.fromarray(np.full((16, 16), 40_000, dtype=np.uint16)).save(train / "cat" / "deep.png")
    elif how == "loose":
        paint(train / "loose.png")
    elif how == "dangling":
        (train / "cat" / "dangling.png").symlink_to(own / "nowhere.png")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("empty class", ("train/eel", "holds no image")),
        ("test only", ("'eel'", "test images only")),
        ("train only", ("'eel'", "training images only")),
        ("one class", ("1 class folders ('cat')", "two or more")),
        ("no class", ("0 class folders", "two or more")),
        ("no test", ("own/test is missing", "test/<class>/*")),
        ("no image", ("train/cat/notes.txt", "is not an image")),
        ("false image", ("train/cat/false.png", "is not an image")),
        ("truncated", ("train/cat/cut.jpg", "truncated")),
        ("empty file", ("train/cat/empty.png", "is not an image")),
        ("deep", ("train/cat/deep.png", "8 bits")),
        ("loose", ("train/loose.png", "no class folder")),
        ("dangling", ("train/cat/dangling.png", "No such file")),
    ],
)
@pytest.mark.parametrize("side", ["", "?side=16"])
def test_an_unusable_folder_is_one_line(how: str, says: tuple[str, ...], side: str, own: Path) -> None:
    spoil(own, how)
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
def test_a_folders_name_is_checked(name: str, says: str) -> None:
    refused(lambda: catalog.describe(name), says)
    refused(lambda: load(name), says)


# --- what the cache remembers -------------------------------------------------------------------


def test_a_digest_is_remembered_until_a_file_changes(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, counted = f"folder:{own}?side=8", []
    real = cache.of_arrays
    monkeypatch.setattr(cache, "of_arrays", lambda arrays: (counted.append(1), real(arrays))[1])
    first = load(name).digest
    assert load(name).digest == first and len(counted) == 1
    file = own / "train" / "cat" / "0.png"
    stamp = file.stat().st_mtime_ns
    os.utime(file, ns=(stamp, stamp + 10**9))
    assert load(name).digest == first and len(counted) == 2  # looked again, found the same
    paint(file, colour=(254, 0, 0))
    assert load(name).digest != first
    (cache.cache_dir() / "digests.json").write_text("{torn")
    assert load(name).digest != first  # a torn cache costs time, nothing else


def test_a_digest_tells_pixels_labels_and_shapes_apart() -> None:
    x, y = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2), np.arange(6)
    other = x.copy()
    other[5, 0, 1, 1] ^= 1
    different = [(x, y), (other, y), (x, y[::-1]), (x.reshape(6, 2, 2, 1), y), (x, y.astype(np.int32))]
    assert len({cache.of_arrays(pair) for pair in different}) == len(different)
    assert cache.of_arrays((x[::2], y)) == cache.of_arrays((x[::2].copy(), y))


def test_many_pixels_are_mapped_decoded_once_and_equal(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"folder:{own}?side=8"
    small = load(name)
    monkeypatch.setattr(cache, "MAP_ABOVE", 0)
    mapped = load(name)
    for part in ("train", "val", "test"):
        a, b = getattr(small, part).images, getattr(mapped, part).images
        assert isinstance(b, np.memmap) and not isinstance(a, np.memmap) and np.array_equal(a, b)
    assert mapped.digest == small.digest
    kept = sorted((cache.cache_dir() / "pixels").iterdir())
    assert len(kept) == 3 and all(p.suffix == ".npy" for p in kept)

    def never(*_: Any) -> None:
        raise AssertionError("decoded again")

    monkeypatch.setattr(folders, "_decode", never)
    assert load(name).digest == small.digest
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that cannot be written
        x, y = mapped.train.batch(slice(0, 4), CPU)
        z, _ = mapped.train.batch(np.array([3, 0]), CPU)
    assert x.shape == (4, 3, 8, 8) and torch.equal(z, x[[3, 0]]) and y.tolist() == [0, 0, 0, 1]


def test_a_pixel_cache_that_fails_leaves_nothing_behind(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "MAP_ABOVE", 0)
    (own / "train" / "dog" / "z.png").write_text("no image")
    refused(lambda: load(f"folder:{own}?side=8"), "z.png")
    assert not list((cache.cache_dir() / "pixels").iterdir())
    blocked = own.parent / "blocked"
    blocked.write_text("")
    monkeypatch.setenv("DFKD_CACHE", str(blocked))
    (own / "train" / "dog" / "z.png").unlink()
    refused(lambda: load(f"folder:{own}?side=8"), str(blocked), "DFKD_CACHE")
    monkeypatch.setattr(cache, "MAP_ABOVE", 1 << 30)
    assert len(load(f"folder:{own}?side=8").train) == 6  # small pixels and the digest need no cache


# --- batches ------------------------------------------------------------------------------------


def toy(side: int, augment: set[str]) -> Task:
    return Task("toy", 1, 1, side, ("a", "b"), (0.5,), (0.5,), frozenset(augment))


def counting(n: int, side: int = 8) -> Split:
    """Image i is filled with the value i; label i % 2."""
    images = np.broadcast_to(np.arange(n, dtype=np.uint8)[:, None, None, None], (n, 1, side, side)).copy()
    return Split(images, np.arange(n) % 2)


def test_a_batch_is_in_unit_range_and_owns_its_memory() -> None:
    split = Split(np.array([[[[0, 51]]], [[[255, 102]]]], dtype=np.uint8), np.array([1, 0]))
    x, y = split.batch(slice(0, 2), CPU)
    assert x.dtype == torch.float32 and y.dtype == torch.int64
    assert torch.allclose(x.flatten(), torch.tensor([0, 0.2, 1, 0.4]))
    x.zero_(), y.zero_()
    assert split.images.max() == 255 and split.labels.tolist() == [1, 0]


def shifted(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    """The image moved up by dy and left by dx, black where nothing is."""
    out, side = np.zeros_like(image), len(image)
    for r in range(side):
        for c in range(side):
            if 0 <= r + dy < side and 0 <= c + dx < side:
                out[r, c] = image[r + dy, c + dx]
    return out


@pytest.mark.parametrize(
    ("side", "bears", "reach", "kinds"),
    [
        (8, {"pad"}, 1, 9),
        (16, {"pad"}, 2, 25),
        (16, {"pad", "flip"}, 2, 50),
        (8, {"flip"}, 0, 2),
        (8, set(), 0, 1),
    ],
)
def test_each_image_is_moved_on_its_own_and_as_far_as_the_task_bears(
    side: int, bears: set[str], reach: int, kinds: int
) -> None:
    image = np.random.default_rng(0).random((side, side)).astype(np.float32)
    legal = {
        shifted(image, dy, dx)[:, ::step].tobytes()
        for dy in range(-reach, reach + 1)
        for dx in range(-reach, reach + 1)
        for step in ([1, -1] if "flip" in bears else [1])
    }
    n = 200 * kinds
    x = torch.tensor(image).expand(n, 1, side, side)
    out = views.augment(x, toy(side, bears), rng())
    seen = [o.tobytes() for o in out[:, 0].contiguous().numpy()]
    counts = np.array([seen.count(one) for one in legal])
    assert len(legal) == kinds and counts.sum() == n  # nothing else
    # each is drawn 200 times on average; six standard deviations of a binomial
    assert np.abs(counts - 200).max() <= 6 * np.sqrt(200)
    assert torch.equal(out, views.augment(x, toy(side, bears), rng()))


def test_augmentation_moves_all_channels_of_an_image_together() -> None:
    x = (
        torch.rand(64, 1, 8, 8, generator=rng()).expand(64, 3, 8, 8)
        * torch.tensor([1.0, 0.5, 0.25])[:, None, None]
    )
    task = Task("toy", 1, 3, 8, ("a", "b"), (0.5,) * 3, (0.5,) * 3, frozenset({"pad", "flip"}))
    out = views.augment(x, task, rng(1))
    assert out.shape == x.shape
    assert torch.equal(out[:, 1], out[:, 0] * 0.5) and torch.equal(out[:, 2], out[:, 0] * 0.25)


def test_a_loader_walks_shuffled_epochs_without_gap_or_repeat() -> None:
    loader = Loader(counting(10), toy(8, set()), rng(), CPU)
    drawn: list[int] = []
    for n in (4, 4, 4, 4, 4, 25, 5):  # the last but one is larger than the set
        x, y = loader.batch(n)
        assert x.shape == (n, 1, 8, 8) and torch.equal((x[:, 0, 0, 0] * 255).round().long() % 2, y)
        drawn += (x[:, 0, 0, 0] * 255).round().long().tolist()
    epochs = [drawn[i : i + 10] for i in range(0, 50, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 5


def test_a_loader_comes_back_to_an_exact_position() -> None:
    split, task = counting(10), toy(8, {"pad", "flip"})
    stream = rng(3)
    loader = Loader(split, task, stream, CPU)
    loader.batch(7)
    state, position = loader.state(), stream.get_state()
    want = [loader.batch(4) for _ in range(5)]
    other = rng(99)
    fresh = Loader(split, task, other, CPU)
    other.set_state(position)
    fresh.load(state)
    for (x, y), (u, v) in zip(want, [fresh.batch(4) for _ in range(5)], strict=True):
        assert torch.equal(x, u) and torch.equal(y, v)
    assert state["at"] == 7  # the batches after it left the state alone
