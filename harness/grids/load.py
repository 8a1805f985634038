"""Find a grid by name or file, and read it."""

from __future__ import annotations

import re
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from harness.config import Budget, Grid, one_line
from harness.errors import DfkdError, unknown
from harness.store import published

_GRID = re.compile(rb"^GRID\b", re.MULTILINE)


def known() -> list[str]:
    """Names of the grids in ``benchmarks/``: its files that define GRID."""
    return sorted(p.stem for f in _folders() for p in f.glob("*.py") if _GRID.search(p.read_bytes()))


def _folders() -> list[Path]:
    spec = find_spec("benchmarks")
    return [Path(f) for f in (spec and spec.submodule_search_locations) or ()]


def find(given: str) -> Path:
    """The file that a GRID argument means: a path, or the bare name of one in ``benchmarks/``.

    Raises:
        DfkdError: when there is none.
    """
    path = Path(given)
    if path.is_file():
        return path
    if path.suffix == ".py" or len(path.parts) > 1:
        what = "is a folder, not a grid file" if path.is_dir() else "does not exist"
        raise DfkdError(f"grid {path} {what}; in benchmarks/: {', '.join(known()) or 'none'}")
    for folder in _folders():
        if (file := folder / f"{given}.py").is_file() and given != "__init__":
            return file
    raise unknown("grid", given, known())


def load(given: str | Path) -> Grid:
    """The GRID of a file, named after it; of published results, the grid as it was run.

    Raises:
        DfkdError: for a missing file, one that is no Python, or one whose GRID is missing or wrong.
    """
    if published.is_one(Path(given)):
        return published.Archive(Path(given)).grid
    path = find(str(given))
    space: dict[str, Any] = {"__name__": path.stem, "__file__": str(path)}
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), space)
    except OSError as error:
        raise DfkdError(f"grid {path} cannot be read: {error.strerror or error}") from None
    except SyntaxError as error:
        raise DfkdError(f"grid {path}, line {error.lineno or '?'}: {error.msg}") from None
    except ValidationError as error:
        raise DfkdError(f"grid {path}: {one_line(error)}") from None
    except Exception as error:  # noqa: BLE001 - a grid file is input: whatever it raises is one line
        line = next(
            (
                f.lineno
                for f in reversed(traceback.extract_tb(error.__traceback__))
                if f.filename == str(path)
            ),
            "?",
        )
        text = (str(error).splitlines() or [""])[0]
        raise DfkdError(f"grid {path}, line {line}: {type(error).__name__}: {text}") from None
    if "GRID" not in space:
        raise DfkdError(f"grid {path} defines no GRID: write GRID = Grid(...)")
    grid = space["GRID"]
    if not isinstance(grid, Grid):
        raise DfkdError(f"grid {path}: GRID is a {type(grid).__name__}, not a harness.config.Grid")
    return grid.model_copy(update={"name": path.stem})


def bare(tasks: Sequence[str], pairs: Sequence[tuple[str, str]]) -> Grid:
    """Every method at its own defaults, for one round of one seed: what `override` picks from without a file.

    Raises:
        DfkdError: without a task or a pair.
    """
    try:
        return Grid(tasks=tuple(tasks), pairs=tuple(pairs), seeds=(0,), budget=Budget(amount=1))
    except ValidationError as error:
        raise DfkdError(one_line(error)) from None
