"""The ``dfkd`` command. Every heavy import waits inside a command: ``dfkd --help`` answers at once."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from harness.cli import ablate, catalog, folders, grid, plan, results, search, teachers, trial
from harness.errors import DfkdError

app = typer.Typer(
    name="dfkd",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"dfkd-bench {version('dfkd-bench')}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Run, measure and compare methods of data-free knowledge distillation."""


for command in (
    *(grid.run, grid.list_, grid.status, plan.bench),
    *(ablate.ablate, search.search),
    *(results.results, results.report, results.measure, results.sync),
    *(folders.publish, folders.rerun),
    trial.show,
    *(catalog.methods, catalog.tasks, catalog.nets, catalog.metrics),
    *(catalog.check, folders.compare, folders.merge),
):
    about = str(command.__doc__).partition("\n")[0]  # a sentence: click would cut it to a line
    app.command(command.__name__.rstrip("_"), short_help=about)(command)
app.add_typer(teachers.app, name="teachers")


def main(words: Sequence[str] | None = None) -> None:
    """Entry point. A person's mistake is one line on stderr and exit status 2; a traceback is a bug.

    Args:
        words: what follows ``dfkd``; what was typed by default.

    Raises:
        SystemExit: always, with the exit status.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")  # a terminal without the sign for plus-minus
    try:
        app(words, prog_name="dfkd")  # whatever started it: completion goes by this name
    except DfkdError as error:
        print(f"dfkd: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("dfkd: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of a pipe had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(141)


if __name__ == "__main__":
    main()
