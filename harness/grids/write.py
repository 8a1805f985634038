"""A grid written back as a data-only file that ``dfkd run`` takes: the same grid, the same bytes.

Fields that are as `harness.config.Grid` has them by itself are left out; the name is the file's.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from typing import Any

from harness.config import Budget, Grid, On

_WIDTH = 110
_BRACKETS = {dict: ("{", "}"), tuple: ("(", ")"), list: ("[", "]"), On: ("On(", ")")}


def source(grid: Grid, title: str, lines: Sequence[str] = ()) -> str:
    """Python text that defines the grid.

    Args:
        grid: any; every value in it must be a plain one (numbers, texts, None, tuples, lists, dicts).
        title: the docstring's first line.
        lines: the rest of it, each a paragraph; one that begins with a blank keeps its own line breaks.
    """
    fields = {
        name: getattr(grid, name)
        for name, info in Grid.model_fields.items()
        if name != "name" and getattr(grid, name) != info.default
    }
    used = ["Budget", "Grid", *(["On"] if grid.on else [])]
    body = "".join(f"    {k}={literal(v, 4, len(k) + 2)},\n" for k, v in fields.items())
    text = "\n".join(_folded(line) for line in lines)
    doc = _quoted(f"{title}\n\n{text}\n" if lines else title)
    return f'"""{doc}"""\n\nfrom harness.config import {", ".join(used)}\n\nGRID = Grid(\n{body})\n'


def literal(value: Any, indent: int = 0, before: int = 0) -> str:
    """A value as Python text: on one line where that fits, else one item a line.

    Args:
        value: plain, or a Budget or an On.
        indent: blanks before the line that it stands on.
        before: characters that stand on the line already, beyond the indent.
    """
    flat = _flat(value)
    if indent + before + len(flat) + 1 <= _WIDTH or not isinstance(value, str | dict | tuple | list | On):
        return flat
    inner = indent + 4
    if isinstance(value, str):
        parts = textwrap.wrap(value, _WIDTH - inner - 12, drop_whitespace=False, break_on_hyphens=False)
        # folding may change no character, and one part alone need not be folded
        if len(parts) < 2 or "".join(parts) != value:
            return flat
        for i in range(1, len(parts)):  # a blank belongs to the end of a line
            bare = parts[i].lstrip(" ")
            parts[i - 1], parts[i] = parts[i - 1] + parts[i][: len(parts[i]) - len(bare)], bare
        return "(\n" + "".join(f"{' ' * inner}{_flat(part)}\n" for part in parts) + f"{' ' * indent})"
    if isinstance(value, dict):
        pairs = [(f"{_flat(k)}: ", v) for k, v in value.items()]
    elif isinstance(value, On):
        pairs = [(f"{k}=", v) for k, v in _set(value).items()]
    else:
        pairs = [("", v) for v in value]
    open_, close = _BRACKETS[type(value)]
    items = "".join(f"{' ' * inner}{key}{literal(v, inner, len(key))},\n" for key, v in pairs)
    return f"{open_}\n{items}{' ' * indent}{close}"


def _flat(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, Budget):
        amount = int(value.amount) if value.amount == int(value.amount) else value.amount
        return f"Budget(amount={amount!r}, unit={_flat(value.unit)})"
    if isinstance(value, On):
        return f"On({', '.join(f'{k}={_flat(v)}' for k, v in _set(value).items())})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flat(k)}: {_flat(v)}" for k, v in value.items()) + "}"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, list):
        return f"[{', '.join(map(_flat, value))}]"
    return repr(value)


def _set(on: On) -> dict[str, Any]:
    return {k: v for k in On.model_fields if (v := getattr(on, k)) not in ({}, None, "")}


def _folded(line: str) -> str:
    return line if line.startswith(" ") else "\n".join(textwrap.wrap(line, _WIDTH - 2)) if line else ""


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
