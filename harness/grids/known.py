"""What is known of a trial's cost before it runs, and who told.

Trials of the same kind that finished on this machine tell, else what stands in the book of
`harness.grids.bench_book`, else what is measured now.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.cli import printing
from harness.config import Trial, digest
from harness.errors import DfkdError, Skipped
from harness.grids.bench_book import Book, Cost, Number, kinds, place
from harness.store import cards
from harness.store.directory import TrialDir
from harness.trials.provenance import machine

FINISHED, BENCH, NOW = "finished trials", "dfkd bench", "measured now"
#: a finished trial tells of one so many times as long at most: a short one shows little but its start
_LONGER = 10.0


class Untold(DfkdError):
    """Nobody can tell what a trial costs; the message says why."""


class Tools:
    """Measures what nobody can tell, and says so while it does; loads torch then."""

    def __init__(self, device: str, inception: Path | None) -> None:
        """Measure on that device."""
        self.device, self.inception = device, inception

    def cost(self, trial: Trial) -> Cost:
        """Of its kind, as `harness.grids.bench.measure`."""
        from harness.grids.bench import measure

        printing.note(f"timing {trial.label} on {trial.task} {trial.teacher}->{trial.student}")
        return measure(trial, self.device, 1.0, self.inception)

    def teacher(self, trial: Trial) -> float:
        """Seconds in which its teacher would be trained, as `harness.grids.bench.teaching`."""
        from harness.grids.bench import teaching

        printing.note(f"timing the training of {trial.teacher} on {trial.task}")
        return teaching(trial.task, trial.teacher, trial.recipe, trial.cpus, self.device)

    def teacher_bytes(self, trial: Trial) -> float:
        """Of its teacher's file: four a parameter."""
        from harness.nets.catalog import spec
        from harness.tasks.catalog import describe

        return 4.0 * spec(trial.teacher, describe(trial.task)).params

    def crowding(self, trial: Trial, workers: int) -> float:
        """As `harness.grids.bench_machine.crowding`."""
        from harness.grids.bench_machine import crowding

        printing.note(f"timing {workers} trials side by side")
        return crowding(trial.task, trial.student, workers, trial.cpus, self.device)

    def start(self, ray: bool) -> float:
        """As `harness.grids.bench_machine.run_start`."""
        from harness.grids.bench_machine import run_start

        printing.note("timing a run without trials")
        return run_start(ray)


class Known:
    """What is known of kinds of trials and of their teachers, and who told: see the module's text."""

    def __init__(
        self, out: Path, teachers: Path, trials: Sequence[Trial], device: str, inception: bool, tools: Tools
    ) -> None:
        """Look at every finished trial under ``out``.

        Args:
            out: the store.
            teachers: where teachers lie.
            trials: what will be asked for.
            device: ``cpu``, or the GPU's name.
            inception: whether FID will be measured.
            tools: what measures.
        """
        self.book, self.teachers, self.device, self.tools = Book(out), teachers, device, tools
        self._kinds = kinds(trials, device, inception)
        self._finished = _finished(out, trials, device)

    def cost(self, trial: Trial) -> tuple[Cost, str]:
        """What a trial's kind costs, and who told.

        Raises:
            Skipped: when the method says that it cannot run there.
            Untold: for what cannot be measured.
            DfkdError: for a book that cannot be read or written.
        """
        kind = self._kinds[trial.id]
        told = [c for c, ran in self._finished.get(_key(kind, trial.points), ()) if _near(c, trial, ran)]
        if told:
            return _median(told), f"{len(told)} {FINISHED if len(told) > 1 else FINISHED[:-1]}"
        if found := self.book.get(Cost, kind):
            return found, BENCH
        try:
            found = self.tools.cost(trial)
        except Skipped:
            raise
        except DfkdError as error:
            raise Untold(str(error)) from error
        self.book.put(kind, found)
        return found, NOW

    def teacher(self, trial: Trial) -> tuple[float, str]:
        """Seconds in which a trial's teacher will be trained, and who told: its like, trained here, first."""
        alike = (trial.task, trial.teacher, trial.recipe, machine())
        took = [
            c.seconds
            for c in cards.cards(self.teachers)
            if (c.task, c.net, c.recipe, c.machine) == alike and c.seconds
        ]
        if took:
            return statistics.median(took), f"{len(took)} trained"
        recipe = trial.recipe.model_dump(mode="json")
        of = {"what": "teacher", "task": trial.task, "net": trial.teacher, "recipe": recipe}
        return self._number(of | place(self.device, trial.cpus), lambda: self.tools.teacher(trial))

    def crowding(self, trial: Trial, workers: int) -> float:
        """How many times longer a trial takes beside the others than alone."""
        if workers < 2:
            return 1.0
        of = {"what": "crowding", "workers": workers, "task": trial.task, "student": trial.student}
        of |= {"precision": trial.precision, **place(self.device, trial.cpus)}
        return self._number(of, lambda: self.tools.crowding(trial, workers))[0]

    def start(self, ray: bool) -> float:
        """Seconds of a run without trials."""
        return self._number({"what": "start", "ray": ray}, lambda: self.tools.start(ray))[0]

    def _number(self, of: Mapping[str, Any], measure: Callable[[], float]) -> tuple[float, str]:
        if found := self.book.get(Number, of):
            return found.value, BENCH
        found = Number(value=measure())
        self.book.put(of, found)
        return found.value, NOW


