"""A pool of synthetic images: a ring of named tensors that a method fills and its student is trained from.

Rows are numbered 0, 1, 2, ... as they are added; row r lies in slot ``r % capacity``. Held are the newest
``capacity`` rows. Put it into ``self.pools``: it is part of every checkpoint then.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor

from harness.errors import DfkdError, DiskError
from harness.files import saying
from methods.shared.segments import Segments


class Field(NamedTuple):
    """Shape of one row, and the type it is kept as."""

    shape: tuple[int, ...]
    dtype: torch.dtype


class Pool:
    """A ring of named tensors that grows by doubling up to ``capacity`` rows.

    Attributes:
        total: rows ever added.
        mapped: whether the rows lie in a file, since a full pool would take more than ``in_memory``.
    """

    def __init__(
        self,
        capacity: int,
        fields: Mapping[str, Field],
        *,
        device: torch.device | str = "cpu",
        scratch: Path | None = None,
        in_memory: int = 2 << 30,
    ) -> None:
        """Make an empty pool; takes no room yet.

        Args:
            capacity: rows held at most.
            fields: name -> shape and type of a row.
            device: where `rows` and `sample` give; holds the rows too, unless they are mapped.
            scratch: a directory of this pool's own, made when needed, in which checkpoints leave the rows;
                None: they hold them.
            in_memory: bytes; a pool that may take more is a memory-mapped file without a name in
                ``scratch``, or in the system's temporary directory, and gone with the process.

        Raises:
            DfkdError: for a pool that can hold nothing.
        """
        if capacity < 1 or not fields:
            raise DfkdError(f"a pool holds at least one row of one field, not {capacity} of {list(fields)}")
        self.capacity, self.fields, self.total = int(capacity), dict(fields), 0
        self.device, self.scratch = torch.device(device), scratch
        self._bytes = {k: math.prod(f.shape) * f.dtype.itemsize for k, f in self.fields.items()}
        row = sum(self._bytes.values())
        self.mapped = self.capacity * row > in_memory
        self._segments = Segments(scratch, row) if scratch else None
        self._home = torch.device("cpu") if self.mapped else self.device
        self._data = {
            k: torch.empty((0, *f.shape), dtype=f.dtype, device=self._home) for k, f in self.fields.items()
        }
        self._files: dict[str, IO[bytes]] = {}
        self._room = 0

    def __len__(self) -> int:
        """Rows held."""
        return min(self.total, self.capacity)

    def add(self, **rows: Tensor) -> None:
        """Add rows, over the oldest ones when full.

        Args:
            rows: every field, (n, *shape); detached and cast as ``Tensor.to`` does, so that a float image
                must be scaled and rounded before it is kept as uint8. Of n > capacity the last ones stay.

        Raises:
            DfkdError: for other fields, another shape, or an unequal number of rows.
            DiskError: when a mapped pool finds no room.
        """
        n = self._count(rows)
        cut = max(0, n - self.capacity)
        self._reserve(min(self.total + n, self.capacity))
        self._put(self.total + cut, {k: v.detach()[cut:] for k, v in rows.items()})
        self.total += n

    def rows(self, index: Tensor) -> dict[str, Tensor]:
        """Copies of rows, on ``device``.

        Args:
            index: (n,) int64 slots in 0..len-1: the order of `column`, and of age until the ring is full.
        """
        found = {k: self.column(k) for k in self.fields}
        return {k: v.index_select(0, index.to(v.device)).to(self.device) for k, v in found.items()}

    def sample(self, n: int, rng: torch.Generator, *, replace: bool = True) -> dict[str, Tensor]:
        """Copies of rows drawn uniformly, on ``device``; waits for a GPU only when the pool is mapped.

        Args:
            n: how many; without ``replace`` at most all there are.
            rng: the only randomness.
            replace: whether a row may come twice.

        Raises:
            DfkdError: when the pool is empty.
        """
        if not self.total:
            raise DfkdError("the pool is empty: it was sampled before anything was added")
        if replace:
            return self.rows(torch.randint(len(self), (n,), generator=rng, device=rng.device))
        return self.rows(torch.randperm(len(self), generator=rng, device=rng.device)[:n])

    def column(self, name: str) -> Tensor:
        """One field of all rows held, (len, *shape), in slot order: a view, on the CPU when mapped."""
        return self._data[name][: len(self)]

    def state(self) -> dict[str, Any]:
        """For a checkpoint: the rows, or with ``scratch`` the names of the files that hold them.

        Only what was added since the last state is written; its files last until the state after the next.

        Raises:
            DiskError: when a file cannot be written.
            DfkdError: when another pool's files lie in ``scratch``.
        """
        if self._segments is None:
            return self._state(self.total, torch.arange(len(self)))
        spans = self._segments.save(self.total - len(self), self.total, self._block)
        return {"capacity": self.capacity, "total": self.total, "segments": spans}

    def excerpt(self, most: int = 10_000) -> dict[str, Any]:
        """A state that holds its rows, for a file that must outlive ``scratch``.

        Of more than ``most`` rows it holds that many, evenly spaced in age.
        """
        if len(self) <= most:
            return self._state(self.total, torch.arange(len(self)))
        age = torch.arange(most) * len(self) // most
        return self._state(most, (self.total - len(self) + age) % self.capacity)

    def load(self, state: dict[str, Any]) -> None:
        """Back to a state: the same rows in the same slots.

        Files in ``scratch`` that the state does not name are removed; one that holds its rows leaves all.

        Raises:
            DfkdError: for a state of another pool, or a file that is damaged or gone; the pool is of no
                use then.
        """
        if state["capacity"] != self.capacity:
            raise DfkdError(f"the state is of a pool of {state['capacity']} rows, not {self.capacity}")
        self.total = int(state["total"])
        start = self.total - len(self)
        self._reserve(len(self))
        if "rows" in state:
            self._same_types(state["rows"])
            if self._count(state["rows"]) != len(self):
                raise DfkdError(f"the state holds {self._count(state['rows'])} rows, not {len(self)}")
            self._segments = Segments(self.scratch, sum(self._bytes.values())) if self.scratch else None
            for k, v in state["rows"].items():
                self.column(k).copy_(v)
        elif self._segments is None:
            raise DfkdError("the state names files, and this pool has no scratch directory")
        else:
            for first, rows in self._segments.load(state["segments"], start, self.total):
                self._same_types(rows)
                self._put(first, rows)

    def _state(self, total: int, slots: Tensor) -> dict[str, Any]:
        rows = {k: v.index_select(0, slots.to(v.device)).cpu() for k, v in self._data.items()}
        return {"capacity": self.capacity, "total": total, "rows": rows}

    def _count(self, rows: Mapping[str, Tensor]) -> int:
        """The rows given, n, if they are (n, *shape) each."""
        if rows.keys() != self.fields.keys():
            raise DfkdError(f"a pool of {', '.join(self.fields)} was given {', '.join(rows) or 'nothing'}")
        n = max(len(v) if v.ndim else 0 for v in rows.values())
        for k, v in rows.items():
            if v.shape != (n, *self.fields[k].shape):
                raise DfkdError(f"pool field {k!r} takes {(n, *self.fields[k].shape)}, not {tuple(v.shape)}")
        return n

    def _same_types(self, rows: Mapping[str, Tensor]) -> None:
        self._count(rows)
        for k, v in rows.items():
            if v.dtype != self.fields[k].dtype:
                raise DfkdError(f"the state holds {k!r} as {v.dtype}, not {self.fields[k].dtype}")

    def _spans(self, first: int, n: int) -> Iterator[tuple[slice, slice]]:
        """Slots of rows first .. first + n - 1, n <= capacity, and their places in a block of the n."""
        at = first % self.capacity
        head = min(n, self.capacity - at)
        yield slice(at, at + head), slice(0, head)
        yield slice(0, n - head), slice(head, n)

    def _put(self, first: int, rows: Mapping[str, Tensor]) -> None:
        for k, v in rows.items():
            for slots, part in self._spans(first, len(v)):
                self._data[k][slots].copy_(v[part])

    def _block(self, first: int, n: int) -> dict[str, Tensor]:
        spans = list(self._spans(first, n))
        return {k: torch.cat([v[slots] for slots, _ in spans]).cpu() for k, v in self._data.items()}

    def _reserve(self, n: int) -> None:
        """Room for n rows; only a ring that was never full grows, so every row stays in its slot."""
        if n <= self._room:
            return
        room = min(self.capacity, max(n, 2 * self._room))
        for k, old in self._data.items():
            new = self._map(k, room) if self.mapped else old.new_empty((room, *old.shape[1:]))
            if not self.mapped:
                new[: len(old)] = old
            self._data[k] = new
        self._room = room

    def _map(self, name: str, room: int) -> Tensor:
        """The field's file, grown to ``room`` rows, as a tensor."""
        where, size = self.scratch or Path(tempfile.gettempdir()), room * self._bytes[name]
        with saying(f"cannot write {where}", DiskError):
            if name not in self._files:
                where.mkdir(parents=True, exist_ok=True)
                self._files[name] = file = tempfile.TemporaryFile(dir=where)  # noqa: SIM115
                weakref.finalize(self, file.close)
            number = self._files[name].fileno()
            if hasattr(os, "posix_fallocate"):
                # Said here, a full disk is an error; on a write to the map it would kill the process.
                os.posix_fallocate(number, 0, size)
            else:
                os.ftruncate(number, size)
            whole = torch.frombuffer(mmap.mmap(number, size), dtype=self.fields[name].dtype)
        return whole.view(room, *self.fields[name].shape)
