"""What a round costs against the same round with the released code's wastes, as ratios of one run.

    make bench          (or: python -m tests.methods.bench_round --formula [--methods cmi,fast] [--rounds 5])

WRN-40-2 -> WRN-16-1, 3 x 32 x 32, batch 64, fp32 and channels-last in both; the steps of the two halves
stand in the authors' proportion (`ROWS`). What the wastes are: `tests.methods.bench_released`. Both keep
pixels in 8 bits, so that all terms of the first round can be compared. They are timed in turn, each first
every other time, in one process; a ratio is the median over pairs. ``cpu`` is the ratio of processor seconds:
the one to read on a machine that has other work, with one thread. "G half" makes images, "S half" trains S.
``--formula`` adds the ratios of ours to released rounds that take statistics by the released formula.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch

from harness import registry
from harness.compute import Compute, own_globals
from harness.config import Task
from harness.interface import Clock, Method, Problem
from harness.nets.catalog import build
from harness.settings import resolve, settings_of
from tests.methods.bench_released import published, released, wastes

CIFAR = Task(
    "cifar10", 1, 3, 32, tuple("abcdefghij"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), frozenset({"pad", "flip"})
)
PAIR = ("wrn40_2", "wrn16_1")


class Row(NamedTuple):
    """A method, its settings, and whose proportion of G's and S's steps they keep."""

    method: str
    settings: dict[str, Any]
    whose: str


ROWS = {
    "cpsc": Row("cpsc", {"g_steps": 6, "s_steps": 5}, "6 : 5, its README"),
    "zskt": Row("zskt", {"g_steps": 1, "s_steps": 10}, "1 : 10, its code"),
    "zskt-datafree": Row(
        "zskt", {"protocol": "datafree", "g_steps": 1, "s_steps": 5}, "1 : 5, CMI's repository"
    ),
    "dfq": Row("dfq", {"g_steps": 1, "s_steps": 10}, "1 : 10, CMI's script"),
    "cmi": Row(
        "cmi",
        {"g_steps": 4, "s_steps": 8, "batch": 32},
        "200 : 400 / 50; 256 images made, S's batch 128, / 4",
    ),
    "fast": Row("fast", {"g_steps": 1, "s_steps": 40}, "10 : 400 / 10, its script"),
    "deepinversion": Row(
        "deepinversion",
        {"protocol": "datafree", "g_steps": 5, "s_steps": 2},
        "1000 : 400 / 200, CMI's script (its own: 40 : 1)",
    ),
}


def problem(task: Task = CIFAR, pair: tuple[str, str] = PAIR) -> Problem:
    """Seeded random networks."""
    torch.manual_seed(0)
    teacher, student = (build(name, task) for name in pair)
    with torch.no_grad():
        teacher(torch.rand(64, *task.shape))
    teacher.eval().requires_grad_(False)
    compute = Compute(channels_last=True)
    compute.prepare("T", teacher)
    compute.prepare("S", student)
    return Problem(task, teacher, student, Clock(0, 0.5), torch.Generator().manual_seed(1), compute)


def make(row: Row, on: Problem, theirs: bool, batch: int = 64, **also: Any) -> Method:
    """The row's method on a problem, with the released wastes or without."""
    ours = registry.methods.get(row.method)
    fields = settings_of(ours.HP)
    usual = {"batch": batch, "synthesis_batch": batch, "warmup_rounds": 0, "pool_dtype": "uint8"}
    wanted = usual | row.settings | also
    wanted["batch"] = wanted["batch"] * batch // 64 if "batch" in row.settings else wanted["batch"]
    hp = ours.HP(
        **resolve(row.method, ours.HP, ours.PRESETS, {k: v for k, v in wanted.items() if k in fields})
    )
    cls = released(row.method, wastes(row.method, row.settings)) if theirs else ours
    method = cls(on, hp)
    for name, part in method.parts.items():
        on.compute.prepare(name, part)
    return method


class Took(NamedTuple):
    """Seconds of a round: of the wall clock, of the processor, and of the wall clock in each half."""

    wall: float
    cpu: float
    synthesize: float
    distill: float


