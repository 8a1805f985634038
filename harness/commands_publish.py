"""Commands on published results: write them, and run some of their trials again."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated

import typer

from harness import printing
from harness.options import OUT, Chosen, DataRoot, Json, Out, Teachers, on_grid


@on_grid
def publish(
    chosen: Chosen,
    to: Annotated[
        Path, typer.Option(help="The folder, say benchmarks/results/digits; its name is the report's title.")
    ],
    out: Out = OUT,
    teachers: Teachers = None,
) -> None:
    """Publish a grid's results: all that its report is made of, the tidy table, Markdown and figures.

    Every trial of the grid is in it, those that failed or did not run too. `dfkd report FOLDER` makes the
    same report again, `dfkd rerun FOLDER` runs some of the trials again. A folder of published results given
    as GRID has its table and report written anew.
    """
    from harness import publish as publishing
    from harness.errors import DfkdError
    from harness.rundir import Dirs
    from harness.stale import Staleness

    if chosen.archive:
        if chosen.part or chosen.archive.folder.resolve() != to.resolve():
            raise DfkdError(
                f"{chosen.archive.folder} is published: its report is written anew of all its trials and in "
                f"its place, with --to {chosen.archive.folder}"
            )
        written = publishing.again(to)
    else:
        stale = Staleness(teachers or out / "teachers")
        written = publishing.publish(to, chosen.grid, chosen.trials, Dirs(out), stale, chosen.command)
    for what, path in written.items():
        print(f"{what}: {path}")
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    print(f"{len(chosen.trials)} trials, {size / 2**20:.1f} MiB in {to}")


def rerun(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="Of published results, or of several such folders."),
    ],
    trials: Annotated[int, typer.Option(min=1, help="How many to draw from all of them together.")] = 3,
    draw: Annotated[int, typer.Option(min=0, help="Seed of the draw.")] = 0,
    workers: Annotated[
        int | None, typer.Option(help="Trials at a time; what fits by default; 0 runs here, without Ray.")
    ] = None,
    out: Out = OUT,
    data_root: DataRoot = None,
    teachers: Teachers = None,
    as_json: Json = False,
) -> None:
    """Run published trials again, drawn at random, and hold the numbers against the published ones.

    Those that OUT holds already are not run again. Exit status 1 when trials that are promised to be equal
    are not (`dfkd compare`), or one does not end.
    """
    from harness import archive
    from harness.progress import Progress
    from harness.rundir import Dirs
    from harness.schedule import run_trials
    from harness.sides import read

    published = [archive.Archive(folder) for each in folders for folder in archive.below(each)]
    drawn = archive.drawn(published, trials, draw)
    archive.check_versions([trial for _, trial in drawn])
    there = sum(Dirs(out).result(trial) is not None for _, trial in drawn)
    summary = run_trials(
        [trial for _, trial in drawn], out, workers=workers, data_root=data_root,
        teachers_dir=teachers or out / "teachers", progress=Progress(),
    )  # fmt: skip
    printing.note(str(summary))
    if summary.interrupted:
        raise typer.Exit(130)
    comparing, changes = (importlib.import_module(f"reports.{name}") for name in ("compare", "changes"))
    places = {kept.folder: {t.id for k, t in drawn if k is kept} for kept, _ in drawn}
    then = [r for folder, ids in places.items() for r in read(folder).records if r["id"] in ids]
    here = [r for r in read(out).records if r["id"] in {trial.id for _, trial in drawn}]
    found = comparing.compare(then, here)
    ran = f"run again, but for {there} that {'was' if there == 1 else 'were'} there" if there else "run again"
    if as_json:
        printing.dump({"already_there": there} | changes.plain(found))
    else:
        print(f"A: published\nB: {out}, {ran}\n")
        printing.table(changes.table(found))
        print("\n".join(changes.lines(found)))
    if found.broken or not all(pair.done for pair in found.pairs) or len(found.pairs) < len(drawn):
        raise typer.Exit(1)
