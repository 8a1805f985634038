"""What a person chooses on the command line: a grid or a method, and settings over it."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from harness.cli.options import complete_grid, complete_method, complete_pair, complete_task
from harness.errors import DfkdError

if TYPE_CHECKING:
    from harness.config import Grid, Trial
    from harness.grids.start import Start
    from harness.store.published import Archive

Command = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """What the command line says over a grid: each field is an option."""

    methods: Annotated[
        str | None,
        typer.Option(
            help="Rows to keep, by label or method: a,b; a method without a row gets one.",
            autocompletion=complete_method,
        ),
    ] = None
    seeds: Annotated[str | None, typer.Option(help="Seeds instead of the grid's: 0,1,2 or 0-4.")] = None
    teacher_seeds: Annotated[
        str | None, typer.Option(help="Seeds of the teachers, instead of the grid's: 0-2.")
    ] = None
    task: Annotated[
        list[str] | None,
        typer.Option(help="Task instead of the grid's; may be repeated.", autocompletion=complete_task),
    ] = None
    pair: Annotated[
        list[str] | None,
        typer.Option(
            help="TEACHER:STUDENT instead of the grid's pairs; may be repeated.",
            autocompletion=complete_pair,
        ),
    ] = None
    budget: Annotated[
        str | None, typer.Option(help="Budget of every row: 300:rounds, 1e4:student_updates or 5e12:flops.")
    ] = None
    equal_cost: Annotated[
        str | None,
        typer.Option(
            help="A row: every row may spend, in flops, what this one spends under its budget.",
            autocompletion=complete_method,
        ),
    ] = None
    set: Annotated[
        list[str] | None,
        typer.Option(
            help="ROW.SETTING=VALUE; ROW is a label, a method or *; may be repeated. Where a grid is run or "
            "looked at, V1,V2 makes a row of each."
        ),
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None, typer.Option(help="Precision of the networks.")
    ] = None
    compile: Annotated[
        bool | None, typer.Option("--compile/--no-compile", help="Whether networks go through torch.compile.")
    ] = None

    def given(self) -> dict[str, Any]:
        """The options that were given, by name."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in found.items() if value not in (None, [])}

    def parsed(self) -> dict[str, Any]:
        """The same as `harness.grids.override.override` takes them.

        Raises:
            DfkdError: for a text that is none.
        """
        from harness.config import Budget
        from harness.grids import override

        forms: dict[str, tuple[str, Callable[[Any], Any]]] = {
            "methods": ("methods", override.words),
            "seeds": ("seeds", override.parse_seeds),
            "teacher_seeds": ("teacher_seeds", partial(override.parse_seeds, option="--teacher-seeds")),
            "task": ("tasks", tuple),
            "pair": ("pairs", lambda given: [override.parse_pair(each) for each in given]),
            "budget": ("budget", Budget.parse),
            "set": ("sets", lambda given: [override.parse_set(each) for each in given]),
        }
        found = {}
        for name, value in self.given().items():
            argument, form = forms.get(name, (name, lambda given: given))
            found[argument] = form(value)
        return found

    def words(self) -> list[str]:
        """The same as one types them."""
        found = []
        for name, value in self.given().items():
            option = name.replace("_", "-")
            if isinstance(value, bool):
                found.append(f"--{option}" if value else f"--no-{option}")
            else:
                for each in value if isinstance(value, list) else [value]:
                    found += [f"--{option}", str(each)]
        return found


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


def choose(grid: str | None, over: Overrides | None = None) -> Chosen:
    """Load a grid, override it, expand it.

    Args:
        grid: a file, the name of one in ``benchmarks/``, or a folder of published results; None: every
            method at its own defaults, and then ``over`` says which of them and where.
        over: what else the command line says.

    Raises:
        DfkdError: for anything that is wrong with either.
    """
    from harness.grids import expand, load, override
    from harness.store import published

    over = over or Overrides()
    kept = published.Archive(Path(grid)) if grid and published.is_one(Path(grid)) else None
    if kept and not over.given():
        return Chosen(kept.grid, kept.trials, kept.command, kept)
    changes = over.parsed()
    if grid is not None:
        found = load.load(grid)
    elif lacking := [f"--{name}" for name in ("methods", "task", "pair") if name not in over.given()]:
        raise DfkdError(f"the command takes a GRID, or else --methods, --task and --pair: no {lacking[0]}")
    else:
        found = load.bare(changes["tasks"], changes["pairs"])
    found = override.override(found, **changes)
    trials = expand.remembered(found)
    if not trials:
        raise DfkdError(f"grid {grid} has no trial: it has no variant that can be run")
    if kept and {t.id for t in trials} <= {t.id for t in kept.trials}:
        return Chosen(found, trials, kept.command, kept, part=True)
    name = [_short(grid)] if grid is not None else []
    return Chosen(found, trials, shlex.join(["dfkd", "run", *name, *over.words()]))


