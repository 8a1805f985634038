"""Trial directories and teachers of several machines in one folder: what becomes of each, decided first.

A finished trial beats an unfinished one; two finished ones of the same numbers are one; of other numbers they
are refused. `harness.store.merge_copy` does what is planned here. MLflow learns of the trials by `dfkd sync`.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from harness.errors import DfkdError
from harness.store import records
from harness.store.compare import compare
from harness.store.directory import held
from harness.store.merge_copy import ASIDE, Move, amount, files, size, walk
from harness.store.merge_teachers import Weights, plan_teachers

Prefer = Literal["first", "newest"]
#: what becomes of a trial of one source: the first two are copied, of the rest OUT keeps what it has
Kind = Literal["copied", "replaced", "same", "kept", "running", "refused"]

#: which of two wins: what has a number before what failed, that before what is open, that before nothing
_RANK = {"done": 3, "failed": 2, "skipped": 2, "partial": 1, "missing": 0}


@dataclass(frozen=True)
class Fate:
    """What becomes of one trial of one source, and why."""

    kind: Kind
    id: str
    name: str
    source: Path
    why: str = ""

    def told_of(self, store: Path, source: Path) -> Fate:
        """The same in words about ``source`` where they are about ``store``."""
        mine = source if self.source == store else self.source
        return replace(self, source=mine, why=self.why.replace(str(store), str(source)))


@dataclass
class Plan:
    """All that a merge will do: ``moves`` and ``weights`` are copied, ``fates`` says it of every trial."""

    out: Path
    moves: list[Move] = field(default_factory=list)
    fates: list[Fate] = field(default_factory=list)
    weights: list[Weights] = field(default_factory=list)
    refused_weights: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Bytes to copy."""
        return sum(move.size for move in self.moves) + sum(each.size for each in self.weights)

    @property
    def left(self) -> bool:
        """Whether something is left undone that a person should look at."""
        return bool(self.refused_weights) or any(f.kind in ("running", "refused") for f in self.fates)


@dataclass(frozen=True)
class _Found:
    """A directory that may be taken, and what is known of it."""

    path: Path
    record: dict[str, Any]

    @property
    def home(self) -> Path:
        return self.path.parent.parent

    @property
    def rank(self) -> int:
        return _RANK[self.record["status"]]

    @property
    def name(self) -> str:
        """``cpsc on digits wrn16_2->wrn16_1 seed 0``, or the id of one that says nothing."""
        if "row" not in self.record:
            return self.path.name
        return "{row} on {task} {teacher}->{student} seed {seed}".format(**self.record)


def plan(sources: Sequence[Path], out: Path, prefer: Prefer | None = None) -> Plan:
    """Look at everything and decide; writes nothing.

    Args:
        sources: folders of `dfkd run --out`, the first one first.
        out: where all of it goes; what it has counts as coming before the first.
        prefer: of two finished trials with different numbers, the one met first or the one whose result is
            newest by its file's time; None refuses them.

    Raises:
        DfkdError: for folders that are none, that are given twice, lie inside each other or cannot be read.
    """
    sources, out = _checked(sources, out)
    made = Plan(out)
    try:
        made.weights, refused = plan_teachers(sources, out)
        homes: dict[str, list[Path]] = {}
        for source in sources:
            for place in (source / "trials").iterdir():
                if not place.name.startswith("."):
                    homes.setdefault(place.name, []).append(place)
        for id, places in sorted(homes.items()):
            _decide(made, id, places, prefer)
    except OSError as error:
        raise DfkdError(f"{error.filename or 'a folder'} cannot be read: {error.strerror or error}") from None
    made.refused_weights = [line for line, _ in refused]
    _count_orphans(made, {digest for _, digest in refused})
    return made


def _checked(sources: Sequence[Path], out: Path) -> tuple[list[Path], Path]:
    real = [Path(s).resolve() for s in sources]
    target = Path(out).resolve()
    for i, (given, path) in enumerate(zip(sources, real, strict=True)):
        if not (path / "trials").is_dir():
            what = "has no trials/" if path.is_dir() else "does not exist"
            raise DfkdError(f"{given} {what}: give folders of `dfkd run --out`")
        for other in (target, *real[:i]):
            if path == other:
                twice = "the folder that is merged into" if other == target else "given twice"
                raise DfkdError(f"{given} is {twice}")
            if path in other.parents or other in path.parents:
                raise DfkdError(f"{given} and {other} lie inside each other")
    if target.exists() and not target.is_dir():
        raise DfkdError(f"--out {out} is a file")
    return real, target


def _decide(made: Plan, id: str, places: Sequence[Path], prefer: Prefer | None) -> None:
    """The fates of one id's directories, and the one to copy, if any."""
    here = made.out / "trials" / id
    mine: _Found | None = None
    problem: tuple[Kind, str] | None = None
    if here.exists() or here.is_symlink():
        try:
            mine = _look(here)
            problem = ("running", "somebody is at it in OUT") if held(here) else None
        except DfkdError as error:
            problem = "refused", f"what OUT has is no trial: {error}"
    best, taken = mine, -1  # the place among the fates of the one to copy
    fates: list[Fate] = []
    for place in places:
        try:
            found = _look(place)
        except DfkdError as error:
            fates.append(Fate("refused", id, id, place.parent.parent, str(error)))
            continue
        kind, why = problem or _fate(best, found, prefer)
        if kind == "nothing":
            continue
        if kind == "better":
            if taken >= 0:
                fates[taken] = replace(fates[taken], kind="kept", why="another folder has a better one")
            best, taken = found, len(fates)
            kind = "replaced" if mine is not None and mine.rank else "copied"
        fates.append(Fate(kind, id, found.name, found.home, why))
    if taken >= 0 and best is not None:
        made.moves.append(Move(best.path, size(best.path), mine.record["status"] if mine else ""))
    made.fates += fates


