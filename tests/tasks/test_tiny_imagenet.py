"""Tiny-ImageNet: the official archive and nothing else, unpacked whole or not at all."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from harness.tasks import tiny_imagenet
from harness.tasks.images import Split, load
from tests.build import refused

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


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.fixture
def pack(tmp_path, monkeypatch):
    """Makes an archive of these members and has it pass for the official one."""

    def made(members: dict[str, bytes], folder: Path = tmp_path) -> Path:
        path = zipped(folder / f"{TINY}.zip", members)
        monkeypatch.setattr(tiny_imagenet, "_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
        return path

    return made


def level(split: Split) -> np.ndarray:
    return split.images[:, 0].mean((1, 2)).round()


def test_it_is_unpacked_once_and_its_val_is_the_test_split(members, pack, tmp_path):
    archive = pack(members)
    got = load("tiny_imagenet", tmp_path)
    assert got.train.images.shape == got.test.images.shape == (200, 3, 64, 64)
    for split in (got.train, got.test):
        assert split.labels.tolist() == list(range(200))
        assert np.abs(level(split) - split.labels).max() <= 2  # JPEG
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".lock") == ["cache", TINY, archive.name]
    archive.unlink()
    assert load("tiny_imagenet", tmp_path).digest == got.digest
    # somebody groups val by class
    val = tmp_path / TINY / "val"
    for line in (val / "val_annotations.txt").read_text().splitlines():
        file, wnid, *_ = line.split("\t")
        (val / wnid).mkdir()
        (val / "images" / file).rename(val / wnid / file)
    (val / "images").rmdir()
    assert load("tiny_imagenet", tmp_path).digest == got.digest


def test_a_missing_or_truncated_archive_is_one_line(members, pack, tmp_path):
    says = (str(tmp_path), "--data-root", "DFKD_DATA_ROOT", "dfkd tasks --download tiny_imagenet")
    refused(lambda: load("tiny_imagenet", tmp_path), *says)
    archive = pack(members)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    refused(lambda: load("tiny_imagenet", tmp_path), str(archive), "truncated or damaged", says[-1])
    archive.write_bytes(whole)
    assert len(load("tiny_imagenet", tmp_path).train) == 200  # and nothing stands in the way


def test_any_other_archive_is_not_even_opened(tmp_path):
    archive = zipped(
        tmp_path / "root" / f"{TINY}.zip", {f"{TINY}/wnids.txt": b"n0", f"{TINY}/../../evil": b"x"}
    )
    refused(lambda: load("tiny_imagenet", archive.parent), str(archive), "SHA-256", "not 6198c8ae...")
    assert not list(tmp_path.rglob("evil")) and not (archive.parent / TINY).exists()


def test_a_killed_process_leaves_nothing_that_counts(members, pack, tmp_path):
    pack(members)
    (tmp_path / f".{TINY}.part" / TINY / "train").mkdir(parents=True)
    assert len(load("tiny_imagenet", tmp_path).train) == 200
    assert not (tmp_path / f".{TINY}.part").exists()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({f"{TINY}/val/val_annotations.txt": b"gone.JPEG\tn00000001\t0\t0\t1\t1\n"}, "gone.JPEG"),
        ({f"{TINY}/val/val_annotations.txt": b"no columns\n"}, "cannot be read"),
        ({f"{TINY}/train/n99999999/images/a.JPEG": jpeg(1)}, "training images only"),
        ({f"{TINY}/train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG": jpeg(0)[:300]}, "not an image"),
    ],
)
def test_a_folder_that_is_not_tiny_imagenet_is_one_line(change, says, members, pack, tmp_path):
    pack(members | change)
    refused(lambda: load("tiny_imagenet", tmp_path), str(tmp_path), says)


def test_it_is_fetched_on_request_and_verified(members, server, pack, tmp_path, monkeypatch):
    address, served = server
    monkeypatch.setattr(tiny_imagenet, "_URL", f"{address}/{TINY}.zip")
    zipped(served / f"{TINY}.zip", members)
    root = tmp_path / "root"
    refused(lambda: load("tiny_imagenet", root, download=True), "cannot be fetched", "hash")
    assert not (root / f"{TINY}.zip").exists()
    archive = pack(members, served)
    assert len(load("tiny_imagenet", root, download=True).train) == 200
    archive.unlink()
    refused(lambda: load("tiny_imagenet", tmp_path / "b", download=True), "cannot be fetched", "404")