def _key(kind: Mapping[str, Any], points: int) -> str:
    return digest({**kind, "points": points})


def _near(cost: Cost, trial: Trial, rounds: int) -> bool:
    with suppress(DfkdError):
        return cost.rounds(trial.budget) <= _LONGER * rounds
    return False


def _median(costs: Sequence[Cost]) -> Cost:
    """Of each number by itself: one trial on a busy machine then tells nothing."""
    names = ("seconds", "flops", "updates", "start", "bytes")
    return Cost(**{k: statistics.median(getattr(c, k) for c in costs) for k in names})


def _finished(out: Path, trials: Sequence[Trial], device: str) -> dict[str, list[tuple[Cost, int]]]:
    """Kind and points -> cost of a round on average and rounds, of each trial finished on this machine."""
    wanted = {_like(t.model_dump()) for t in trials}
    found: list[tuple[Trial, dict[str, Any], Path]] = []
    for path in sorted((Path(out) / "trials").glob("*/result.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            told = json.loads(path.with_name("trial.json").read_bytes())
            if _like(told) not in wanted:
                continue
            trial = Trial.model_validate({k: v for k, v in told.items() if k != "id"})
            if result := TrialDir.at(path.parent).result():
                found.append((trial, result, path.parent))
    told_by: dict[str, list[tuple[Cost, int]]] = {}
    by_fid = {fid: kinds((t for t, _, _ in found), device, fid) for fid in (False, True)} if found else {}
    for trial, result, path in found:
        with suppress(KeyError, TypeError, ZeroDivisionError):
            if _here(trial, result["provenance"], device):
                spend, took = result["spend"], result["cost"]
                if took["seconds_total"] < took["seconds"]:
                    continue  # resumed after a kill: the total is of its last part alone
                rounds = int(spend["rounds"])
                cost = Cost(
                    seconds=took["seconds"] / rounds,
                    flops=spend["flops"] / rounds,
                    updates=spend["student_updates"] / rounds,
                    start=max(0.0, took["seconds_total"] - took["seconds"]),
                    bytes=sum(f.stat().st_size for f in path.rglob("*") if f.is_file()),
                )
                for fid in _fid(result):
                    key = _key(by_fid[fid][trial.id], trial.points)
                    told_by.setdefault(key, []).append((cost, rounds))
    return told_by


def _like(told: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a finished trial has in common with those it tells of; other settings are another version's."""
    same = ("method", "method_version", "task", "teacher", "student")
    return *(told[k] for k in same), frozenset(told["settings"])


def _here(trial: Trial, seen: Mapping[str, Any], device: str) -> bool:
    """Whether a result was made on this machine and this GPU, with these threads and this torch."""
    where = "cpu" if seen["device"] == "cpu" else seen.get("gpu")
    then = {"device": where, "torch": str(seen["torch"]).partition("+")[0], "threads": int(seen["threads"])}
    return seen["machine"] == machine() and then == place(device, trial.cpus)


def _fid(result: Mapping[str, Any]) -> tuple[bool, ...]:
    """Whether FID is in a result; where the method makes no image, either says as much."""
    if any(name.startswith("fid_") for name in result["metrics"]):
        return (True,)
    lacked = any("no Inception weights" in str(why) for why in result.get("unavailable", {}).values())
    return (False,) if lacked else (False, True)
