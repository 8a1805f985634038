"""What is to come of a grid: where its trials stand, and the seconds that are left.

A trial takes as long as its like that finished on this machine, in proportion to the budget: by the clock, so
with what else ran then. Where there is none, it takes as long as rounds of its like that are timed now.
"""

from __future__ import annotations

import heapq
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from harness import files
from harness.config import Budget, Trial, digest
from harness.errors import DfkdError, Skipped
from harness.grids import bench
from harness.store import cards
from harness.store.directory import Store, TrialDir
from harness.store.stale import Staleness
from harness.trials.provenance import machine

#: where a trial stands, in the order of the table
STANDS = ("done", "stale", "running", "partial", "missing", "failed", "skipped")
#: label, task, teacher and student: a row of the plan
Place = tuple[str, str, str, str]
#: a finished trial tells of one so many times as long at most: a short one shows little but its start
_LONGER = 10.0
#: what decides what a trial costs, beside its settings
_ALIKE = (
    "method", "method_version", "task", "task_version", "teacher", "student", "precision", "channels_last",
    "compile", "points", "cpus",
)  # fmt: skip


@dataclass
class Row:
    """The trials of a row of the grid on one task and pair.

    Attributes:
        counts: of `STANDS`, how many trials stand there; a stale one is done too, and counts as stale alone.
        each: seconds of one whole trial; None where none is to come, or nothing tells.
        jobs: seconds still to come of each trial; None where nothing tells.
        source: who told.
        note: why trials are skipped, why nothing tells, or which earlier row has the same trials.
    """

    label: str
    task: str
    pair: tuple[str, str]
    counts: dict[str, int]
    each: float | None = None
    jobs: list[float] | None = None
    source: str = ""
    note: str = ""


@dataclass
class Lesson:
    """A teacher that has to be trained first: its seconds, and who told."""

    name: str
    seconds: float
    source: str


@dataclass
class Plan:
    """What is to come: rows of the grid in its order, teachers that have to be trained, trials at a time."""

    rows: list[Row]
    teachers: list[Lesson]
    workers: int

    def seconds(self, workers: int | None = None) -> float:
        """Of the wall clock until all is done, teachers first; rows of which nothing tells are left out.

        Args:
            workers: at a time, each as fast as alone; None for those of the plan.
        """
        at_once = workers or self.workers
        trials = (job for row in self.rows for job in row.jobs or ())
        return makespan((t.seconds for t in self.teachers), at_once) + makespan(trials, at_once)


def makespan(seconds: Iterable[float], workers: int) -> float:
    """Seconds of the wall clock for jobs that are taken in their order by whoever is free."""
    busy = [0.0] * max(1, workers)
    for each in seconds:
        heapq.heapreplace(busy, busy[0] + each)
    return max(busy)


class _Known:
    """What trials and teachers take, and who told; what nobody tells is measured, once for all alike."""

    def __init__(self, out: Path, teachers: Path, device: str, tell: Callable[[str], None]) -> None:
        """Read every result under ``out`` that was made on this machine; arguments as `make` takes them."""
        self._finished = _finished(out, bench.device_name(device))
        self._cards, self._device, self._tell = cards.cards(teachers), device, tell
        self._costs: dict[str, bench.Cost] = {}
        self._lessons: dict[str, float] = {}

    def trial(self, trial: Trial) -> tuple[float, str]:
        """Seconds of a whole trial, and who told.

        Raises:
            Skipped: when the method says that it cannot run there.
            DfkdError: for what cannot be measured.
        """
        kind = _kind(trial.model_dump())
        told = [took for ran in self._finished.get(kind, ()) if (took := ran.another(trial.budget))]
        if told:
            return statistics.median(told), f"{len(told)} finished trial{'s' if len(told) > 1 else ''}"
        if kind not in self._costs:
            self._tell(f"timing {trial.label} on {trial.task} {trial.teacher}->{trial.student}")
            self._costs[kind] = bench.measure(trial, self._device)
        return self._costs[kind].total(trial.budget, trial.points), "rounds timed now"

    def teacher(self, trial: Trial) -> tuple[float, str]:
        """Seconds in which a trial's teacher will be trained, and who told: its like, trained here, first."""
        alike = (trial.task, trial.teacher, trial.recipe)
        here = [c for c in self._cards if c.machine == machine() and c.seconds]
        if took := [c.seconds for c in here if (c.task, c.net, c.recipe) == alike]:
            return statistics.median(took), f"{len(took)} trained"
        kind = repr(alike)
        if kind not in self._lessons:
            self._tell(f"timing the training of {trial.teacher} on {trial.task}")
            self._lessons[kind] = bench.teaching(trial, self._device)
        return self._lessons[kind], "steps timed now"


@dataclass(frozen=True)
class _Ran:
    """What a finished trial spent, by unit; seconds of its rounds and of the rest."""

    spent: Mapping[str, float]
    seconds: float
    rest: float

    def another(self, budget: Budget) -> float | None:
        """Seconds of its like with that budget; None where it is too long, or spends no such unit."""
        spent = self.spent[budget.unit]
        if not spent or budget.amount > _LONGER * spent:
            return None
        return self.seconds * budget.amount / spent + self.rest


