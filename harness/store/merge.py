"""Trials and teachers of several stores in one: what is missing there is copied, what differs is refused.

A trial's directory is named by what the trial declares and a teacher's file by how it was made, so that one
name holds one content, or somebody should look at it. What is there stays as it is. A directory is copied
beside its place, then renamed: after a kill it is there whole or not at all. Published results are a store
too, without teachers. MLflow learns of the trials by `dfkd sync`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import DfkdError, DiskError
from harness.files import locked, saying, scratch, whole
from harness.store import cards
from harness.store.compare import Pair, pair
from harness.store.directory import Busy, TrialDir, holding
from harness.store.records import Record, Side, record_of

#: what a directory holds that is about its place
_LOCAL = frozenset({"lock", "synced.json"})


@dataclass
class Plan:
    """What a merge will do.

    Attributes:
        out: the store that is merged into.
        trials: to copy, by id.
        teachers: weights to copy, by ``task/file``; the card lies beside.
        there: how many trials of the sources it has already.
        unfinished: how many are left where they are, as they run or were interrupted.
        refused: why a trial or a teacher is not taken, a line each.
    """

    out: Path
    trials: dict[str, Record] = field(default_factory=dict)
    teachers: dict[str, Path] = field(default_factory=dict)
    there: int = 0
    unfinished: int = 0
    refused: list[str] = field(default_factory=list)

    def plain(self) -> dict[str, Any]:
        """As JSON's types."""
        return vars(self) | {
            "out": str(self.out), "trials": sorted(self.trials), "teachers": sorted(self.teachers)
        }  # fmt: skip

    def lines(self, dry_run: bool) -> list[str]:
        """For a terminal: what was refused, then the counts."""
        done = "would be copied" if dry_run else "copied"
        counts = [f"{_count(len(self.trials), 'trial')} {done}"]
        counts += [f"{_count(len(self.teachers), 'teacher')} {done}"] if self.teachers else []
        counts += [f"{self.there} there already"] if self.there else []
        counts += [f"{self.unfinished} not finished and left"] if self.unfinished else []
        counts += [f"{len(self.refused)} refused"] if self.refused else []
        return [*(f"refused: {line}" for line in self.refused), ", ".join(counts)]


