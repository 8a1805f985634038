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
    from harness.grids.plan import by_place

    where, rows = device_name(device), list[dict[str, Any]]()
    for (label, task, teacher, student), trials in by_place(chosen.trials).items():
        row = {"row": label, "task": task, "pair": f"{teacher}->{student}"}
        printing.note(f"timing {label} on {task} {row['pair']}")
        numbers, note = list[float | None]([None] * len(_TITLES)), ""
        try:
            found = measure(trials[0], device, seconds)
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


def show_plan(
    chosen: Chosen, out: Path, teachers: Path, workers: int | None, gpus_per_trial: float, as_json: bool
) -> None:
    """Print what is done of a grid and what is to come; options as `dfkd run` takes them."""
    import torch

    from harness.grids import plan
    from harness.schedule import preflight

    preflight.arguments(workers, gpus_per_trial, None, ())
    cpus = max(t.cpus for t in chosen.trials)
    have = {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}
    room = preflight.slots([have], cpus, gpus_per_trial)  # as many as Ray would run at a time
    at_a_time = room if workers is None else min(workers, room)
    device = "cuda" if gpus_per_trial else "cpu"
    told = _plain(plan.make(chosen.trials, out, teachers, device, at_a_time, printing.note), cpus)
    if as_json:
        printing.dump(told)
    else:
        _print(told)


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
