"""The ring by hand, its checkpoints on disk, and both against a plain list."""

import gc
import io
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import DiskError
from methods.shared import segments
from methods.shared.pool import Field, Pool
from tests.build import refused

FIELDS = {"x": Field((2,), torch.float32), "y": Field((), torch.int64)}
ROW = 2 * 4 + 8  # bytes


def rows(first: int, n: int) -> dict[str, torch.Tensor]:
    """Row r is x = (r, -r), y = r."""
    r = torch.arange(first, first + n)
    return {"x": torch.stack([r, -r], dim=1).float(), "y": r}


def filled(capacity: int, *parts: int, **more) -> Pool:
    pool = Pool(capacity, FIELDS, **more)
    for n in parts:
        pool.add(**rows(pool.total, n))
    return pool


def saved(pool: Pool) -> dict:
    """The state as a checkpoint file gives it back."""
    file = io.BytesIO()
    torch.save(pool.state(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def held(pool: Pool) -> tuple[list[int], int]:
    """Slots and total; x must tell the same."""
    assert torch.equal(pool.column("x")[:, 1], -pool.column("y").float())
    return pool.column("y").tolist(), pool.total


def written(scratch: Path) -> dict[str, int]:
    return {f.name: f.stat().st_size for f in scratch.iterdir()} if scratch.exists() else {}


@pytest.fixture(params=["memory", "mapped"])
def kind(request) -> dict:
    return {"in_memory": 0} if request.param == "mapped" else {}


def test_rows_replace_the_oldest_ones_in_their_slots(kind):
    pool = filled(5, 3, **kind)
    assert held(pool) == ([0, 1, 2], 3)
    pool.add(**rows(3, 4))
    assert held(pool) == ([5, 6, 2, 3, 4], 7)
    assert len(pool) == 5
    got = pool.rows(torch.tensor([2, 0, 0]))
    assert got["y"].tolist() == [2, 5, 5]
    assert got["x"].tolist() == [[2, -2], [5, -5], [5, -5]]


def test_rows_are_cast_detached_and_copied():
    pool = Pool(
        4, {"x": Field((1,), torch.uint8), "h": Field((1,), torch.bfloat16), "m": Field((), torch.bool)}
    )
    x = torch.tensor([[3.7], [250.0]], requires_grad=True)
    pool.add(x=x, h=x, m=torch.tensor([0.0, 2.0]))
    with torch.no_grad():
        x.zero_()
    got = pool.rows(torch.arange(2))
    assert [v.dtype for v in got.values()] == [torch.uint8, torch.bfloat16, torch.bool]
    assert got["x"].tolist() == [[3], [250]] and got["m"].tolist() == [False, True]
    assert got["h"].tolist() == [[3.703125], [250.0]]  # 8 bits of mantissa
    assert not any(v.requires_grad for v in got.values())
    got["x"].zero_()
    assert pool.column("x").tolist() == [[3], [250]]


def test_room_doubles_and_never_passes_the_capacity():
    pool, rooms = Pool(10**9, FIELDS, in_memory=1 << 60), []
    for _ in range(9):
        pool.add(**rows(pool.total, 1))
        rooms.append(pool.column("y").untyped_storage().nbytes() // 8)
    assert rooms == [1, 2, 4, 4, 8, 8, 8, 8, 16]
    assert filled(10, 9, 1).column("y").untyped_storage().nbytes() == 10 * 8


def test_a_draw_without_replacement_is_of_distinct_rows(kind):
    pool = filled(50, 70, **kind)
    drawn = pool.sample(30, torch.Generator().manual_seed(0), replace=False)["y"].tolist()
    assert len(set(drawn)) == 30 and set(drawn) <= set(range(20, 70))
    everything = pool.sample(99, torch.Generator().manual_seed(0), replace=False)["y"]
    assert sorted(everything.tolist()) == list(range(20, 70))


def test_a_draw_with_replacement_is_uniform_over_what_is_held():
    pool = filled(4, 6)  # rows 2..5
    counts = pool.sample(40_000, torch.Generator().manual_seed(0))["y"].bincount(minlength=6)
    assert counts[:2].tolist() == [0, 0]
    assert (counts[2:] - 10_000).abs().max() < 5 * (40_000 * 0.25 * 0.75) ** 0.5


def test_an_empty_pool_gives_nothing_but_a_sentence():
    refused(lambda: Pool(4, FIELDS).sample(1, torch.Generator()), "pool is empty")
    assert held(Pool(4, FIELDS)) == ([], 0)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": torch.zeros(2, 2)}, "pool of x, y was given x"),
        ({}, "was given nothing"),
        (rows(0, 2) | {"z": torch.zeros(2)}, "was given x, y, z"),
        ({"x": torch.zeros(2, 3), "y": torch.zeros(2)}, "'x' takes (2, 2), not (2, 3)"),
        ({"x": torch.zeros(2, 2), "y": torch.zeros(3)}, "'x' takes (3, 2), not (2, 2)"),
        ({"x": torch.zeros(2, 2), "y": torch.zeros(())}, "'y' takes (2,), not ()"),
    ],
)
def test_rows_of_another_kind_are_refused_whole(given, said):
    pool = filled(4, 2)
    refused(lambda: pool.add(**given), said)
    assert held(pool) == ([0, 1], 2)


def test_a_pool_must_be_able_to_hold_something():
    for capacity, fields in ((0, FIELDS), (3, {})):
        refused(lambda at=(capacity, fields): Pool(*at), "at least one row")


def test_mapped_or_not_the_bits_are_the_same(tmp_path):
    drawn = []
    for more in ({}, {"in_memory": 0}, {"in_memory": 0, "scratch": tmp_path / "p"}):
        fields = {"x": Field((3, 4), torch.float16), "y": Field((), torch.bool)}
        pool, rng, got = Pool(33, fields, **more), torch.Generator(), []
        for n in (1, 7, 20, 30, 2):
            x = torch.randn(n, 3, 4, generator=rng.manual_seed(n))
            pool.add(x=x, y=x[:, 0, 0] > 0)
            got += [pool.sample(9, rng), pool.sample(9, rng, replace=False)]
        drawn.append(got)
        assert pool.mapped == bool(more)
    for other in drawn[1:]:
        for a, b in zip(drawn[0], other, strict=True):
            assert all(torch.equal(a[k], b[k]) for k in ("x", "y"))


def test_a_map_has_no_name_and_is_closed_with_the_pool(tmp_path):
    before = set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else set()
    pool = filled(1000, 600, 600, in_memory=0, scratch=tmp_path / "deep" / "p")
    assert written(tmp_path / "deep" / "p") == {}
    del pool
    gc.collect()
    after = set(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else set()
    assert len(after) <= len(before)


def test_a_full_disk_is_an_error_and_not_a_crash(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(DiskError, match="No space left"):
        filled(10, 1, in_memory=0, scratch=tmp_path)
    pool = filled(10, 1, scratch=tmp_path)
    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(DiskError, match="No space left"):
        pool.state()
    monkeypatch.undo()
    assert written(tmp_path) == {}
    assert saved(pool)["segments"] == [[0, 0]]  # once there is room again


def test_a_state_without_scratch_holds_the_rows_and_no_more(kind):
    pool = filled(100, 40, 3, **kind)
    state = saved(pool)
    assert [len(v) for v in state["rows"].values()] == [43, 43]
    assert sum(v.untyped_storage().nbytes() for v in pool.state()["rows"].values()) == 43 * ROW
    pool.add(**rows(43, 90))
    again = Pool(100, FIELDS, **kind)
    again.load(state)
    assert held(again) == (list(range(43)), 43)
    again.load(saved(pool))
    assert held(again) == held(pool)
    for p in (pool, again):
        p.add(**rows(133, 5))
    assert held(again) == held(pool)


def test_a_state_with_scratch_writes_what_is_new_alone(tmp_path, kind):
    pool, seen = Pool(10_000, FIELDS, scratch=tmp_path, **kind), {}
    for k in range(40):
        pool.add(**rows(pool.total, 100))
        state = pool.state()
        now = written(tmp_path)
        new = now.keys() - seen.keys()
        assert new == {f"segment-{100 * k}-{100 * k + 99}.pt"}
        assert 100 * ROW <= now[new.pop()] < 100 * ROW + 2500
        seen = now
    named = [[100 * k, 100 * k + 99] for k in range(40)]
    assert state == {"capacity": 10_000, "total": 4000, "segments": named}
    assert pool.state() == state
    assert written(tmp_path) == seen


def test_files_leave_one_state_after_their_rows(tmp_path):
    pool = filled(10, 4, scratch=tmp_path)
    pool.state()  # 0..3
    pool.add(**rows(4, 6))
    old = saved(pool)  # 4..9
    pool.add(**rows(10, 5))  # the window is 5..14
    new = saved(pool)
    assert new["segments"] == [[4, 9], [10, 14]]
    assert "segment-0-3.pt" in written(tmp_path)
    other = Pool(10, FIELDS, scratch=tmp_path)
    other.load(new)
    assert held(other) == held(pool) == ([10, 11, 12, 13, 14, 5, 6, 7, 8, 9], 15)
    assert written(tmp_path).keys() == {"segment-4-9.pt", "segment-10-14.pt"}
    fresh = Pool(10, FIELDS, scratch=tmp_path)
    refused(lambda: fresh.load(old), "segment-0-3.pt cannot be read")  # two states back is too far


def test_a_kill_between_state_and_checkpoint_costs_nothing(tmp_path, kind):
    """What was written for a checkpoint that never came is swept; the one before is whole."""
    pool = filled(10, 7, scratch=tmp_path, **kind)
    pool.state()
    pool.add(**rows(7, 8))
    checkpoint, then = saved(pool), held(pool)
    pool.add(**rows(15, 9))
    pool.state()  # and killed before the checkpoint was renamed
    (tmp_path / ".segment-24-30.pt.77.tmp").write_bytes(b"torn")
    again = Pool(10, FIELDS, scratch=tmp_path, **kind)
    again.load(checkpoint)
    assert held(again) == then
    assert written(tmp_path).keys() == {f"segment-{a}-{b}.pt" for a, b in checkpoint["segments"]}
    again.add(**rows(15, 9))
    assert held(again) == held(pool)
    assert saved(again)["segments"] == [[7, 14], [15, 23]]
    third = Pool(10, FIELDS, scratch=tmp_path, **kind)
    third.load(again.state())
    assert held(third) == held(pool)


def test_many_small_files_become_one_and_full_ones_are_left(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "LARGEST", 40 * ROW)
    monkeypatch.setattr(segments, "SMALL", 16)

    def on_disk(names):
        return sum(int(b) - int(a) + 1 for _, a, b in (name[:-3].split("-") for name in names))

    pool, most, ever, before = Pool(300, FIELDS, scratch=tmp_path), 0, 0, set()
    for _ in range(450):
        pool.add(**rows(pool.total, 2))
        most = max(most, len(pool.state()["segments"]))
        now = set(written(tmp_path))
        ever, before = ever + on_disk(now - before), now
    assert most <= 16 + 300 / 20 + 2
    # Each row once as it comes and once more into a full segment; of these the last, while it is small
    # (20 rows), is written again with the next 16.
    assert ever <= 2 * pool.total + 20 * 450 / 16
    assert on_disk(before) <= 300 + 2 * 40 + 2 * 16
    again = Pool(300, FIELDS, scratch=tmp_path)
    again.load(pool.state())
    assert held(again) == held(pool)


def test_one_big_state_is_cut_into_files_of_bounded_size(tmp_path, monkeypatch):
    monkeypatch.setattr(segments, "LARGEST", 100 * ROW)
    pool = filled(1000, 250, scratch=tmp_path, in_memory=0)
    assert pool.state()["segments"] == [[0, 99], [100, 199], [200, 249]]


def test_two_pools_do_not_share_a_directory(tmp_path):
    filled(10, 3, scratch=tmp_path).state()
    refused(filled(10, 3, scratch=tmp_path).state, "an empty directory")


def test_a_damaged_or_foreign_state_is_refused_in_one_line(tmp_path):
    def load(state, said, fields=FIELDS, scratch=tmp_path):
        refused(lambda: Pool(10, fields, scratch=scratch).load(state), said)

    pool = filled(10, 3, 3, scratch=tmp_path)
    state = saved(pool)
    pool.add(**rows(6, 2))
    later = saved(pool)
    for wrong, said in (
        (state | {"capacity": 11}, "11 rows, not 10"),
        (later | {"segments": later["segments"][1:]}, "are not rows 0 to 7"),
        (later | {"segments": later["segments"][:1]}, "are not rows 0 to 7"),
        (later | {"segments": []}, "are not rows 0 to 7"),
        (state | {"segments": [[0, 4]], "total": 5}, "segment-0-4.pt cannot be read"),
        (filled(10, 3).state() | {"total": 4}, "holds 3 rows, not 4"),
    ):
        load(wrong, said)
    load(state, "no scratch", scratch=None)
    other = {"x": Field((2,), torch.float16), "y": FIELDS["y"]}
    load(state, "'x' as torch.float32, not torch.float16", fields=other)
    os.truncate(tmp_path / "segment-6-7.pt", 100)
    load(later, "cannot be read")


def test_an_excerpt_needs_no_files_and_is_bounded(tmp_path):
    pool = filled(8, 11, scratch=tmp_path)
    pool.state()
    whole, part = Pool(8, FIELDS), Pool(8, FIELDS)
    whole.load(pool.excerpt())
    assert held(whole) == held(pool)
    part.load(pool.excerpt(4))  # rows 3..10: every second
    assert held(part) == ([3, 5, 7, 9], 4)
    part.load(filled(8, 5).excerpt(2))
    assert held(part) == ([0, 2], 2)
    files = written(tmp_path)
    pool.load(pool.excerpt(4))  # the checkpoint's files stay
    assert written(tmp_path) == files
    assert held(pool) == ([3, 5, 7, 9], 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("in_memory", [0, 2 << 30])
def test_on_a_gpu(tmp_path, in_memory):
    pool = Pool(10, FIELDS, device="cuda", in_memory=in_memory, scratch=tmp_path)
    pool.add(**{k: v.cuda() for k, v in rows(0, 13).items()})
    drawn = pool.sample(5, torch.Generator("cuda").manual_seed(0))
    assert all(v.is_cuda for v in drawn.values())
    assert torch.equal(drawn["x"][:, 0].long(), drawn["y"])
    again = Pool(10, FIELDS, device="cuda", in_memory=in_memory, scratch=tmp_path)
    again.load(saved(pool))
    assert held(again) == held(pool) == ([10, 11, 12, 3, 4, 5, 6, 7, 8, 9], 13)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 25)),
        st.tuples(st.sampled_from(["state", "torn state", "kill", "load inline"]), st.just(0)),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(
    capacity=st.integers(1, 20),
    steps=STEPS,
    mapped=st.booleans(),
    small=st.integers(0, 3),
    largest=st.integers(1, 9),
)
def test_against_a_list(tmp_path_factory, capacity, steps, mapped, small, largest):
    """``kill`` goes back to the last checkpoint; ``torn state`` is one whose checkpoint was never written."""
    home = tmp_path_factory.mktemp("pools")
    more = {"in_memory": 0 if mapped else 1 << 30}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "SMALL", small)
        patch.setattr(segments, "LARGEST", largest * ROW)
        lives = 0
        pool = Pool(capacity, FIELDS, scratch=home / "0", **more)
        model: list[int] = []  # every row ever added
        kept: tuple[dict, list[int]] | None = None
        for what, n in steps:
            if what == "add":
                pool.add(**rows(len(model), n))
                model += range(len(model), len(model) + n)
            elif what == "state":
                kept = (saved(pool), list(model))
            elif what == "torn state" or (what == "kill" and kept):
                if what == "torn state":
                    pool.state()
                lives += kept is None  # killed before the first checkpoint: the harness clears the directory
                pool, model = Pool(capacity, FIELDS, scratch=home / str(lives), **more), []
                if kept:
                    pool.load(kept[0])
                    model = list(kept[1])
            elif what == "load inline":
                other = Pool(capacity, FIELDS, **more)
                other.load(pool.excerpt())
                assert held(other) == held(pool)
            expected: dict[int, int] = {r % capacity: r for r in model}  # the last to lie in a slot
            assert held(pool) == ([expected[slot] for slot in sorted(expected)], len(model))
            assert len(pool) == min(len(model), capacity)
