"""What the cache remembers: digests and decoded pixels."""

from __future__ import annotations

import os
import warnings

import numpy as np
import torch

from harness.tasks import cache, decode
from harness.tasks.images import load
from tests.build import refused
from tests.tasks.conftest import paint

CPU = torch.device("cpu")


def test_a_digest_is_remembered_until_a_file_changes(own, monkeypatch):
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


def test_a_digest_tells_pixels_labels_and_shapes_apart():
    x, y = np.arange(24, dtype=np.uint8).reshape(6, 1, 2, 2), np.arange(6)
    other = x.copy()
    other[5, 0, 1, 1] ^= 1
    different = [(x, y), (other, y), (x, y[::-1]), (x.reshape(6, 2, 2, 1), y), (x, y.astype(np.int32))]
    assert len({cache.of_arrays(pair) for pair in different}) == len(different)
    assert cache.of_arrays((x[::2], y)) == cache.of_arrays((x[::2].copy(), y))


def test_many_pixels_are_mapped_decoded_once_and_equal(own, monkeypatch):
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

    def never(*_):
        raise AssertionError("decoded again")

    monkeypatch.setattr(decode, "_decode", never)
    assert load(name).digest == small.digest
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of memory that cannot be written
        x, y = mapped.train.batch(slice(0, 4), CPU)
        z, _ = mapped.train.batch(np.array([3, 0]), CPU)
    assert x.shape == (4, 3, 8, 8) and torch.equal(z, x[[3, 0]]) and y.tolist() == [0, 0, 0, 1]


def test_a_pixel_cache_that_fails_leaves_nothing_behind(own, monkeypatch):
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
