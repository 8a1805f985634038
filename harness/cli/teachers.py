"""``dfkd teachers``: train, list, import and verify."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from harness.cli import printing
from harness.cli.options import OUT, DataRoot, Device, Json, Out, Teachers, complete_net, complete_task
from harness.errors import DfkdError

app = typer.Typer(help="Train, list, import and verify teachers.", no_args_is_help=True)

TaskName = Annotated[str, typer.Argument(help="Which task.", autocompletion=complete_task)]
NetName = Annotated[str, typer.Argument(help="Which network.", autocompletion=complete_net)]


@app.command()
def train(
    task: TaskName,
    net: NetName,
    recipe: Annotated[str, typer.Option(help="How; default is the task's own recipe.")] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Of initial weights and batches.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; another number gives other bits.")] = 1,
    device: Device = "cpu",
    out: Out = OUT,
    teachers: Teachers = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Train a teacher, unless it is there."""
    from harness.nets.catalog import nets
    from harness.store import cards as held
    from harness.tasks import catalog
    from harness.trials import teachers as store

    catalog.version(task)
    nets.check(net)
    how, folder = catalog.recipe(recipe, task), teachers or out / "teachers"
    card = store.train(
        folder,
        task,
        net,
        how,
        seed,
        data_root=data_root,
        device=_device(device),
        threads=threads,
        on_epoch=_epochs(),
    )
    if as_json:
        printing.dump(card.model_dump(mode="json"))
        return
    print(f"{net} on {task}: top1 {card.top1:.2f} %, digest {card.digest[:12]}, {card.seconds:.0f} s")
    print(held.path_for(folder, task, net, how, seed))


def _epochs() -> Callable[[int, int, float], None]:
    """Tells of epochs on stderr: all on a terminal, every tenth part elsewhere."""
    from harness.schedule.progress import duration

    began, terminal = time.monotonic(), sys.stderr.isatty()

    def told(epoch: int, epochs: int, loss: float) -> None:
        if not terminal and epoch % max(1, epochs // 10) and epoch != epochs:
            return
        left = (time.monotonic() - began) / epoch * (epochs - epoch)
        line = f"epoch {epoch}/{epochs}  loss {loss:.4f}  about {duration(left)} left"
        end = "\n" if not terminal or epoch == epochs else ""
        print(f"\r{line:<60}" if terminal else line, end=end, file=sys.stderr, flush=True)

    return told


def _device(name: str) -> str:
    from harness.compute import pick_device

    try:
        return str(pick_device(name))
    except RuntimeError:
        raise DfkdError(f"--device {name!r} is none of cpu, cuda, cuda:N, auto") from None


@app.command("list")
def list_(out: Out = OUT, teachers: Teachers = None, as_json: Json = False) -> None:
    """List the teachers with digest and measured accuracy."""
    from harness.store import cards as held

    folder = teachers or out / "teachers"
    found = held.cards(folder)
    if as_json:
        printing.dump([c.model_dump(mode="json") for c in found])
        return
    if not found:
        printing.note(f"no teacher in {folder}")
    printing.table(
        [
            {
                "digest": c.digest[:12],
                "task": c.task,
                "net": c.net,
                "made by": f"recipe {c.recipe.name}, seed {c.seed}" if c.recipe else f"import of {c.origin}",
                "top1": f"{c.top1:.2f}",
                "s": round(c.seconds),
            }
            for c in found
        ]
    )


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="State dict: .pt, .pth or .safetensors; no code is run.")],
    task: TaskName,
    net: NetName,
    normalise: Annotated[
        str | None,
        typer.Option(help="Constants it was trained with: a task's name, or M1,M2,M3/S1,S2,S3."),
    ] = None,
    device: Device = "cpu",
    out: Out = OUT,
    teachers: Teachers = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Take weights that somebody else trained as a teacher, and measure its accuracy."""
    from harness.nets.catalog import nets
    from harness.tasks import catalog
    from harness.trials.import_teacher import import_file

    catalog.version(task)
    nets.check(net)
    folder, where = teachers or out / "teachers", _device(device)
    card = import_file(folder, file, task, net, normalise=normalise, data_root=data_root, device=where)
    if as_json:
        printing.dump(card.model_dump(mode="json"))
        return
    print(f'{net} on {task}: top1 {card.top1:.2f} %; in a grid: imported="{card.digest}"')


@app.command()
def verify(
    digest: Annotated[
        str | None, typer.Argument(help="How its digest begins; every teacher without.")
    ] = None,
    device: Device = "cpu",
    out: Out = OUT,
    teachers: Teachers = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """Check digests, and accuracy once per teacher, data and machine; exit status 1 where one fails."""
    from harness.store import cards as held
    from harness.tasks import images
    from harness.trials import teachers as store

    folder, where = teachers or out / "teachers", _device(device)
    cards = [held.by_digest(folder, digest)[1]] if digest else held.cards(folder)
    if not cards:
        raise DfkdError(f"no teacher in {folder}")
    rows = []
    for card in cards:
        row = {"digest": card.digest[:12], "task": card.task, "net": card.net, "card says": card.top1}
        try:
            found = images.load(card.task, data_root)
            rows.append(row | {"measured": store.verify(folder, card, found, where), "error": ""})
        except DfkdError as error:
            rows.append(row | {"measured": None, "error": str(error)})
    if not digest:
        rows += [{"digest": "", "error": line} for line in held.damaged(folder)]
    printing.dump(rows) if as_json else printing.table(rows)
    if any(row["error"] for row in rows):
        raise typer.Exit(1)
