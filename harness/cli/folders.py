"""Commands on whole folders of results: two held against each other, several made one, one published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import printing
from harness.cli.choose import Chosen, on_grid
from harness.cli.options import OUT, DataRoot, Json, Out, Teachers, Workers, complete_grid

if TYPE_CHECKING:
    from harness.store.compare import Comparison


def compare(
    a: Annotated[
        Path,
        typer.Argument(
            metavar="A",
            help="A folder of `dfkd run --out`, a trial's directory in it, or published results.",
        ),
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same.")],
    grid: Annotated[
        str | None,
        typer.Argument(
            metavar="GRID",
            help="Only the trials of this grid, and their counterparts; all that are there by default.",
            autocompletion=complete_grid,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what changed between two runs, versions or machines, trial by trial.

    Exit status 1 when trials that are promised to be equal are not: the same id, machine type, kernels,
    files, versions and threads. Where a result is from before kernels were recorded, numbers may differ in
    their last digits.
    """
    from harness.errors import DfkdError
    from harness.grids import expand, load
    from harness.store import compare as comparing
    from harness.store.records import read
    from reports.page import changes

    sides = {"A": read(a), "B": read(b)}
    for side in sides.values():
        if not side.records:
            raise DfkdError("; ".join([f"{side.path} holds no trial", *side.notes]))
    ids = {trial.id for trial in expand.remembered(load.load(grid))} if grid is not None else None
    found = comparing.compare(sides["A"].records, sides["B"].records, ids)
    notes = [note for side in sides.values() for note in side.notes]
    if as_json:
        printing.dump({"a": str(a), "b": str(b), "notes": notes} | changes.plain(found))
    else:
        for letter, side in sides.items():
            done = sum(record.status == "done" for record in side.records)
            print(f"{letter}: {side.path}: {len(side.records)} trials, {done} with a number")
        _tell(found)
        for note in notes:
            printing.note(f"left out: {note}")
    if found.broken:
        raise typer.Exit(1)


def _tell(found: Comparison) -> None:
    from reports.page import changes

    print()
    printing.table(changes.table(found))
    print("\n".join(changes.lines(found)))


def merge(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FROM...",
            help="Folders of `dfkd run --out`, or of published results; they stay as they are.",
        ),
    ],
    out: Out = OUT,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Copy the trials and teachers of several machines that OUT lacks; nothing is ever changed or deleted.

    Trials that ended are copied whole, finished, failed or skipped; unfinished ones are left. What OUT has
    already with the same numbers is one trial; with others, or another end, it is refused, and so is a
    teacher of the same name with other weights. Exit status 1 when something was refused. Reports, MLflow's
    database and what lies elsewhere are not copied: `dfkd report` and `dfkd sync` make them again. Of
    published results, what is there of each trial is taken, so that a grid goes on from what is published;
    weights are not, so `dfkd measure` cannot add to those.
    """
    from harness.store import merge as merging
    from harness.store.records import read

    sides = [read(source) for source in sources]
    made = merging.plan(sides, out)
    if not dry_run:
        merging.carry_out(made)
    if as_json:
        printing.dump(made.plain() | {"dry_run": dry_run})
    else:
        print("\n".join(made.lines(dry_run)))
        if made.trials and not dry_run:
            print(f"MLflow does not know them yet: `dfkd sync GRID --out {out}` tells it")
    if made.refused:
        raise typer.Exit(1)


@on_grid()
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
    from harness.errors import DfkdError
    from harness.store.directory import Store
    from harness.store.stale import Staleness
    from reports import publish as publishing

    if chosen.archive:
        if chosen.part or chosen.archive.folder.resolve() != to.resolve():
            raise DfkdError(
                f"{chosen.archive.folder} is published: its report is written anew of all its trials and in "
                f"its place, with --to {chosen.archive.folder}"
            )
        written = publishing.again(to)
    else:
        stale = Staleness(teachers or out / "teachers")
        written = publishing.publish(to, chosen.grid, chosen.trials, Store(out), stale, chosen.command)
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
    workers: Workers = None,
    out: Out = OUT,
    data_root: DataRoot = None,
    teachers: Teachers = None,
    as_json: Json = False,
) -> None:
    """Run published trials again, drawn at random, and hold the numbers against the published ones.

    Those that OUT holds already are not run again. Exit status 1 when trials that are promised to be equal
    are not (`dfkd compare`), or one does not end.
    """
    from harness.schedule.attempt import Errand
    from harness.schedule.progress import Progress
    from harness.schedule.run import run_trials
    from harness.store import compare as comparing
    from harness.store.directory import Store
    from harness.store.published import Archive, below, check_versions, drawn
    from harness.store.records import read, record_of
    from reports.page import changes

    chosen = drawn([Archive(folder) for each in folders for folder in below(each)], trials, draw)
    wanted = [trial for _, trial in chosen]
    check_versions(wanted)
    there = sum(Store(out).look(trial).result is not None for trial in wanted)
    errand = Errand(out, teachers or out / "teachers", data_root)
    summary = run_trials(wanted, errand, workers=workers, progress=Progress())
    printing.note(str(summary))
    if summary.interrupted:
        raise typer.Exit(130)
    published = [record_of(archive.store.out / "trials" / trial.id) for archive, trial in chosen]
    ids = {trial.id for trial in wanted}
    found = comparing.compare(published, [r for r in read(out).records if r.id in ids])
    ran = f"run again, but for {there} that {'was' if there == 1 else 'were'} there" if there else "run again"
    if as_json:
        printing.dump({"already_there": there} | changes.plain(found))
    else:
        print(f"A: published\nB: {out}, {ran}")
        _tell(found)
    if found.broken or not all(pair.done for pair in found.pairs) or len(found.pairs) < len(wanted):
        raise typer.Exit(1)
