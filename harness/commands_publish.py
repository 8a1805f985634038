"""Commands on published results: write them, and run some of their trials again."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from harness import printing
from harness.options import OUT, Chosen, DataRoot, Out, Teachers, on_grid


@on_grid
def publish(
    chosen: Chosen,
    to: Annotated[
        Path, typer.Option(help="The folder, say benchmarks/results/digits; its name is the report's title.")
    ],
    out: Out = OUT,
) -> None:
    """Publish a grid's results: all that its report is made of, the tidy table, Markdown and figures.

    Every trial of the grid is in it, those that failed or did not run too. `dfkd report FOLDER` makes the
    same report again, `dfkd rerun FOLDER` runs some of the trials again. A folder of published results given
    as GRID has its table and report written anew.
    """
    from harness import archive, gridfile
    from harness.errors import DfkdError
    from harness.results import Results
    from harness.rundir import Dirs

    folder = to.absolute()
    grid = chosen.grid.model_copy(update={"name": folder.name})
    if chosen.archive and chosen.archive.folder.absolute() != folder:
        raise DfkdError(f"--to {to}: what {chosen.archive.folder} publishes is written anew there alone")
    if not chosen.archive:
        archive.write(folder, grid, chosen.trials, Dirs(out), chosen.command)
    kept = archive.Archive(folder)
    found = Results(kept.grid, kept.trials, kept, out, None, kept.command)
    text = found.frame.to_csv(index=False, lineterminator="\n")
    gridfile.write(folder / "trials.csv", text, anew=True)
    for old in (folder / "figures").glob("*.svg"):  # one that a later report has no more
        old.unlink()
    for kind, path in found.report(("md", "csv"), folder).items():
        print(f"{kind}: {path}")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{len(kept.trials)} trials, {size / 2**20:.1f} MiB in {to}")


def rerun(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Of published results, or of several such folders."),
    ],
    trials: Annotated[int, typer.Option(min=1, help="How many to draw from all of them together.")] = 3,
    draw: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Trials at a time; what fits by default; 0 runs here, without Ray.")
    ] = 0,
    out: Out = OUT,
    data_root: DataRoot = None,
    teachers: Teachers = None,
) -> None:
    """Run published trials again, drawn at random, and hold the numbers against the published ones.

    Those that OUT holds already are not run again. Exit status 1 when trials that are promised to be equal
    are not (`dfkd compare`), or one does not end.
    """
    from harness import archive
    from harness.progress import Progress
    from harness.schedule import run_trials
    from harness.sides import read

    published = [archive.Archive(folder) for each in folders for folder in archive.below(each)]
    drawn = archive.drawn(published, trials, draw)
    summary = run_trials(
        [trial for _, trial in drawn], out, workers=workers, data_root=data_root,
        teachers_dir=teachers or out / "teachers", progress=Progress(),
    )  # fmt: skip
    printing.note(str(summary))
    if summary.interrupted:
        raise typer.Exit(130)
    comparing, changes = (importlib.import_module(f"reports.{name}") for name in ("compare", "changes"))
    ids = {trial.id for _, trial in drawn}
    then = {r["id"]: r for kept, _ in drawn for r in read(kept.folder).records if r["id"] in ids}
    here = [record for record in read(out).records if record["id"] in ids]
    found = comparing.compare(list(then.values()), here)
    print(f"A: published\nB: {out}, run again\n")
    printing.table(changes.table(found))
    print("\n".join(changes.lines(found)))
    if found.broken or summary.failed or summary.busy or summary.open:
        raise typer.Exit(1)
