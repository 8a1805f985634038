"""Commands on whole folders of results: what differs between two, and several made one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import printing
from harness.cli.choose import Chosen, on_grid
from harness.cli.options import OUT, DataRoot, Json, Out, Teachers, complete_grid

if TYPE_CHECKING:
    from harness.config import Grid
    from harness.store.records import Side

_SIDE = (
    "A folder of `dfkd run --out`, a trial's directory in it, published results, a report.csv, or what "
    "`results --csv` said."
)


def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help=_SIDE)],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same.")],
    grid: Annotated[
        str | None,
        typer.Argument(
            metavar="GRID",
            help="Only the trials of this grid; all that are there by default.",
            autocompletion=complete_grid,
        ),
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print every number of both as CSV, a line a trial.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say what changed between two runs, versions or machines, trial by trial.

    Exit status 1 when trials that are promised to be equal are not: the same id, machine type, kernels,
    files, versions and threads. Where a result is from before kernels were recorded, numbers may differ in
    their last digits.
    """
    from harness.grids import load
    from harness.store.records import as_rows, read

    sides, chosen = [read(a), read(b)], load.load(grid) if grid is not None else None
    of_rows = any(side.kind == "report" for side in sides)
    if of_rows:
        sides = [as_rows(side, chosen) for side in sides]
    from harness.store import compare as comparing
    from reports.page import changes

    wanted = _wanted(chosen, of_rows) if chosen else None
    found = comparing.compare(sides[0].records, sides[1].records, wanted)
    if as_json:
        told = {"a": str(a), "b": str(b), "notes": [note for side in sides for note in side.notes]}
        printing.dump(told | changes.plain(found))
    elif as_csv:
        print(changes.to_csv(found), end="")
    else:
        for letter, side in zip("AB", sides, strict=True):
            print(f"{letter}: {_said(side)}")
        print()
        printing.table(changes.table(found))
        print("\n".join(changes.lines(found)))
    if not as_json:
        for note in (note for side in sides for note in side.notes):
            printing.note(f"left out: {note}")
    if found.broken:
        raise typer.Exit(1)


def merge(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="FROM...",
            help="Folders of `dfkd run --out`, or of published results; they stay as they are.",
        ),
    ],
    out: Out = OUT,
    prefer: Annotated[
        Literal["first", "newest"] | None,
        typer.Option(
            help="Of two finished trials with different numbers: the one met first (OUT's own before all) "
            "or the one whose result.json is newest. By default the later one is refused."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Join the trials and teachers of several machines in one folder; nothing is ever deleted.

    Each trial is copied whole. A finished one beats an unfinished one, which is then set aside; two of the
    same numbers are one. Exit status 1 when something was refused, or is running and so was left. Reports,
    MLflow's database and what lies elsewhere are not copied: `dfkd report` and `dfkd sync` make them again.
    Of published results, what is there of each trial is taken, so that a grid goes on from what is published;
    weights are not, so `dfkd measure` cannot add to those.
    """
    from harness.store import merge as merging
    from harness.store import merge_copy

    with _stores(sources) as stores:
        made = merging.plan(list(stores), out, prefer)
        merge_copy.check_room(made.out, made.size)
        if not dry_run:
            merge_copy.carry_out(made.out, made.moves, made.weights, _Told(made.size, len(made.moves)))
    for store, source in stores.items():  # what is told names the folder that was given
        made.fates = [fate.told_of(store.resolve(), source.resolve()) for fate in made.fates]
    if as_json:
        printing.dump(merging.plain(made) | {"dry_run": dry_run})
    else:
        print("\n".join(merging.lines(made, dry_run)))
        if made.moves and not dry_run:
            print(f"MLflow does not know them yet: `dfkd sync GRID --out {out}` tells it")
    if made.left:
        raise typer.Exit(1)


@contextmanager
def _stores(sources: Sequence[Path]) -> Iterator[dict[Path, Path]]:
    """Folders to merge -> the sources that they are; published results are unpacked for as long."""
    from harness.errors import DfkdError
    from harness.store.published import Archive, is_one

    with tempfile.TemporaryDirectory(prefix="dfkd-merge-") as place:
        stores = {}
        for n, source in enumerate(sources):
            published = is_one(source)
            store = Path(place) / str(n) if published else source
            if store in stores:
                raise DfkdError(f"{source} is given twice")
            if published:
                Archive(source).unpack(store)
            stores[store] = source
        yield stores


class _Told:
    """How far the copying is, on stderr, every two seconds."""

    def __init__(self, size: int, trials: int) -> None:
        self.size, self.trials, self.last = size, trials, time.monotonic()

    def __call__(self, done: int, n: int) -> None:
        from harness.store.merge_copy import amount

        if time.monotonic() - self.last > 2.0 and n < self.trials:
            self.last = time.monotonic()
            printing.note(f"[{n}/{self.trials}] {amount(done)} of {amount(self.size)}")


def _wanted(grid: Grid, of_rows: bool) -> list[dict[str, Any]]:
    """A grid's trials as far as records are chosen by them; of rows, without their seeds."""
    from harness.grids import expand

    names = ("id", "task", "teacher", "student", "teacher_seed", "seed")
    found = [{name: getattr(t, name) for name in names} | {"row": t.label} for t in expand.remembered(grid)]
    return [each | {"teacher_seed": None, "seed": None} for each in found] if of_rows else found


def _said(side: Side) -> str:
    done = sum(record["status"] == "done" for record in side.records)
    what = "rows" if side.kind == "report" else "trials"
    return f"{side.path}: {len(side.records)} {what}, {done} with a number"


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
    from harness.schedule.progress import Progress
    from harness.schedule.run import run_trials
    from harness.store import published as store_published
    from harness.store.directory import Store
    from harness.store.records import read

    published = [
        store_published.Archive(folder) for each in folders for folder in store_published.below(each)
    ]
    drawn = store_published.drawn(published, trials, draw)
    store_published.check_versions([trial for _, trial in drawn])
    there = sum(Store(out).result(trial) is not None for _, trial in drawn)
    summary = run_trials(
        [trial for _, trial in drawn], out, workers=workers, data_root=data_root,
        teachers_dir=teachers or out / "teachers", progress=Progress(),
    )  # fmt: skip
    printing.note(str(summary))
    if summary.interrupted:
        raise typer.Exit(130)
    from harness.store import compare as comparing
    from reports.page import changes

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