class Bench:
    """A way to do a row's rounds, ready to be timed."""

    def __init__(self, row: Row, theirs: bool, batch: int, formula: bool = False) -> None:
        self.formula, self.halves = formula, dict.fromkeys(("synthesize", "distill"), 0.0)
        self.method = make(row, problem(), theirs, batch)
        for half in self.halves:
            setattr(self.method, half, self._timed(half, getattr(self.method, half)))

    def _timed(self, half: str, work: Callable[[], Any]) -> Callable[[], Any]:
        def timed() -> Any:
            began = time.perf_counter()
            found = work()
            self.halves[half] = time.perf_counter() - began
            return found

        return timed

    def round(self) -> dict[str, float]:
        """One round; its terms."""
        with published() if self.formula else nullcontext():
            return {k: float(v) for k, v in self.method.round().items()}

    def took(self) -> Took:
        """One round, timed."""
        began = time.perf_counter(), time.process_time()
        self.round()
        return Took(time.perf_counter() - began[0], time.process_time() - began[1], *self.halves.values())


def apart(a: dict[str, float], b: dict[str, float]) -> float:
    """Largest difference of two rounds' terms, relative to values above 1."""
    assert a.keys() == b.keys()
    return max(abs(v - b[k]) / max(1.0, abs(v)) for k, v in a.items())


def ratio(of: Iterable[float], to: Iterable[float]) -> float:
    """Median of the ratios, pair by pair."""
    return statistics.median(a / b for a, b in zip(of, to, strict=True))


def bench(row: Row, formula: bool, rounds: int, batch: int) -> tuple[dict[str, list[Took]], float]:
    """Times by way, and how far the terms of the released and our first round are apart."""
    made = {"released": Bench(row, True, batch), "ours": Bench(row, False, batch)}
    if formula:
        made["formula"] = Bench(row, True, batch, formula=True)
    first = {name: b.round() for name, b in made.items()}  # warms up, too
    took: dict[str, list[Took]] = {name: [] for name in made}
    for at in range(rounds):
        for name in list(made)[:: -1 if at % 2 else 1]:
            took[name].append(made[name].took())
    return took, apart(first["released"], first["ours"])


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    ask.add_argument("--methods", default=",".join(ROWS), help="which rows; all by default")
    ask.add_argument("--rounds", type=int, default=3, help="pairs timed, after one to warm up")
    ask.add_argument("--threads", type=int, default=1)
    ask.add_argument("--batch", type=int, default=64)
    ask.add_argument("--formula", action="store_true", help="also released with their formula of statistics")
    given = ask.parse_args()
    print(f"{given.threads} threads, batch {given.batch}, {given.rounds} pairs; s a round are medians")
    print(
        f"{'method':14} {'released':>8} {'ours':>7} {'ratio':>6} {'cpu':>5} {'G half':>6} {'S half':>6}",
        end="",
    )
    print(f" {'formula':>8} {'ratio':>6} {'cpu':>5}" * given.formula, " terms apart  G : S steps")
    for name in given.methods.split(","):
        with own_globals(0, given.threads):
            took, off = bench(ROWS[name], given.formula, given.rounds, given.batch)
        columns = {k: Took(*zip(*v, strict=True)) for k, v in took.items()}  # type: ignore[arg-type]
        seconds = {k: statistics.median(v.wall) for k, v in columns.items()}
        ratios = {
            k: [ratio(a, b) for a, b in zip(columns["ours"], v, strict=True)] for k, v in columns.items()
        }
        print(f"{name:14} {seconds['released']:8.2f} {seconds['ours']:7.2f}", end="")
        print(" {:6.2f} {:5.2f} {:6.2f} {:6.2f}".format(*ratios["released"]), end="")
        if given.formula:
            print(" {:8.2f} {:6.2f} {:5.2f}".format(seconds["formula"], *ratios["formula"][:2]), end="")
        print(f"  {off:11.0e}  {ROWS[name].whose}", flush=True)


if __name__ == "__main__":
    main()
