"""What is to come of a grid: trials, hours and disk. Loads torch only where something has to be measured."""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.config import Trial
from harness.errors import Skipped
from harness.grids.known import FINISHED, Known, Untold
from harness.store import cards
from harness.store.directory import Store

#: where a trial stands, in the order of the table
STANDS = ("done", "stale", "running", "partial", "missing", "failed", "skipped")
#: (trial, provenance of its result) -> why it is stale, or an empty text
Stale = Callable[[Trial, Mapping[str, Any]], str]
#: label, task, teacher and student: a row of the plan
_Cell = tuple[str, str, str, str]


@dataclass
class Row:
    """The trials of a row of the grid on one task and pair.

    Attributes:
        counts: of `STANDS`, how many trials stand there; a stale one is done too, and counts as stale alone.
        jobs: seconds still to come of each trial beside the others; None where nothing tells.
        bytes: still to come on disk.
        source: who told.
        note: why trials are skipped, why nothing tells, or which earlier row has the same trials.
    """

    label: str
    task: str
    pair: tuple[str, str]
    counts: dict[str, int]
    jobs: list[float] | None
    bytes: float = 0.0
    source: str = ""
    note: str = ""


@dataclass
class Lesson:
    """A teacher that has to be trained first: seconds, bytes, and who told."""

    name: str
    seconds: float
    bytes: float
    source: str


@dataclass
class Plan:
    """What is to come.

    Attributes:
        rows: of the grid, in its order.
        teachers: that have to be trained.
        workers: trials at a time.
        room: teachers at a time.
        start: seconds in which neither a trial nor a teacher runs.
    """

    rows: list[Row]
    teachers: list[Lesson]
    workers: int
    room: int
    start: float

    @property
    def seconds(self) -> float:
        """Of the wall clock until all is done; rows of which nothing tells are left out."""
        trials = [job for row in self.rows for job in row.jobs or ()]
        lessons = (lesson.seconds for lesson in self.teachers)
        return self.start + makespan(lessons, self.room) + makespan(trials, self.workers)

    @property
    def bytes(self) -> float:
        """Still to come on disk."""
        return sum(row.bytes for row in self.rows) + sum(lesson.bytes for lesson in self.teachers)

    def share(self, row: Row) -> float | None:
        """Seconds of the wall clock: a row's share of what all trials take together."""
        if row.jobs is None:
            return None
        trials = [job for each in self.rows for job in each.jobs or ()]
        return sum(row.jobs) / sum(trials) * makespan(trials, self.workers) if sum(row.jobs) else 0.0


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Seconds of the wall clock for jobs that are taken in their order by whoever is free."""
    busy = [0.0] * max(1, workers)
    for each in seconds:
        heapq.heapreplace(busy, busy[0] + each)
    return max(busy)


def make(
    trials: Sequence[Trial], dirs: Store, teachers: Path, known: Known, stale: Stale, workers: int, room: int
) -> Plan:
    """The plan for a grid's trials; one that several rows share belongs to the first of them.

    Args:
        trials: of the grid.
        dirs: where they lie.
        teachers: where teachers lie.
        known: of their cost.
        stale: tells a result that no longer stands.
        workers: trials at a time as far as there are so many; 0: in one process without Ray.
        room: jobs that fit at a time; Ray trains as many teachers, whatever the workers.
    """
    cells: dict[_Cell, list[tuple[Trial, str, float]]] = {_cell(t): [] for t in trials}
    firsts: dict[str, Trial] = {}
    shared: dict[_Cell, str] = {}
    for t in trials:
        first = _cell(firsts.setdefault(t.id, t))
        if first != _cell(t):
            shared.setdefault(_cell(t), first[0])
    stands = list(_standing(firsts.values(), dirs, stale))
    open_ = sum(share > 0 for _, _, share in stands)
    at_once = max(1, min(workers, open_))
    for each in stands:
        cells[_cell(each[0])].append(each)
    rows, runnable = list[Row](), list[Trial]()
    for cell, found in cells.items():
        label, task, teacher, student = cell
        counted = Counter(stand for _, stand, _ in found)
        row = Row(label, task, (teacher, student), {s: counted[s] for s in STANDS if counted[s]}, [])
        skipped = [dirs.look(t).failure or {} for t, stands, _ in found if stands == "skipped"]
        row.note = skipped[0]["reason"] if skipped else ""
        to_come = [(t, share) for t, _, share in found if share > 0]
        if to_come:
            _estimate(row, to_come, known, at_once)
        if not row.note and cell in shared:
            row.note = f"{'shares' if found else 'same'} trials {'with' if found else 'as'} {shared[cell]}"
        if row.jobs:
            runnable += [t for t, _ in to_come]
        rows.append(row)
    return Plan(
        rows=rows,
        teachers=[_lesson(t, known) for t in _untaught(runnable, teachers)],
        workers=at_once,
        room=room if workers else 1,
        start=known.start(workers > 0) if runnable else 0.0,
    )


def _cell(trial: Trial) -> _Cell:
    return trial.label or trial.method, trial.task, trial.teacher, trial.student


def _standing(trials: Iterable[Trial], dirs: Store, stale: Stale) -> Iterator[tuple[Trial, str, float]]:
    """Each trial, where it stands, and the share of it that is still to come."""
    for trial in trials:
        run = dirs.run(trial)
        found = run.look()
        stands: str = found.status
        share = 1.0 if stands == "missing" else 0.0
        if stands in ("partial", "running"):
            curve = run.curve()
            share = 1.0 - min(1.0, curve[-1]["point"] / trial.points if curve else 0.0)
        elif stands == "done" and stale(trial, (found.result or {}).get("provenance", {})):
            stands = "stale"
        yield trial, stands, share


def _estimate(row: Row, to_come: Sequence[tuple[Trial, float]], known: Known, at_once: int) -> None:
    """Seconds and bytes of a row's open trials, or why there are none."""
    try:
        for trial, share in to_come:
            cost, source = known.cost(trial)
            row.source = row.source or source  # what was measured for the first is in the book for the next
            # a finished trial had its neighbours, what was measured had none
            crowd = 1.0 if FINISHED[:-1] in source else known.crowding(trial, at_once)
            assert row.jobs is not None
            row.jobs.append(share * crowd * cost.total(trial))
            row.bytes += cost.disk(trial)
    except Skipped as reason:
        row.jobs, row.bytes, row.source, row.note = [], 0.0, "", f"will be skipped: {reason}"
    except Untold as error:
        row.jobs, row.bytes, row.source, row.note = None, 0.0, "unknown", str(error)


def _untaught(trials: Iterable[Trial], teachers: Path) -> list[Trial]:
    """One trial for each teacher that has to be trained; an imported one never is."""
    found = {cards.path_of(teachers, t): t for t in trials if not t.teacher_digest}
    return [t for t in found.values() if cards.find(teachers, t) is None]


def _lesson(trial: Trial, known: Known) -> Lesson:
    seconds, source = known.teacher(trial)
    name = f"{trial.teacher} on {trial.task} seed {trial.teacher_seed}"
    return Lesson(name, seconds, known.tools.teacher_bytes(trial), source)
