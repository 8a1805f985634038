"""What follows from the code alone, kept across commands: to ask again would be to import torch again.

That import takes most of two seconds; ``dfkd list`` and shell completion want what comes after it: the
resolved settings of methods, the names of networks.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Callable
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from harness.files import whole
from harness.registry import GROUP
from harness.tasks.cache import cache_dir

#: packages whose source decides the answer
_PACKAGES = ("harness", "methods")
#: answers kept; the oldest go
_MOST = 100


def by_code(question: str, answer: Callable[[], Any]) -> Any:
    """The JSON value of ``answer()``, from the cache while no source file of ours has changed.

    Where plug-ins are installed nothing is remembered: their sources may lie anywhere.

    Args:
        question: names the answer, with all that it depends on besides the code.
        answer: how to find it; what it raises is not remembered.
    """
    if entry_points(group=GROUP):
        return answer()
    path = cache_dir() / "code" / f"{hashlib.sha256(question.encode()).hexdigest()[:24]}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        kept = json.loads(path.read_bytes())
        if kept["code"] == _code():
            return kept["answer"]
    # torch's import makes a million objects that stay: looking through them for garbage takes a fifth of its
    # time, and a third of a second at exit
    collects = gc.isenabled()
    gc.disable()
    try:
        found = answer()
    finally:
        if collects:
            gc.freeze()
            gc.enable()
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as new:
            new.write_text(json.dumps({"code": _code(), "answer": found}))
        for old in sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-_MOST]:
            old.unlink(missing_ok=True)
    return found


@lru_cache(maxsize=1)
def _code() -> str:
    """SHA-256 over the names and contents of our source files: milliseconds."""
    total = hashlib.sha256()
    for package in _PACKAGES:
        spec = find_spec(package)
        for folder in (spec and spec.submodule_search_locations) or ():
            for file in sorted(Path(folder).rglob("*.py")):
                total.update(f"{file} {file.stat().st_size}\n".encode() + file.read_bytes())
    return total.hexdigest()
