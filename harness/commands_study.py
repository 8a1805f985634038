"""Commands that vary one method: their common options, and the ablation of its terms and choices."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness import options, printing
from harness.options import Json

if TYPE_CHECKING:
    from harness.ablate import Ablation
    from harness.study import Start

Method = Annotated[
    str,
    typer.Argument(
        metavar="METHOD",
        help="A method, ours or a plug-in's; with --from also the label of a row of it.",
        autocompletion=options.complete_method,
    ),
]
Origin = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="GRID",
        help="Begin with this grid's settings, tasks, pairs, seeds and budget for the method; else with its "
        "own defaults, and then --task, --pair and --budget say where.",
        autocompletion=options.complete_grid,
    ),
]
_SHARED = {
    "task": "Task, instead of the grid's; may be repeated.",
    "pair": "TEACHER:STUDENT, instead of the grid's; may be repeated.",
    "budget": "Budget: 300:rounds, 1e4:student_updates or 5e12:flops.",
    "seeds": "Seeds: 0,1,2 or 0-4.",
    "equal_cost": "A row: the method may spend, in flops, what this one spends under its budget.",
    "set": "METHOD.SETTING=VALUE, before anything is varied; may be repeated.",
    "precision": "Precision of the networks.",
    "compile": "Whether networks go through torch.compile.",
}


def on_method(*without: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command on a `Start`, its first parameter, one on METHOD with the options that override a grid.

    Args:
        without: overrides that make no sense there.
    """
    known = inspect.signature(options.choose, eval_str=True).parameters
    names = [name for name in _SHARED if name not in without]

    def made(command: Callable[..., None]) -> Callable[..., None]:
        late = {**command.__globals__, "Start": object}  # its module is for later: it loads pydantic
        own = list(inspect.signature(command, globals=late, eval_str=True).parameters.values())[1:]
        empty = inspect.Parameter.empty
        first = [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)
            for name, kind, default in (("method", Method, empty), ("origin", Origin, None))
        ]
        shared = [
            known[name].replace(annotation=_explained(known[name].annotation, _SHARED[name]))
            for name in names
        ]

        def called(method: str, origin: str | None, **given: Any) -> None:
            command(_begin(method, origin, **{name: given.pop(name) for name in names}), **given)

        parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*first, *shared, *own)]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        called.__name__, called.__doc__ = command.__name__, command.__doc__
        return called

    return made


def _explained(annotation: Any, help: str) -> Any:
    """The option of another command, explained for this one."""
    kind, option = annotation.__origin__, annotation.__metadata__[0]
    return Annotated[kind, typer.Option(help=help, autocompletion=option.autocompletion)]


def _begin(method: str, origin: str | None, **given: Any) -> Start:
    from harness import grids
    from harness.config import Budget
    from harness.study import begin

    seeds, budget = given.get("seeds"), given.get("budget")
    return begin(
        method,
        origin,
        seeds=grids.parse_seeds(seeds) if seeds is not None else (),
        tasks=given.get("task") or (),
        pairs=[grids.parse_pair(p) for p in given.get("pair") or ()],
        budget=Budget.parse(budget) if budget is not None else None,
        equal_cost=given.get("equal_cost"),
        sets=[grids.parse_set(s) for s in given.get("set") or ()],
        precision=given.get("precision"),
        compile=given.get("compile"),
    )


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
    from harness import grids
    from harness.ablate import ablation

    found = ablation(start, over=grids.words(over or ""), keep=grids.words(base or ""), only=only)
    trials = len({t.id for t in grids.trials(found.grid)})
    if write:
        _write(write, start, found, trials)
    if as_json:
        rows = [vars(row) | {"settings": start.own | row.changes} for row in found.rows]
        printing.dump(
            {
                "method": start.method,
                "rows": rows,
                "left_out": found.left_out,
                "trials": trials,
                "file": write,
            }
        )
        return
    printing.table(
        [
            {
                "row": row.label,
                "against": row.against,
                "what": row.what + (f" (the trials of {row.same!r})" if row.same else ""),
            }
            for row in found.rows
        ]
    )
    print()
    for label, why in found.left_out.items():
        print(f"left out: {label}: {why}")
    grid = found.grid
    pairs = ", ".join(f"{teacher}->{student}" for teacher, student in grid.pairs)
    print(
        f"{len(found.rows)} rows, {trials} trials: {', '.join(grid.tasks)}; {pairs}; "
        f"seeds {', '.join(map(str, grid.seeds))}; {grid.budget}"
    )
    print(
        f"{write}: `dfkd run {write}` runs it"
        if write
        else "--write FILE makes it a grid, for `dfkd run FILE`"
    )


def _write(file: Path, start: Start, found: Ablation, trials: int) -> None:
    from harness import gridfile
    from harness.errors import DfkdError

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
    gridfile.write(file, gridfile.source(found.grid, f"Ablations of {start.method}.", folded))