def _fate(
    best: _Found | None, found: _Found, prefer: Prefer | None
) -> tuple[Kind | Literal["better", "nothing"], str]:
    """What becomes of ``found`` beside the ``best`` so far, and why."""
    if held(found.path):
        return "running", "somebody is at it there"
    if not found.rank:
        return "nothing", "declared, never run"
    if best is None or not best.rank:
        return "better", ""
    ours, theirs = best.record, found.record
    if best.rank != found.rank:
        if found.rank > best.rank:
            return "better", f"{theirs['status']} beats {ours['status']}"
        return "kept", f"it is {theirs['status']}, that of {best.home} is {ours['status']}"
    if ours["status"] == "partial":
        mine, its = len(ours["curve"]()), len(theirs["curve"]())
        far = f"interrupted after {its} points, that of {best.home} after {mine}"
        return ("better" if its > mine else "kept"), far
    if ours["status"] != "done":
        return "kept", f"it is {theirs['status']}, that of {best.home} is {ours['status']} too"
    pair = compare([ours], [theirs]).pairs[0]
    if pair.equal:
        more = [name for name in pair.extra if name in theirs["metrics"]]
        return "same", f"it has {', '.join(more)} besides: `dfkd measure` adds that" if more else ""
    differs = f"{_differences(pair)} ({best.home} first)"
    if prefer is None:
        return "refused", f"finished in both with other numbers: {differs}; --prefer first or newest decides"
    old, new = ((side.path / "result.json").stat().st_mtime_ns for side in (best, found))
    if prefer == "newest" and new > old:
        return "better", f"newer: {differs}"
    return "kept", f"{'not newer' if prefer == 'newest' else 'not first'}: {differs}"


def _look(path: Path) -> _Found:
    """What a directory holds.

    Raises:
        DfkdError: for one that is no trial, or holds links or what is no plain file.
    """
    for place in (path, *walk(path)):
        mode = place.lstat().st_mode
        if stat.S_ISLNK(mode):
            raise DfkdError(f"{place} is a link to {os.readlink(place)}: links are not followed")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DfkdError(f"{place} is neither a file nor a folder")
    if not path.is_dir():
        raise DfkdError(f"{path} is a file: trials are folders")
    if not files(path):  # a lock at most: killed before its first word
        return _Found(path, {"status": "missing"})
    record = records.record_of(path)
    if record["told_id"] != path.name:
        raise DfkdError(f"{path / 'trial.json'} is of trial {record['told_id']}: damaged or moved")
    return _Found(path, record)


def _differences(pair: Any) -> str:
    """``top1 96.1 and 95.9, fd_teacher 11.7 and 11.8 and 3 more; machine, torch differ``."""
    names = sorted(pair.metrics, key=lambda name: (name != "top1", name))
    told = [f"{name} {pair.metrics[name][0]:.6g} and {pair.metrics[name][1]:.6g}" for name in names[:2]]
    said = ", ".join(told) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
    where = [name for name in pair.provenance if name != "teacher_top1"]
    tail = f"{', '.join(where)} differ{'s' if len(where) == 1 else ''}" if where else "same provenance"
    return f"{said or pair.curve}; {tail}"


def _count_orphans(made: Plan, refused: set[str]) -> None:
    """Add how many trials come from teachers that are refused: their results will be shown as stale."""
    if not refused:
        return
    ids = [move.source for move in made.moves]
    digests = [records.record_of(path)["provenance"].get("teacher_digest", "") for path in ids]
    if n := sum(digest in refused for digest in digests):
        made.refused_weights.append(
            f"{n} of the trials come from a refused teacher: reports show them as stale"
        )


def lines(made: Plan, dry_run: bool) -> list[str]:
    """What a merge did, or would do: each trial that was not simply copied or the same, then the counts."""
    said = [
        f"{fate.kind:8}  {fate.name} of {fate.source}" + (f": {fate.why}" if fate.why else "")
        for fate in made.fates
        if fate.kind not in ("copied", "same") or fate.why
    ]
    said += [f"refused   {line}" for line in made.refused_weights]
    kinds = Counter(fate.kind for fate in made.fates)
    done = "would be copied" if dry_run else "copied"
    counts = [f"{_count(len(made.moves), 'trial')} {done} ({amount(made.size)} with teachers)"]
    if kinds["replaced"]:
        counts.append(
            f"{kinds['replaced']} in the place of others, which are set aside in {made.out / ASIDE}"
        )
    words: dict[Kind, str] = {
        "same": "there already",
        "kept": "not taken",
        "running": "running",
        "refused": "refused",
    }
    counts += [f"{kinds[kind]} {word}" for kind, word in words.items() if kinds[kind]]
    if made.weights:
        counts.append(f"{_count(len(made.weights), 'teacher')} {done}")
    return [*said, *[""] * bool(said), ", ".join(counts)]


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def plain(made: Plan) -> dict[str, Any]:
    """The same as JSON's types."""
    fates = [{**vars(fate), "source": str(fate.source)} for fate in made.fates]
    return {
        "out": str(made.out),
        "trials": fates,
        "counts": dict(sorted(Counter(fate.kind for fate in made.fates).items())),
        "bytes": made.size,
        "teachers": [each.name for each in made.weights],
        "refused_teachers": made.refused_weights,
    }