def _count(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def plan(sources: Sequence[Side], out: Path) -> Plan:
    """Look at everything and decide; writes nothing.

    Args:
        sources: of two that have a trial, the first one's is taken and the other one held against it.
        out: where all of it goes.
    """
    made = Plan(Path(out))
    for source in sources:
        made.refused += source.notes
        for record in source.records:
            try:
                _decide(made, record)
            except DfkdError as error:
                made.refused.append(f"{record.name} of {source.path}: {error}")
        for path, card in cards.every(source.store.out / "teachers") if source.store else ():
            try:
                _decide_teacher(made, path, card)
            except DfkdError as error:
                made.refused.append(str(error))
    return made


def _decide(made: Plan, record: Record) -> None:
    """Take a trial, or pass it over.

    Raises:
        DfkdError: saying why it is refused.
    """
    if record.status == "missing":  # declared and never run
        return
    if record.status in ("partial", "running"):
        made.unfinished += 1
        return
    mine = made.trials.get(record.id) or _there(made.out / "trials" / record.id)
    if mine is None:
        list(_files(record.path))
        made.trials[record.id] = record
        return
    if mine.status != record.status:
        raise DfkdError(f"it is {record.stands}; {made.out} has it {mine.stands}")
    held = pair(mine, record)
    if held.done and not held.equal:
        raise DfkdError(f"{made.out} has other numbers: {_differences(held)}")
    made.there += 1


def _there(path: Path) -> Record | None:
    """What the store has of a trial; None for nothing, and for one that was declared and left nothing.

    Raises:
        DfkdError: for what is no trial.
    """
    if path.is_symlink():
        raise DfkdError(f"{path} is a link to {os.readlink(path)}: links are not followed")
    if not path.exists():
        return None
    record = record_of(path)
    return None if record.status == "missing" else record


def _files(path: Path) -> Iterator[Path]:
    """What is copied of a directory, by names relative to it.

    Raises:
        DfkdError: for links, and what is no plain file.
    """
    for place in (path, *sorted(path.rglob("*"))):
        if place.is_symlink():
            raise DfkdError(f"{place} is a link to {os.readlink(place)}: links are not followed")
        if not place.is_dir():
            if not place.is_file():
                raise DfkdError(f"{place} is neither a file nor a folder")
            if place.name not in _LOCAL and not (place.name.startswith(".") and place.suffix == ".tmp"):
                yield place.relative_to(path)


def _differences(held: Pair) -> str:
    """``top1 96.1 there, 95.9 here, fd_teacher 11.7 there, 11.8 here and 3 more; machine, torch differ``."""
    names = sorted(held.metrics, key=lambda name: (name != "top1", name))
    told = [f"{k} {held.metrics[k][0]:.6g} there, {held.metrics[k][1]:.6g} here" for k in names[:2]]
    said = ", ".join(told) + (f" and {len(names) - 2} more" if len(names) > 2 else "")
    where = [name for name in held.provenance if name != "teacher_top1"]
    tail = f"{', '.join(where)} differ{'s' if len(where) == 1 else ''}" if where else "same provenance"
    return f"{said or held.curve}; {tail}"


def _decide_teacher(made: Plan, path: Path, card: cards.Card | DfkdError) -> None:
    """Take a teacher, or pass it over.

    Raises:
        DfkdError: saying why it is refused.
    """
    if isinstance(card, DfkdError):
        raise card
    name = f"{path.parent.name}/{path.name}"
    mine = made.teachers.get(name, made.out / "teachers" / name)
    if mine.exists():
        there = cards.read_card(mine)
        if there.digest != card.digest:
            raise DfkdError(
                f"teacher {path} has digest {card.digest[:12]}, {mine} has {there.digest[:12]}: results of "
                "one are stale beside the other"
            )
        return
    for each in (path.parent, path, path.with_suffix(".json")):
        if each.is_symlink():
            raise DfkdError(f"{each} is a link to {os.readlink(each)}: links are not followed")
    cards.check_digest(path, card)
    made.teachers[name] = path


def carry_out(made: Plan) -> None:
    """Copy the teachers, then the trials; one that somebody is at is refused, in ``made``.

    Raises:
        DiskError: when the disk fails; what was copied stays, and the same command goes on from there.
        DfkdError: when something came to the place of what is copied since the plan was made.
    """
    out = made.out
    failed = f"cannot copy to {out}, what was copied stays and the same command goes on"
    with saying(failed, DiskError):
        (out / "trials").mkdir(parents=True, exist_ok=True)
        for name, path in list(made.teachers.items()):
            try:
                _copy_teacher(path, out / "teachers" / name)
            except Busy as error:
                made.refused.append(str(error))
                del made.teachers[name]
        with scratch(out, ".merge-") as beside:
            for record in list(made.trials.values()):
                try:
                    _copy(record.path, out / "trials" / record.id, beside)
                except Busy as error:
                    made.refused.append(str(error))
                    del made.trials[record.id]


def _copy(source: Path, here: Path, beside: Path) -> None:
    new = beside / source.name
    with holding(source):
        for name in _files(source):
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, new / name)
    with holding(here):
        if here.exists() and TrialDir.at(here).settled() != "missing":
            raise DfkdError(f"{here} changed since it was looked at: merge again")
        if here.exists():
            here.rename(beside / f"{here.name}.declared")
        new.rename(here)


def _copy_teacher(source: Path, here: Path) -> None:
    here.parent.mkdir(parents=True, exist_ok=True)
    busy = Busy(f"teacher {here} is being made there: merge again when it is")
    with locked(here.with_suffix(".lock"), busy):
        if here.exists():
            raise DfkdError(f"{here} changed since it was looked at: merge again")
        for path in (source.with_suffix(".json"), source):  # a card alone is no teacher: a kill leaves none
            with whole(here.with_suffix(path.suffix)) as new:
                shutil.copy2(path, new)