def _kind(trial: Mapping[str, Any]) -> str:
    """A hash of all that decides what a trial costs; a number of a setting counts as zero or not."""
    settings = {k: bool(v) if isinstance(v, float) else v for k, v in trial["settings"].items()}
    return digest({k: trial[k] for k in _ALIKE} | {"settings": settings})


def _finished(out: Path, device: str) -> dict[str, list[_Ran]]:
    """Kind -> what its trials took that finished on this machine and device, with this torch."""
    here = (machine(), device, torch.__version__.partition("+")[0])
    found: dict[str, list[_Ran]] = {}
    for path in sorted((Path(out) / "trials").glob("*/result.json")):
        trial, result = files.read_json(path.with_name("trial.json")), TrialDir.at(path.parent).result()
        if not trial or not result:
            continue
        with suppress(KeyError, TypeError):  # a result of before there was such a field
            seen, took = result["provenance"], result["cost"]
            where = "cpu" if seen["device"] == "cpu" else seen.get("gpu")
            rest = took["seconds_total"] - took["seconds"]
            # resumed after a kill, the total is of its last part alone
            if (seen["machine"], where, seen["torch"].partition("+")[0]) == here and rest >= 0:
                ran = _Ran({k: float(v) for k, v in result["spend"].items()}, took["seconds"], rest)
                found.setdefault(_kind(trial), []).append(ran)
    return found


def make(
    trials: Iterable[Trial], out: Path, teachers: Path, device: str, workers: int, tell: Callable[[str], None]
) -> Plan:
    """The plan for a grid's trials; one that several rows share belongs to the first of them.

    Args:
        trials: of the grid.
        out: the store.
        teachers: where teachers lie.
        device: where trials run, as `harness.grids.bench.measure` takes it.
        workers: trials at a time, as far as there are so many.
        tell: hears a line before something is timed.
    """
    known, stale = _Known(out, teachers, device, tell), Staleness(teachers)
    owners = dict[str, str]()
    rows, runnable, open_ = list[Row](), list[Trial](), 0
    for place, here in by_place(trials).items():
        own = {t.id: t for t in here if owners.setdefault(t.id, place[0]) == place[0]}
        row, to_come = _row(place, own.values(), Store(out), stale, known)
        lent = [label for t in here if (label := owners[t.id]) != place[0]]
        if lent and not row.note:
            row.note = f"{'shares' if own else 'same'} trials {'with' if own else 'as'} {lent[0]}"
        runnable += to_come if row.jobs else []
        open_ += len(to_come)
        rows.append(row)
    # one trial for each teacher that has to be trained; an imported one never is
    taught = {cards.path_of(teachers, t): t for t in runnable if not t.teacher_digest}
    lessons = [
        Lesson(f"{t.teacher} on {t.task} seed {t.teacher_seed}", *known.teacher(t))
        for t in taught.values()
        if cards.find(teachers, t) is None
    ]
    return Plan(rows, lessons, max(1, min(workers, open_)))


def by_place(trials: Iterable[Trial]) -> dict[Place, list[Trial]]:
    """The trials of each row, in their order."""
    found: dict[Place, list[Trial]] = {}
    for t in trials:
        found.setdefault((t.label or t.method, t.task, t.teacher, t.student), []).append(t)
    return found


def _row(
    place: Place, trials: Iterable[Trial], store: Store, stale: Staleness, known: _Known
) -> tuple[Row, list[Trial]]:
    """A row, and its trials that are to come."""
    stands = [(t, *_stands(t, store, stale)) for t in trials]
    counted = Counter(stand for _, stand, _, _ in stands)
    label, task, teacher, student = place
    row = Row(label, task, (teacher, student), {s: counted[s] for s in STANDS if counted[s]}, jobs=[])
    row.note = next((why for _, _, _, why in stands if why), "")
    to_come = [(t, share) for t, _, share, _ in stands if share > 0]
    try:
        for trial, share in to_come:
            row.each, row.source = known.trial(trial)
            row.jobs = [*(row.jobs or ()), share * row.each]
    except Skipped as reason:
        row.jobs, row.note = [], f"will be skipped: {reason}"
    except DfkdError as error:
        row.jobs, row.source, row.note = None, "unknown", str(error)
    return row, [t for t, _ in to_come]


def _stands(trial: Trial, store: Store, stale: Staleness) -> tuple[str, float, str]:
    """Where a trial stands, the share of it that is still to come, and why it is skipped."""
    look = store.look(trial)
    if look.status in ("partial", "running"):
        curve = store.curve(trial)
        return look.status, 1.0 - min(1.0, curve[-1]["point"] / trial.points if curve else 0.0), ""
    if look.result and stale(trial, look.result.get("provenance", {})):
        return "stale", 0.0, ""
    why = str(look.failure["reason"]) if look.failure and look.status == "skipped" else ""
    return look.status, float(look.status == "missing"), why
