"""How commands print: tables for people, JSON for scripts."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

_BARS = "▁▂▃▄▅▆▇█"
#: where there is no terminal nothing is cut: a pipe has no width
_PIPE = 10_000


def dump(value: Any) -> None:
    """Print as JSON; what is not finite becomes null."""
    print(json.dumps(_plain(value), indent=1, ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in (sorted(value) if isinstance(value, set | frozenset) else value)]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value)


def table(rows: Sequence[Mapping[str, Any]], *, title: str = "") -> None:
    """Print rows under the keys of the first; columns of numbers are set to the right."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    terminal = sys.stdout.isatty()
    shown = Table(box=None, pad_edge=False, header_style="bold", title=title or None, title_justify="left")
    for name in rows[0]:
        numeric = all(isinstance(row[name], int | float) or row[name] in ("", None) for row in rows)
        shown.add_column(Text(name), justify="right" if numeric else "left", no_wrap=not terminal)
    for row in rows:
        shown.add_row(*(Text(cell(row[name])) for name in rows[0]))
    Console(width=None if terminal else _PIPE, highlight=False).print(shown)


def cell(value: Any) -> str:
    """A value in at most five significant digits, empty where there is none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e6 else f"{value:.5g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """Finite values as a row of bars from the lowest to the highest, at most ``width`` of them."""
    known = [v for v in values if math.isfinite(v)]
    if not known:
        return ""
    picked = [known[i * len(known) // min(width, len(known))] for i in range(min(width, len(known)))]
    picked[-1] = known[-1]
    low, high = min(picked), max(picked)
    top = len(_BARS) - 1
    return "".join(_BARS[round((v - low) / (high - low) * top) if high > low else 0] for v in picked)


def note(line: str) -> None:
    """Say a line to the person, on stderr: stdout is for results."""
    print(line, file=sys.stderr, flush=True)
