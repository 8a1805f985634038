"""What a person did that cannot work, said in one line. A traceback is for bugs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DfkdError(Exception):
    """Bad input or a missing thing: the command line prints ``str(error)`` alone and exits with 2."""


class Diverged(DfkdError):
    """A method's own failure (a loss that is not finite): recorded, not retried until asked."""


class Skipped(DfkdError):
    """A method cannot run in this cell; its message says why."""


class Interrupted(DfkdError):
    """A try ended for no fault of the method; another may go on."""


class DiskError(DfkdError):
    """The store cannot be written (full, read-only, no permission): nobody's method is to blame."""


class Unavailable(DfkdError):
    """A metric that cannot be had here; its message stands in the table's cell."""


def unknown(kind: str, name: str, known: Iterable[str]) -> DfkdError:
    """The error for a name nobody registered, with the nearest legal names.

    Args:
        kind: what was looked for, as the user calls it ("method", "setting of cpsc").
        name: what was given.
        known: every legal name.
    """
    options = sorted(known)
    near = difflib.get_close_matches(name, options, n=1, cutoff=0.5)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return DfkdError(f"unknown {kind} {name!r};{hint} known: {', '.join(options) or 'none'}")
