"""Numbered rows kept in files that never change, so that a checkpoint writes only what is new.

A checkpoint names its files, ``segment-<first row>-<last row>.pt``. A file that is named no more stays for
one checkpoint longer: until the new one is written, the old one is what a kill leaves.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from harness import files
from harness.errors import DfkdError, DiskError

#: largest segment, in bytes; one of less than half is small
LARGEST = 64 << 20
#: so many small segments may lie about before they are written anew as one
SMALL = 64

Block = Mapping[str, Tensor]
Span = tuple[int, int]


class Segments:
    """The files of one pool; takes no room until `save`."""

    def __init__(self, where: Path, row_bytes: int) -> None:
        """Name the directory, of this pool's own, and the bytes of a row."""
        self.where = where
        self.most = max(1, LARGEST // max(1, row_bytes))  # rows in a segment
        self.spans: list[Span] = []
        self._dropped: list[Span] = []
        self._ours = False

    def save(self, start: int, total: int, block: Callable[[int, int], Block]) -> list[list[int]]:
        """Write what is new of the rows start .. total - 1.

        Args:
            start: first row that matters; never less than before.
            total: rows ever added; never less than before.
            block: (first, n) -> n rows on the CPU.

        Returns:
            (first, last) of each segment, for the checkpoint; the first may begin before ``start``.

        Raises:
            DiskError: when the directory cannot be written; the last checkpoint can still be loaded.
            DfkdError: when somebody else's segments lie there.
        """
        with files.saying(f"cannot write {self.where}", DiskError):
            self.where.mkdir(parents=True, exist_ok=True)
            if not self._ours and next(self._found(), None):
                raise DfkdError(f"{self.where} holds other files of a pool: give each an empty directory")
            self._ours = True
            for span in self._dropped:  # the checkpoint that was written since does not name them
                self._path(span).unlink(missing_ok=True)
        kept = [s for s in self.spans if s[1] >= start]
        first = kept[-1][1] + 1 if kept else start
        small = [i for i, (a, b) in enumerate(kept) if b - a + 1 < self.most / 2]
        if len(small) > SMALL:
            # All from there on is full after this, but for the last: a row is not written again and again.
            first, kept = max(start, kept[small[0]][0]), kept[: small[0]]
        for a in range(first, total, self.most):
            span = (a, min(a + self.most, total) - 1)
            if span not in self.spans:
                files.write_torch(self._path(span), dict(block(a, span[1] - a + 1)))
            kept.append(span)
        self._dropped = [s for s in self.spans if s not in kept]
        self.spans = kept
        return [list(s) for s in kept]

    def load(self, named: Sequence[Sequence[int]], start: int, total: int) -> Iterator[tuple[int, Block]]:
        """Read what a checkpoint names, then remove every other file: what a kill left.

        Yields:
            First row and rows of each segment, those before ``start`` cut off.

        Raises:
            DfkdError: when the segments are not rows start .. total - 1, or one is damaged or gone.
        """
        spans = [(int(a), int(b)) for a, b in named]
        begins = [*(a for a, _ in spans), total]
        if begins != [min(start, begins[0]), *(b + 1 for _, b in spans)]:
            raise DfkdError(f"segments {spans} are not rows {start} to {total - 1}")
        for a, b in spans:
            block = self._read((a, b))
            if any(len(v) != b - a + 1 for v in block.values()):
                raise DfkdError(f"{self._path((a, b))} does not hold the rows it is named after")
            cut = max(0, start - a)
            yield a + cut, {k: v[cut:] for k, v in block.items()}
        self.spans, self._dropped, self._ours = spans, [], True
        with files.saying(f"cannot write {self.where}", DiskError):
            for file in {*self._found()} - {self._path(s) for s in spans}:
                file.unlink(missing_ok=True)

    def _path(self, span: Span) -> Path:
        return self.where / f"segment-{span[0]}-{span[1]}.pt"

    def _found(self) -> Iterator[Path]:
        yield from self.where.glob("segment-*.pt")
        yield from self.where.glob(".segment-*.tmp")

    def _read(self, span: Span) -> dict[str, Tensor]:
        path = self._path(span)
        try:
            return dict(torch.load(path, map_location="cpu", weights_only=True))
        except (OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise DfkdError(f"{path} cannot be read: {line}") from error
