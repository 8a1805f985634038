"""Options that several commands have, and shell completion."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer


def complete_grid(incomplete: str) -> list[str]:
    """Names of the grids in ``benchmarks/``; a path is the shell's business."""
    from harness.grids import load

    return load.known()


def complete_method(incomplete: str) -> list[str]:
    """Registered methods; the last of a list written with commas."""
    from harness import registry

    head, comma, _ = incomplete.rpartition(",")
    return [f"{head}{comma}{name}" for name in registry.methods.names()]


def complete_task(incomplete: str) -> list[str]:
    """Built-in tasks."""
    from harness.tasks import catalog as tasks_catalog

    return tasks_catalog.names()


def complete_net(incomplete: str) -> list[str]:
    """Networks."""
    from harness.grids import remember
    from harness.nets import catalog

    return list(remember.by_code("nets", catalog.nets.names))


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
Workers = Annotated[
    int | None, typer.Option(help="Trials at a time; what fits by default; 0 runs here, without Ray.")
]
GpusPerTrial = Annotated[
    float, typer.Option(help="GPUs of each trial: a share such as 0.5, or a whole number.")
]
Address = Annotated[
    str | None, typer.Option(help="A Ray cluster that this machine belongs to: HOST:PORT or auto.")
]
Device = Annotated[str, typer.Option(help="cpu, cuda, cuda:1 or auto.")]
Origin = Annotated[
    Literal["store", "mlflow"], typer.Option("--from", help="Read trial directories, or MLflow.")
]

OUT = Path("runs")