def _short(grid: str) -> str:
    """As others can name it: a grid of `benchmarks` by its bare name, no absolute folder."""
    from harness.grids import load

    file = Path(grid)
    if file.stem in load.known() and load.find(file.stem).resolve() == file.resolve():
        return file.stem
    return file.name if file.is_absolute() else grid


def distinct(chosen: Sequence[Chosen]) -> None:
    """Refuse grids of one name.

    Raises:
        DfkdError: naming it.
    """
    names = [each.grid.name for each in chosen]
    if double := [name for name in names if names.count(name) > 1]:
        raise DfkdError(
            f"two grids are named {double[0]}: OUT/reports/{double[0]} can hold one of them at a time"
        )


# --- decorators -----------------------------------------------------------------------------------


def on_grid(*, many: bool = False, optional: bool = False) -> Callable[[Command], Command]:
    """Make a command on a `Chosen`, its first parameter, one on GRID and all `Overrides`.

    Args:
        many: it takes several grids, and a list of `Chosen`; every override reaches each of them.
        optional: GRID may be left out where --methods, --task and --pair say as much.
    """
    about = typer.Argument(
        metavar="GRID",
        help="A file that defines GRID, or the name of one in benchmarks/; or published results.",
        autocompletion=complete_grid,
    )
    kind: Any = list[str] if many else str | None if optional else str
    grid = _parameter("grid", Annotated[kind, about], None if optional else inspect.Parameter.empty)

    def begin(grid: Any, **given: Any) -> Chosen | list[Chosen]:
        over = Overrides(**given)
        return [choose(each, over) for each in grid] if many else choose(grid, over)

    return _command_on(begin, [grid, *_options()])


def on_method(*without: str) -> Callable[[Command], Command]:
    """Make a command on a `Start`, its first parameter, one on METHOD, a grid to begin with, and `Overrides`.

    Args:
        without: overrides that make no sense there.
    """
    about = typer.Argument(
        metavar="METHOD",
        help="A method, ours or a plug-in's; with --from also the label of a row of it.",
        autocompletion=complete_method,
    )
    source = typer.Option(
        "--from",
        metavar="GRID",
        help="Begin with this grid's settings, tasks, pairs, seeds and budget for the method; else with its "
        "own defaults, and then --task, --pair and --budget say where.",
        autocompletion=complete_grid,
    )

    def begin(method: str, source: str | None, **given: Any) -> Start:
        from harness.grids import start

        return start.begin(method, source, **Overrides(**given).parsed())

    first = [
        _parameter("method", Annotated[str, about]),
        _parameter("source", Annotated[str | None, source], None),
    ]
    return _command_on(begin, [*first, *_options("methods", "teacher_seeds", *without)])


def _options(*without: str) -> list[inspect.Parameter]:
    """The fields of `Overrides` as parameters of a command."""
    kinds = get_type_hints(Overrides, include_extras=True)
    return [_parameter(f.name, kinds[f.name], f.default) for f in fields(Overrides) if f.name not in without]


def _parameter(name: str, kind: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=kind, default=default)


def _command_on(
    begin: Callable[..., Any], first: Sequence[inspect.Parameter]
) -> Callable[[Command], Command]:
    """A command's first parameter is what ``begin`` makes of the parameters ``first``."""

    def made(command: Command) -> Command:
        name = next(iter(inspect.signature(command).parameters))
        command.__annotations__.pop(name)  # its type may be of a module that is for later: it loads pydantic
        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        parameters = [*first, *(p.replace(kind=p.KEYWORD_ONLY) for p in own)]

        def called(**given: Any) -> None:
            command(begin(**{p.name: given.pop(p.name) for p in first}), **given)

        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        called.__name__, called.__doc__ = command.__name__, command.__doc__
        return called

    return made
