"""What commands share: their options, shell completion, and the choice of a grid's trials."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from harness.archive import Archive
    from harness.config import Grid, Trial


def complete_grid(incomplete: str) -> list[str]:
    """Names of the grids in ``benchmarks/``; a path is the shell's business."""
    from harness import grids

    return grids.known()


def complete_method(incomplete: str) -> list[str]:
    """Registered methods; the last of a list written with commas."""
    from harness import registry

    head, comma, _ = incomplete.rpartition(",")
    return [f"{head}{comma}{name}" for name in registry.methods.names()]


def complete_task(incomplete: str) -> list[str]:
    """Built-in tasks."""
    from harness import data

    return data.names()


def complete_net(incomplete: str) -> list[str]:
    """Networks."""
    from harness import registry, remember

    return list(remember.by_code("nets", registry.nets.names))


def complete_pair(incomplete: str) -> list[str]:
    """``teacher:student``, one half at a time."""
    head, colon, _ = incomplete.partition(":")
    return [f"{head}:{n}" if colon else f"{n}:" for n in complete_net(incomplete)]


Out = Annotated[
    Path, typer.Option(envvar="DFKD_OUT", help="Folder of trials, teachers, MLflow's database and reports.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
DataRoot = Annotated[
    Path | None, typer.Option(help="Where data sets lie; else DFKD_DATA_ROOT, else the user's cache.")
]
Teachers = Annotated[Path | None, typer.Option(help="Where teachers lie; OUT/teachers by default.")]
Inception = Annotated[
    Path | None, typer.Option(help="Weights of pytorch-fid's InceptionV3, for FID and KID.")
]
Uri = Annotated[
    str | None, typer.Option(help="MLflow's tracking URI; by default the SQLite file OUT/mlflow.db.")
]
NoMLflow = Annotated[bool, typer.Option("--no-mlflow", help="Tell MLflow nothing.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto.")]
Origin = Annotated[
    Literal["store", "mlflow"], typer.Option("--from", help="Read trial directories, or MLflow.")
]

OUT = Path("runs")


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
    from harness import archive, grids
    from harness.config import Budget
    from harness.errors import DfkdError

    given = {
        "methods": methods, "seeds": seeds, "teacher-seeds": teacher_seeds, "task": task, "pair": pair,
        "budget": budget, "equal-cost": equal_cost, "set": set, "precision": precision,
    }  # fmt: skip
    kept = archive.Archive(Path(grid)) if grid and archive.is_one(Path(grid)) else None
    if kept and all(value in (None, []) for value in given.values()) and compile is None:
        return Chosen(kept.grid, kept.trials, kept.command, kept)
    found = grids.override(
        grids.load(grid) if grid else grids.bare(task or (), [grids.parse_pair(p) for p in pair or ()]),
        methods=grids.words(methods or ""),
        seeds=grids.parse_seeds(seeds) if seeds is not None else (),
        teacher_seeds=() if teacher_seeds is None else grids.parse_seeds(teacher_seeds, "--teacher-seeds"),
        tasks=task or (),
        pairs=[grids.parse_pair(p) for p in pair or ()],
        budget=Budget.parse(budget) if budget is not None else None,
        equal_cost=equal_cost,
        sets=[grids.parse_set(s) for s in set or ()],
        precision=precision,
        compile=compile,
    )
    trials = grids.trials(found)
    if not trials:
        raise DfkdError(f"grid {grid} has no trial: it has no variant that can be run")
    if kept and {t.id for t in trials} <= {t.id for t in kept.trials}:
        return Chosen(found, trials, kept.command, kept, part=True)
    return Chosen(found, trials, _command(grid, given, compile))


def _command(grid: str | None, given: Mapping[str, Any], compile: bool | None) -> str:
    """The command that runs what was chosen, as one types it; a grid of `benchmarks` by its bare name."""
    from harness import grids

    words = ["dfkd", "run"]
    if grid:
        file = Path(grid)
        if file.stem in grids.known() and grids.find(file.stem).resolve() == file.resolve():
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
