"""What a person chooses on the command line: a grid or a method, and settings over it."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from harness.cli import options
from harness.cli.options import complete_grid, complete_method, complete_pair, complete_task

if TYPE_CHECKING:
    from harness.config import Grid, Trial
    from harness.grids.start import Start
    from harness.store.published import Archive


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
    known = inspect.signature(choose, eval_str=True).parameters
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
    from harness.config import Budget
    from harness.grids import override
    from harness.grids.start import begin

    seeds, budget = given.get("seeds"), given.get("budget")
    return begin(
        method,
        origin,
        seeds=override.parse_seeds(seeds) if seeds is not None else (),
        tasks=given.get("task") or (),
        pairs=[override.parse_pair(p) for p in given.get("pair") or ()],
        budget=Budget.parse(budget) if budget is not None else None,
        equal_cost=given.get("equal_cost"),
        sets=[override.parse_set(s) for s in given.get("set") or ()],
        precision=given.get("precision"),
        compile=given.get("compile"),
    )


@dataclass(frozen=True)
class Chosen:
    """A grid as the command line changed it, and its trials.

    Attributes:
        command: what runs them.
        archive: where they are published, if the grid was named by that folder.
        part: whether they are not all of the trials that are published there.
    """

    grid: Grid
    trials: list[Trial]
    command: str = ""
    archive: Archive | None = None
    part: bool = False


def choose(
    grid: Annotated[
        str,
        typer.Argument(
            metavar="GRID",
            help="A file that defines GRID, or the name of one in benchmarks/; or published results.",
            autocompletion=complete_grid,
        ),
    ],
    methods: Annotated[
        str | None,
        typer.Option(
            help="Rows to keep, by label or method: a,b; a method without a row gets one.",
            autocompletion=complete_method,
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(help="Seeds instead of the grid's: 0,1,2 or 0-4.")] = None,
    teacher_seeds: Annotated[
        str | None, typer.Option(help="Seeds of the teachers, instead of the grid's: 0-2.")
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Task instead of the grid's; may be repeated.", autocompletion=complete_task),
    ] = None,
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="TEACHER:STUDENT instead of the grid's pairs; may be repeated.",
            autocompletion=complete_pair,
        ),
    ] = None,
    budget: Annotated[
        str | None, typer.Option(help="Budget of every row: 300:rounds, 1e4:student_updates or 5e12:flops.")
    ] = None,
    equal_cost: Annotated[
        str | None,
        typer.Option(
            help="A row: every row may spend, in flops, what this one spends under its budget.",
            autocompletion=complete_method,
        ),
    ] = None,
    set: Annotated[
        list[str] | None,
        typer.Option(
            help="ROW.SETTING=V1,V2: a row of each value; ROW is a label, a method or *; may be repeated."
        ),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None, typer.Option(help="Precision of the networks.")
    ] = None,
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Whether networks go through torch.compile.")
    ] = None,
) -> Chosen:
    """Load a grid, override it, expand it.

    Raises:
        DfkdError: for anything that is wrong with either.
    """
    from harness.config import Budget
    from harness.errors import DfkdError
    from harness.grids import expand, load, override
    from harness.store import published

    given = {
        "methods": methods, "seeds": seeds, "teacher-seeds": teacher_seeds, "task": task, "pair": pair,
        "budget": budget, "equal-cost": equal_cost, "set": set, "precision": precision,
    }  # fmt: skip
    kept = published.Archive(Path(grid)) if grid and published.is_one(Path(grid)) else None
    if kept and all(value in (None, []) for value in given.values()) and compile is None:
        return Chosen(kept.grid, kept.trials, kept.command, kept)
    found = override.override(
        load.load(grid) if grid else load.bare(task or (), [override.parse_pair(p) for p in pair or ()]),
        methods=override.words(methods or ""),
        seeds=override.parse_seeds(seeds) if seeds is not None else (),
        teacher_seeds=() if teacher_seeds is None else override.parse_seeds(teacher_seeds, "--teacher-seeds"),
        tasks=task or (),
        pairs=[override.parse_pair(p) for p in pair or ()],
        budget=Budget.parse(budget) if budget is not None else None,
        equal_cost=equal_cost,
        sets=[override.parse_set(s) for s in set or ()],
        precision=precision,
        compile=compile,
    )
    trials = expand.remembered(found)
    if not trials:
        raise DfkdError(f"grid {grid} has no trial: it has no variant that can be run")
    if kept and {t.id for t in trials} <= {t.id for t in kept.trials}:
        return Chosen(found, trials, kept.command, kept, part=True)
    return Chosen(found, trials, _command(grid, given, compile))


def _command(grid: str | None, given: Mapping[str, Any], compile: bool | None) -> str:
    """The command that runs what was chosen, as one types it; a grid of `benchmarks` by its bare name."""
    from harness.grids import load

    words = ["dfkd", "run"]
    if grid:
        file = Path(grid)
        if file.stem in load.known() and load.find(file.stem).resolve() == file.resolve():
            grid = file.stem
        elif file.is_absolute():  # a folder of this machine says nothing to others
            grid = file.name
        words.append(grid)
    for name, value in given.items():
        for each in value if isinstance(value, list) else [value] if value is not None else []:
            words += [f"--{name}", str(each)]
    words += [] if compile is None else ["--compile" if compile else "--no-compile"]
    return shlex.join(words)


def on_grid(command: Callable[..., None]) -> Callable[..., None]:
    """Make a command on a `Chosen`, its first parameter, one on GRID with the options that override it."""
    shared = inspect.signature(choose, eval_str=True).parameters

    def called(**given: Any) -> None:
        chosen = choose(**{name: given.pop(name) for name in shared})
        command(chosen, **given)

    return _made(called, command, list(shared.values()))


def on_grids(command: Callable[..., None]) -> Callable[..., None]:
    """As `on_grid` for several grids: its first parameter is a list, every override reaches each of them."""
    shared = dict(inspect.signature(choose, eval_str=True).parameters)
    one = shared.pop("grid")
    about = one.annotation.__metadata__[0]
    many = typer.Argument(metavar="GRID", help=about.help, autocompletion=about.autocompletion)

    def called(grid: list[str], **given: Any) -> None:
        overrides = {name: given.pop(name) for name in shared}
        command([choose(grid=each, **overrides) for each in grid], **given)

    return _made(called, command, [one.replace(annotation=Annotated[list[str], many]), *shared.values()])


def on_grid_or_not(command: Callable[..., None]) -> Callable[..., None]:
    """As `on_grid`, but GRID may be left out where --methods, --task and --pair say as much."""
    shared = dict(inspect.signature(choose, eval_str=True).parameters)
    grid = shared["grid"]
    maybe = Annotated[str | None, *grid.annotation.__metadata__]

    def called(**given: Any) -> None:
        picked = {name: given.pop(name) for name in shared}
        lacking = [f"--{name}" for name in ("methods", "task", "pair") if not picked[name]]
        if picked["grid"] is None and lacking:
            from harness.errors import DfkdError

            raise DfkdError(
                f"dfkd {command.__name__} takes a GRID, or else --methods, --task and --pair: no {lacking[0]}"
            )
        command(choose(**picked), **given)

    shared["grid"] = grid.replace(annotation=maybe, default=None, kind=inspect.Parameter.KEYWORD_ONLY)
    return _made(called, command, list(shared.values()))


def distinct(chosen: Sequence[Chosen]) -> None:
    """Refuse grids of one name.

    Raises:
        DfkdError: naming it.
    """
    from harness.errors import DfkdError

    names = [each.grid.name for each in chosen]
    if double := [name for name in names if names.count(name) > 1]:
        raise DfkdError(
            f"two grids are named {double[0]}: OUT/reports/{double[0]} can hold one of them at a time"
        )


def _made(
    called: Callable[..., None], command: Callable[..., None], first: list[inspect.Parameter]
) -> Callable[..., None]:
    """``called`` with the name, the words and the options of ``command``, ``first`` in place of its first."""
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*first, *own)]
    called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    called.__annotations__ = {p.name: p.annotation for p in parameters}
    called.__name__, called.__doc__ = command.__name__, command.__doc__
    return called
