"""Commands that vary one method: their common options, and the ablation of its terms and choices."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from harness.cli import printing
from harness.cli.choose import on_method
from harness.cli.options import Json

if TYPE_CHECKING:
    from harness.grids.ablate import Ablation
    from harness.grids.start import Start


# --- ablate -------------------------------------------------------------------------------------


@on_method()
def ablate(
    start: Start,
    over: Annotated[
        str | None, typer.Option(help="Settings to vary: a,b; every weight and every choice by default.")
    ] = None,
    only: Annotated[
        Literal["losses", "structure"] | None, typer.Option(help="One of the two ablations.")
    ] = None,
    base: Annotated[
        str | None,
        typer.Option(
            help="Weights that the row `bare` keeps: a,b; by default the fewest with which it runs."
        ),
    ] = None,
    write: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write the rows as a grid: FILE is what `dfkd run` and the others take."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Build the ablations of a method: which loss term and which choice gives what.

    Rows: `full`; `- TERM`, full without one term; `bare`, the fewest terms with which the method has
    something to minimise; `bare + TERM`; and `SETTING=CHOICE`, one for every other choice of a setting. Each
    is measured against `full` in the report, seed by seed, `bare + TERM` against `bare`. What cannot run, or
    changes nothing, is left out and told. Runs nothing itself: --write FILE, then `dfkd run FILE`.
    """
    from harness.grids import expand, override
    from harness.grids.ablate import ablation

    found = ablation(start, over=override.words(over or ""), keep=override.words(base or ""), only=only)
    trials = len({t.id for t in expand.remembered(found.grid)})
    if write:
        _write(write, start, found, trials)
    if as_json:
        rows = [vars(row) | {"settings": start.own | row.changes} for row in found.rows]
        told = {"method": start.method, "rows": rows, "left_out": found.left_out}
        printing.dump(told | {"trials": trials, "file": write})
        return
    table = []
    for row in found.rows:
        same = f" (the trials of {row.same!r})" if row.same else ""
        table.append({"row": row.label, "against": row.against, "what": f"{row.what}{same}"})
    printing.table(table)
    print()
    for label, why in found.left_out.items():
        print(f"left out: {label}: {why}")
    grid = found.grid
    pairs = ", ".join(f"{teacher}->{student}" for teacher, student in grid.pairs)
    print(
        f"{len(found.rows)} rows, {trials} trials: {', '.join(grid.tasks)}; {pairs}; "
        f"seeds {', '.join(map(str, grid.seeds))}; {grid.budget}"
    )
    makes = "--write FILE makes it a grid, for `dfkd run FILE`"
    print(f"{write}: `dfkd run {write}` runs it" if write else makes)


def _write(file: Path, start: Start, found: Ablation, trials: int) -> None:
    from harness import files
    from harness.errors import DfkdError
    from harness.grids.write import source

    if file.suffix != ".py":
        raise DfkdError(f"--write {file}: a grid is a Python file: give a name that ends in .py")
    where = f"as in the grid {start.origin}" if start.origin else "its own defaults"
    lines = [
        f"Settings of {start.label}: {where}. Written by `dfkd ablate`.",
        "",
        f"  Run:    dfkd run {file.name}",
        f"  Trials: {trials} ({len(found.rows)} rows)",
        "",
    ]
    lines += [f"  {row.label}: {row.what}" for row in found.rows if not row.setting]
    for setting in dict.fromkeys(row.setting for row in found.rows if row.setting):
        options = [row.label.partition("=")[2] for row in found.rows if row.setting == setting]
        lines.append(f"  {setting}: {', '.join(options)}")
    if found.left_out:
        lines += ["", "Left out:"]
        lines += [f"  {label}: {why}" for label, why in found.left_out.items()]
    folded = [
        "\n".join(textwrap.wrap(line, 108, initial_indent="  ", subsequent_indent="    "))
        if line.startswith(" ")
        else line
        for line in lines
    ]
    files.put(file, source(found.grid, f"Ablations of {start.method}.", folded))
