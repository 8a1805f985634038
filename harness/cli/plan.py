"""Commands that look ahead: what methods cost on this machine, and what a grid will take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import printing
from harness.cli.choose import Chosen, on_grid
from harness.cli.options import OUT, Device, Inception, Json, Out

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.grids.bench_book import Cost
    from harness.grids.plan import Plan


@on_grid(optional=True)
def bench(
    chosen: Chosen,
    device: Device = "cpu",
    seconds: Annotated[
        float, typer.Option(min=0.1, help="For the rounds of each; the rest takes about as long again.")
    ] = 3.0,
    out: Out = OUT,
    inception_weights: Inception = None,
    as_json: Json = False,
) -> None:
    """Time a few rounds of each method of a grid, or of --methods on --task and --pair, on this machine.

    Needs neither data nor teacher. Operations are those of the networks, counted as a budget in flops counts
    them; matmul % is of this machine's product of two large matrices, with the same precision and threads,
    which convolutions may beat where they have better code; timed % is the share of a round that was timed,
    the rest is scaled from there. What is measured goes to OUT/bench, for `dfkd status GRID --plan`.
    """
    from harness.config import digest
    from harness.errors import DfkdError, Skipped
    from harness.grids.bench import measure
    from harness.grids.bench_book import Book, Number, kinds, place
    from harness.grids.bench_machine import device_name, matmul
    from harness.metrics.fid import weights_file

    where, book, rows = device_name(device), Book(out), list[dict[str, Any]]()
    known = kinds(chosen.trials, where, weights_file(inception_weights) is not None)
    peaks: dict[str, float] = {}
    firsts: dict[str, Trial] = {}
    for trial in chosen.trials:
        firsts.setdefault(digest(known[trial.id]), trial)
    for trial in firsts.values():
        at = {"what": "matmul", "precision": trial.precision, **place(where, trial.cpus)}
        if digest(at) not in peaks:
            peaks[digest(at)] = matmul(device, trial.cpus, trial.precision)
            book.put(at, Number(value=peaks[digest(at)]))
        printing.note(f"timing {trial.label} on {trial.task} {trial.teacher}->{trial.student}")
        try:
            found = measure(trial, device, seconds, inception_weights)
        except (Skipped, DfkdError) as error:
            rows.append(_timed(trial, None, peaks[digest(at)], str(error)))
            continue
        book.put(known[trial.id], found)
        rows.append(_timed(trial, found, peaks[digest(at)]))
    if as_json:
        from harness.trials.provenance import machine

        printing.dump({"machine": machine(), "device": where, "book": str(book.path), "rows": rows})
        return
    printing.table([{_TITLES.get(k, k): v for k, v in row.items()} for row in rows])
    print(f"\nkept in {book.path}")


_TITLES = {
    "seconds_per_round": "s/round", "seconds_per_update": "s/update", "gflop_per_round": "GFLOP/round",
    "gflops": "GFLOP/s", "matmul_percent": "matmul %", "memory_mb": "MiB", "timed_percent": "timed %",
}  # fmt: skip


def _timed(trial: Trial, cost: Cost | None, peak: float, note: str = "") -> dict[str, Any]:
    row: dict[str, Any] = {"row": trial.label, "task": trial.task}
    row["pair"] = f"{trial.teacher}->{trial.student}"
    numbers: list[float | None] = [None] * len(_TITLES)
    if cost:
        speed = cost.flops / cost.seconds
        numbers = [cost.seconds, cost.seconds / cost.updates, cost.flops / 1e9, speed / 1e9]
        numbers += [100 * speed / peak, cost.memory, 100 * cost.timed]
    return row | dict(zip(_TITLES, numbers, strict=True)) | {"note": note}


def show_plan(
    chosen: Chosen,
    out: Path,
    *,
    workers: int | None,
    gpus_per_trial: float,
    teachers: Path | None,
    inception: Path | None,
    as_json: bool,
) -> None:
    """Print what is done of a grid and what is to come; options as `dfkd run` takes them."""
    from harness.grids import plan
    from harness.grids.known import Known, Tools
    from harness.metrics.fid import weights_file
    from harness.schedule import preflight
    from harness.store.directory import Store
    from harness.store.stale import Staleness

    preflight.arguments(workers, gpus_per_trial, None, ())
    device = "cpu"
    if gpus_per_trial:
        from harness.grids.bench_machine import device_name

        device = device_name("cuda")
    room = min(_room(cpus, gpus_per_trial) for cpus in {t.cpus for t in chosen.trials})
    teachers = teachers or out / "teachers"
    tools = Tools("cuda" if gpus_per_trial else "cpu", inception)
    known = Known(out, teachers, chosen.trials, device, weights_file(inception) is not None, tools)
    at_a_time = room if workers is None else min(workers, room)
    found = plan.make(chosen.trials, Store(out), teachers, known, Staleness(teachers), at_a_time, room)
    if as_json:
        printing.dump(_plain(found))
        return
    _print(found)


def _room(cpus: int, gpus: float) -> int:
    """How many trials Ray would run at a time on this machine."""
    from harness.schedule import preflight

    have = {"CPU": float(os.cpu_count() or 1), "GPU": 0.0}
    if gpus:
        import torch

        have["GPU"] = float(torch.cuda.device_count())
    return preflight.slots([have], cpus, gpus)


def _plain(found: Plan) -> dict[str, Any]:
    rows = [
        {
            "row": row.label, "task": row.task, "pair": list(row.pair), "counts": row.counts,
            "hours": None if (seconds := found.share(row)) is None else seconds / 3600,
            "trial_hours": None if row.jobs is None else sum(row.jobs) / 3600,
            "disk_bytes": row.bytes, "source": row.source, "note": row.note,
        }
        for row in found.rows
    ]  # fmt: skip
    taught = [
        {"teacher": t.name, "hours": t.seconds / 3600, "disk_bytes": t.bytes, "source": t.source}
        for t in found.teachers
    ]
    total: dict[str, Any] = {"hours": found.seconds / 3600, "disk_bytes": found.bytes}
    total |= {"workers": found.workers, "start_hours": found.start / 3600, "counts": _counts(found)}
    return {"rows": rows, "teachers": taught, "total": total}


def _counts(found: Plan) -> dict[str, int]:
    from harness.grids.plan import STANDS

    sums = {s: sum(row.counts.get(s, 0) for row in found.rows) for s in STANDS}
    return {s: n for s, n in sums.items() if n}


def _print(found: Plan) -> None:
    whole = _plain(found)
    stands, noted = whole["total"]["counts"], any(row["note"] for row in whole["rows"])
    table = [
        {"row": row["row"], "task": row["task"], "pair": "->".join(row["pair"])}
        | {s: row["counts"].get(s, 0) for s in stands}
        | {"hours": _hours(row["hours"]), "disk MB": row["disk_bytes"] / 1e6, "told by": row["source"]}
        | ({"note": row["note"]} if noted else {})
        for row in whole["rows"]
    ]
    printing.table(table)
    print()
    for t in found.teachers:
        print(f"teacher to be trained: {t.name}, {t.seconds / 3600:.3g} h, told by {t.source}")
    total, n = whole["total"], sum(stands.values())
    print(f"{n} trials: " + ", ".join(f"{k} {name}" for name, k in stands.items()))
    unknown = [row.label for row in found.rows if row.jobs is None]
    many = f"{total['workers']} trial{'s' if total['workers'] > 1 else ''} at a time"
    hours, size = printing.cell(_hours(total["hours"])), f"{total['disk_bytes'] / 1e6:.3g} MB"
    some = total["hours"] or unknown
    print(f"to come: {hours} h with {many}, {size} on disk" if some else "nothing is to come")
    if total["hours"]:
        print(f"of it {found.start:.0f} s before and after the trials")
    if unknown:
        print(f"without {', '.join(unknown)}: what they will take is not known")
    if stands.get("failed") or stands.get("skipped"):
        print("failed and skipped trials stay as they are: `dfkd run --retry failed` would run them again")


def _hours(hours: float | None) -> float | None:
    return None if hours is None else float(f"{hours:.3g}")
