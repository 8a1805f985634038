"""Python's cyclic garbage collection, put off while very many objects are made that stay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected(*, keep: bool = False) -> Iterator[None]:
    """Collect nothing for the while: looking through objects that stay, over and over, takes most of it.

    Args:
        keep: never look at what was made here again; right for what lives as long as the process.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            if keep:
                gc.freeze()
            gc.enable()
