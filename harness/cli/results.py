"""Commands on what a grid's trials have left: tables, reports, more metrics, MLflow."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import printing
from harness.cli.choose import Chosen, distinct, on_grid
from harness.cli.options import OUT, DataRoot, Device, Inception, Json, NoMLflow, Origin, Out, Teachers, Uri

if TYPE_CHECKING:
    from reports.report import Results

#: what the text form of ``results`` shows; the other forms show all
_SHORT = (
    *("id", "task", "teacher", "student", "variant", "seed", "status", "top1", "agreement", "fd_teacher"),
    *("student_updates", "seconds", "reason", "stale"),
)


@on_grid()
def results(
    chosen: Chosen,
    out: Out = OUT,
    teachers: Teachers = None,
    origin: Origin = "store",
    tracking_uri: Uri = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print every column as CSV.")] = False,
    as_json: Json = False,
) -> None:
    """Print the tidy table: one row a trial."""
    table = _results(chosen, out, teachers, origin, tracking_uri).frame
    rows = [{str(k): v for k, v in row.items()} for row in table.to_dict("records")]
    if as_json:
        printing.dump(rows)
    elif as_csv:
        print(table.to_csv(index=False, lineterminator="\n"), end="")
    else:
        shown = [name for name in _SHORT if name in table and table[name].astype(str).ne("").any()]
        printing.table([{name: row[name] for name in shown} for row in rows])


@on_grid(many=True)
def report(
    chosen: list[Chosen],
    out: Out = OUT,
    teachers: Teachers = None,
    origin: Origin = "store",
    tracking_uri: Uri = None,
    format: Annotated[
        str, typer.Option(help="Which files to write, out of html,md,tex,csv.")
    ] = "html,md,csv",
) -> None:
    """Write the report of a grid from what is there, and print where it lies.

    GRID may be a folder of published results: their report is made again, without training, teachers or data.
    Of several grids each gets its own, and OUT/reports/index.html and index.md list them and rank the methods
    over all their cells.
    """
    from harness.errors import DfkdError
    from harness.grids import override
    from reports.report import index

    formats = override.words(format)
    if not formats:
        raise DfkdError("--format names no format: give some of html,md,tex,csv")
    distinct(chosen)
    made = []
    for each in chosen:
        found = _results(each, out, teachers, origin, tracking_uri)
        made.append((found, found.report(formats)))
        for kind, path in made[-1][1].items():
            print(f"{kind}: {path}")
    if len(made) > 1:
        for path in index(made):
            print(f"index: {path}")


def _results(chosen: Chosen, out: Path, teachers: Path | None, origin: str, uri: str | None) -> Results:
    """Of the folder that was named where results are published there, else of OUT or MLflow."""
    from harness.errors import DfkdError
    from harness.store.directory import Store
    from harness.store.stale import Staleness
    from reports.report import Results

    if archive := chosen.archive:
        if origin != "store":
            raise DfkdError(f"--from {origin}: published results are read from {archive.folder} alone")
        return Results(chosen.grid, chosen.trials, archive.store, out, archive.stale, chosen.command)
    store = Store(out)
    if origin == "mlflow":
        from harness.store.mlflow_place import resolve_uri
        from harness.store.mlflow_runs import Download

        store = Download(resolve_uri(uri, out), chosen.grid.name)
    return Results(chosen.grid, chosen.trials, store, out, Staleness(teachers or out / "teachers"))


@on_grid()
def measure(
    chosen: Chosen,
    metrics: Annotated[str, typer.Option(help="Which metrics: a,b; by default those of a run.")] = "",
    out: Out = OUT,
    data_root: DataRoot = None,
    teachers: Teachers = None,
    inception_weights: Inception = None,
    device: Device = "cpu",
    tracking_uri: Uri = None,
    no_mlflow: NoMLflow = False,
) -> None:
    """Add metrics to the finished trials of a grid, without training them again."""
    from harness.errors import DfkdError
    from harness.grids import override
    from harness.store.directory import Store
    from harness.store.mlflow_tracker import Tracker
    from harness.trials.measure import check_names
    from harness.trials.measure import measure as measured

    names = check_names(override.words(metrics), chosen.grid.metrics)
    tracker = None if no_mlflow else Tracker(tracking_uri, out, chosen.grid.name)
    done = [r for r in map(Store(out).run, chosen.trials) if r.status() == "done"]
    if not done:
        raise DfkdError(f"no trial of grid {chosen.grid.name} is done under {out}: nothing to measure")
    bad = 0
    for i, run in enumerate(done, 1):
        try:
            numbers, missing = measured(
                run,
                names,
                teachers_dir=teachers or out / "teachers",
                data_root=data_root,
                inception=inception_weights,
                device=device,
            )
            told = [f"{k} {v:.5g}" for k, v in numbers.items()]
            text = "; ".join([*told, *(f"no {k}: {v}" for k, v in missing.items())])
        except DfkdError as error:
            text, bad = str(error), bad + 1
        printing.note(f"[{i}/{len(done)}] {run.trial.cell}: {text}")
    if tracker:
        tracker.complete(chosen.trials)
    print(f"{len(done) - bad} of {len(chosen.trials)} trials measured")
    if bad:
        raise typer.Exit(1)


@on_grid()
def sync(chosen: Chosen, out: Out = OUT, tracking_uri: Uri = None) -> None:
    """Make MLflow's record of a grid equal to its trial directories."""
    from harness.store.directory import Store
    from harness.store.mlflow_tracker import Tracker

    done = Tracker(tracking_uri, out, chosen.grid.name).sync(chosen.trials, Store(out))
    print(
        f"{done.created} runs created, {done.completed} completed, {done.removed} doubles removed, "
        f"{done.unchanged} unchanged"
    )
