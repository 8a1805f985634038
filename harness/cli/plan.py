"""Commands that look ahead: what methods cost on this machine, and what a grid will take."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import printing
from harness.cli.choose import Chosen, on_grid
from harness.cli.options import Device, Json

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.grids.plan import Plan


@on_grid(optional=True)
def bench(
    chosen: Chosen,
    device: Device = "cpu",
    seconds: Annotated[
        float, typer.Option(min=0.0, help="For the rounds of each at least, and three of them.")
    ] = 3.0,
    as_json: Json = False,
) -> None:
    """Time a few rounds of each method of a grid, or of --methods on --task and --pair, on this machine.

    Needs neither data nor teacher. Operations are those of the networks, counted as a budget in flops counts
    them; seconds are the processor's where a trial has one thread of it, else the clock's.
    """
    from harness.errors import DfkdError
    from harness.grids.bench import device_name, measure

    where, rows, seen = device_name(device), list[dict[str, Any]](), set[tuple[str, ...]]()
    for trial in chosen.trials:
        place = (trial.label, trial.task, trial.teacher, trial.student)
        if place in seen:
            continue
        seen.add(place)
        _tell_timing(trial)
        row = {"row": trial.label, "task": trial.task, "pair": f"{trial.teacher}->{trial.student}"}
        numbers, note = list[float | None]([None] * len(_TITLES)), ""
        try:
            found = measure(trial, device, seconds)
        except DfkdError as error:
            note = str(error)
        else:
            each, flops = found.seconds, found.flops
            numbers = [each, each / found.updates, flops / 1e9, flops / each / 1e9, found.memory]
        rows.append(row | dict(zip(_TITLES, numbers, strict=True)) | {"note": note})
    if as_json:
        from harness.trials.provenance import machine

        printing.dump({"machine": machine(), "device": where, "rows": rows})
        return
    printing.table([{_TITLES.get(k, k): v for k, v in row.items()} for row in rows])


_TITLES = {
    "seconds_per_round": "s/round", "seconds_per_update": "s/update", "gflop_per_round": "GFLOP/round",
    "gflops": "GFLOP/s", "memory_mb": "MiB",
}  # fmt: skip


def _tell_timing(trial: Trial) -> None:
    printing.note(f"timing {trial.label} on {trial.task} {trial.teacher}->{trial.student}")


def show_plan(
    chosen: Chosen,
    out: Path,
    *,
    workers: int | None,
    gpus_per_trial: float,
    teachers: Path | None,
    as_json: bool,
) -> None:
    """Print what is done of a grid and what is to come; options as `dfkd run` takes them."""
    from harness.grids import bench, plan
    from harness.schedule import preflight
    from harness.store.directory import Store
    from harness.store.stale import Staleness

    preflight.arguments(workers, gpus_per_trial, None, ())
    device = "cuda" if gpus_per_trial else "cpu"
    cpus = max(t.cpus for t in chosen.trials)
    room = _room(cpus, gpus_per_trial)
    teachers = teachers or out / "teachers"

    def measure(trial: Trial) -> bench.Cost:
        _tell_timing(trial)
        return bench.measure(trial, device)

    def teach(trial: Trial) -> float:
        printing.note(f"timing the training of {trial.teacher} on {trial.task}")
        return bench.teaching(trial, device)

    known = plan.Known(out, teachers, bench.device_name(device), measure, teach)
    at_a_time = room if workers is None else min(workers, room)
    found = plan.make(chosen.trials, Store(out), teachers, known, Staleness(teachers), at_a_time)
    told = _plain(found, cpus)
    if as_json:
        printing.dump(told)
    else:
        _print(told)


def _room(cpus: int, gpus: float) -> int:
    """How many trials Ray would run at a time on this machine."""
    from harness.schedule import preflight

    have = {"CPU": float(os.cpu_count() or 1), "GPU": 0.0}
    if gpus:
        import torch

        have["GPU"] = float(torch.cuda.device_count())
    return preflight.slots([have], cpus, gpus)


def _plain(found: Plan, cpus: int) -> dict[str, Any]:
    from harness.grids.plan import STANDS

    rows = [
        {
            "row": row.label, "task": row.task, "pair": list(row.pair), "counts": row.counts,
            "trial_seconds": row.each, "source": row.source, "note": row.note,
            "processor_hours": None if row.jobs is None else sum(row.jobs) * cpus / 3600,
        }
        for row in found.rows
    ]  # fmt: skip
    taught = [{"teacher": t.name, "seconds": t.seconds, "source": t.source} for t in found.teachers]
    counts = {s: n for s in STANDS if (n := sum(row.counts.get(s, 0) for row in found.rows))}
    total = {
        "hours": found.seconds() / 3600, "processor_hours": found.seconds(1) * cpus / 3600,
        "workers": found.workers, "counts": counts,
    }  # fmt: skip
    return {"rows": rows, "teachers": taught, "total": total}


def _print(told: dict[str, Any]) -> None:
    total = told["total"]
    stands, noted = total["counts"], any(row["note"] for row in told["rows"])
    table = [
        {"row": row["row"], "task": row["task"], "pair": "->".join(row["pair"])}
        | {s: row["counts"].get(s, 0) for s in stands}
        | {"s/trial": _short(row["trial_seconds"]), "hours": _short(row["processor_hours"])}
        | {"told by": row["source"]}
        | ({"note": row["note"]} if noted else {})
        for row in told["rows"]
    ]
    printing.table(table)
    print()
    for each in told["teachers"]:
        print(f"teacher to be trained: {each['teacher']}, {each['seconds']:.3g} s, {each['source']}")
    print(f"{sum(stands.values())} trials: " + ", ".join(f"{k} {name}" for name, k in stands.items()))
    unknown = [row["row"] for row in told["rows"] if row["processor_hours"] is None]
    many = f"{total['workers']} trial{'s' if total['workers'] > 1 else ''} at a time"
    if total["hours"]:
        whole, wall = (printing.cell(_short(total[key])) for key in ("processor_hours", "hours"))
        print(f"to come: {whole} h of processor time, {wall} h with {many}")
    elif not unknown:
        print("nothing is to come")
    if unknown:
        print(f"without {', '.join(unknown)}: what they will take is not known")
    if stands.get("failed") or stands.get("skipped"):
        print("failed and skipped trials stay as they are: `dfkd run --retry failed` would run them again")


def _short(number: float | None) -> float | None:
    return None if number is None else float(f"{number:.3g}")
