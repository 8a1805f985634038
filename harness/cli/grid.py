"""Commands on a grid's trials: run them, list them, say where they stand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import printing
from harness.cli.choose import Chosen, distinct, on_grid
from harness.cli.options import (
    OUT,
    Address,
    DataRoot,
    GpusPerTrial,
    Inception,
    Json,
    NoMLflow,
    Out,
    Teachers,
    Uri,
    Workers,
)

if TYPE_CHECKING:
    from harness.config import Trial
    from harness.store.directory import TrialDir


@on_grid(many=True)
def run(
    chosen: list[Chosen],
    workers: Workers = None,
    gpus_per_trial: GpusPerTrial = 0.0,
    address: Address = None,
    retry: Annotated[
        list[str] | None, typer.Option(help="failed: run failed and skipped trials again.")
    ] = None,
    out: Out = OUT,
    data_root: DataRoot = None,
    download: Annotated[bool, typer.Option("--download", help="Fetch data sets that are missing.")] = False,
    teachers: Teachers = None,
    inception_weights: Inception = None,
    tracking_uri: Uri = None,
    no_mlflow: NoMLflow = False,
) -> None:
    """Run what is missing of a grid, then print its table and write its report.

    Several grids run one after the other; OUT/reports/index.html then lists their reports.
    """
    from harness.schedule.attempt import Errand
    from harness.schedule.progress import Progress
    from harness.schedule.run import run_trials
    from harness.store.directory import Store
    from harness.store.mlflow_tracker import Tracker
    from harness.store.published import check_versions
    from harness.store.stale import Staleness
    from reports.report import Results, index

    distinct(chosen)
    for each in chosen:
        if each.archive:
            check_versions(each.trials)
    teachers = teachers or out / "teachers"
    errand = Errand(out, teachers, data_root, inception_weights, gpus_per_trial)
    made, whole = [], True
    for each in chosen:
        if download:
            from harness.tasks import images  # loads torch, which a grid that is done has no use for

            for task in each.grid.tasks:
                images.load(task, data_root, download=True)
        tracker = None if no_mlflow else Tracker(tracking_uri, out, each.grid.name)
        summary = run_trials(
            each.trials, errand, workers=workers, address=address, tracker=tracker,
            retry=tuple(retry or ()), progress=Progress(),
        )  # fmt: skip
        printing.note(str(summary))
        if summary.interrupted:
            raise typer.Exit(130)
        whole = whole and not (summary.failed or summary.busy or summary.open)
        if tracker:
            tracker.complete(each.trials)
        _tell_unmeasured(each, out)
        found = Results(each.grid, each.trials, Store(out), out, Staleness(teachers))
        print(f"{found.text().rstrip()}\n")
        files = found.report()
        print(f"report: {files['html']}")
        made.append((found, files))
    if len(made) > 1:
        print(f"index: {index(made)[0]}")
    if not whole:
        raise typer.Exit(1)


def _tell_unmeasured(chosen: Chosen, out: Path) -> None:
    """Say which of the grid's metrics finished trials lack: a grid that does not ask for them ran them."""
    from harness.store.directory import Store
    from harness.store.frame import lacking

    if not (asked := chosen.grid.metrics):
        return
    lack = [lacking(result, asked) for t in chosen.trials if (result := Store(out).look(t).result)]
    if names := list(dict.fromkeys(name for found in lack for name in found)):
        printing.note(
            f"{sum(map(bool, lack))} of {len(lack)} finished trials have no {', '.join(names)} yet: "
            "`dfkd measure` on this grid takes them"
        )


@on_grid()
def list_(chosen: Chosen, as_json: Json = False) -> None:
    """List the trials of a grid; needs neither data nor teacher."""
    if as_json:
        printing.dump([{"id": t.id, **t.model_dump(mode="json")} for t in chosen.trials])
        return
    printing.table([_identity(t) | {"budget": str(t.budget)} for t in chosen.trials])
    teachers = {(t.task, t.teacher, t.teacher_seed, t.teacher_digest) for t in chosen.trials}
    print(f"\n{len(chosen.trials)} trials, {len(teachers)} teacher{'s' if len(teachers) > 1 else ''}")


def _identity(trial: Trial) -> dict[str, Any]:
    return {
        "trial": trial.id,
        "row": trial.label or trial.method,
        "task": trial.task,
        "pair": f"{trial.teacher}->{trial.student}",
        "teacher seed": trial.teacher_seed,
        "seed": trial.seed,
    }


@on_grid()
def status(
    chosen: Chosen,
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Sum up what is done, and say what is to come in hours."),
    ] = False,
    workers: Workers = None,
    gpus_per_trial: GpusPerTrial = 0.0,
    out: Out = OUT,
    teachers: Teachers = None,
    as_json: Json = False,
) -> None:
    """Say where each trial of a grid stands, why those without a number have none, and what looks wrong.

    With --plan, what is to come: as long as trials of the same kind that finished on this machine, else as
    rounds that are timed now, a few of each row, on noise; what FID takes is not among these.
    """
    if plan:
        from harness.cli.plan import show_plan

        return show_plan(chosen, out, teachers or out / "teachers", workers, gpus_per_trial, as_json)
    from harness.store import warnings
    from harness.store.directory import Store

    rows = [_stands(Store(out).run(trial)) for trial in chosen.trials]
    if as_json:
        printing.dump(rows)
        return
    shown = [k for k in rows[0] if k != "warnings" or any(row[k] for row in rows)]
    told = [row | {"warnings": warnings.names_of(row["warnings"])} for row in rows]
    printing.table([{("done %" if k == "done" else k): row[k] for k in shown} for row in told])
    counts = Counter(row["status"] for row in rows)
    print(f"\n{len(rows)} trials: " + ", ".join(f"{n} {name}" for name, n in counts.most_common()))
    for line in warnings.listed(chosen.trials, [row["warnings"] for row in rows]):
        print(line)


def _stands(run: TrialDir) -> dict[str, Any]:
    from harness.trials import diagnose

    found, curve = run.look(), run.curve()
    share = curve[-1]["point"] / run.trial.points if curve else 0.0
    return _identity(run.trial) | {
        "status": found.status,
        "done": 100.0 if found.status == "done" else round(100.0 * min(1.0, share), 1),
        "top1": curve[-1].get("top1") if curve else None,
        "reason": found.failure["reason"] if found.failure else "",
        "warnings": diagnose.of_run(run),
    }
