"""A grid written back as a data-only file that ``dfkd run`` takes: the same grid, the same bytes.

Fields that are as `harness.config.Grid` has them by itself are left out; the name is the file's.
"""

from __future__ import annotations

import pprint
import textwrap
from collections.abc import Sequence
from typing import Any

from harness.config import Grid

_WIDTH = 110


def source(grid: Grid, title: str, lines: Sequence[str] = ()) -> str:
    """Python text that defines the grid; budgets and places stand as dictionaries.

    Args:
        grid: any; every value in it must be a plain one (numbers, texts, None, tuples, lists, dicts).
        title: the docstring's first line.
        lines: the rest of it, each a paragraph; one that begins with a blank keeps its own line breaks.
    """
    text = "\n".join(_folded(line) for line in lines)
    doc = f"{title}\n\n{text}\n" if lines else title
    quoted = doc.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    fields = grid.model_dump(exclude={"name"}, exclude_defaults=True)
    body = "".join(textwrap.indent(field(name, value), "    ") for name, value in fields.items())
    return f'"""{quoted}"""\n\nfrom harness.config import Grid\n\nGRID = Grid(\n{body})\n'


def field(name: str, value: Any) -> str:
    """A field of a grid as its file has it, ``name=value,``; where it is long, one item a line."""
    flat = f"{name}={value!r},\n"
    if len(flat) < _WIDTH - 4:
        return flat
    text = pprint.pformat(value, width=_WIDTH - 9, sort_dicts=False)
    if isinstance(value, str):  # folded at its blanks, in brackets; else not folded
        text, end = text.removeprefix("(").removesuffix(")"), ""
    else:
        text, end = text[1:-1].rstrip(","), ","
    opening, closing = "{}" if isinstance(value, dict) else "[]" if isinstance(value, list) else "()"
    # the first line stood behind a bracket, the others stand one blank to the right
    items = textwrap.indent(textwrap.dedent(" " + text), "    ") + end
    return f"{name}={opening}\n{items}\n{closing},\n"


def _folded(line: str) -> str:
    return line if line.startswith(" ") else "\n".join(textwrap.wrap(line, _WIDTH - 2)) if line else ""
