"""The command that shows one trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import printing
from harness.cli.options import OUT, Json, Out
from harness.errors import DfkdError

if TYPE_CHECKING:
    from harness.store.directory import TrialDir

_ROWS = 12  # of a curve on the screen

TrialId = Annotated[str, typer.Argument(metavar="TRIAL", help="A trial's id, or how it begins.")]


def find(prefix: str, out: Path) -> TrialDir:
    """The one trial under ``out`` whose id begins so.

    Raises:
        DfkdError: for none or several, or a damaged ``trial.json``.
    """
    from harness.store.directory import TrialDir

    home = out / "trials"
    files = sorted(home.glob("*/trial.json"))
    found = [f for f in files if prefix and f.parent.name.startswith(prefix)]
    if not found:
        raise DfkdError(
            f"no trial of the {len(files)} in {home} has an id that begins with {prefix!r}; "
            "`dfkd list GRID` shows ids, --out names the folder"
        )
    if len(found) > 1:
        few = ", ".join(f.parent.name for f in found[:4]) + (", ..." if len(found) > 4 else "")
        raise DfkdError(f"{len(found)} trials have an id that begins with {prefix!r}: {few}")
    return TrialDir(out, TrialDir.at(found[0].parent).trial)


def show(trial: TrialId, out: Out = OUT, as_json: Json = False) -> None:
    """Show a trial: its settings, its curve, its numbers, or its failure with all detail."""
    from harness.files import read_json
    from harness.trials import diagnose

    run = find(trial, out)
    found, curve = run.look(), run.curve()
    status, result, failure = found.status, found.result, found.failure
    note = (read_json(run.path / "note.json") or {}).get("note", "")
    warnings = diagnose.of_run(run)
    if as_json:
        facts = {"status": status, "result": result, "failure": failure, "note": note, "warnings": warnings}
        printing.dump({"id": run.id, **run.trial.model_dump(mode="json"), **facts, "curve": curve})
        return
    t = run.trial
    print(f"{run.id}  {t.cell}: {status}")
    teacher = f"imported {t.teacher_digest[:12]}" if t.teacher_digest else f"recipe {t.recipe.name}"
    print(f"budget {t.budget}, {t.precision}, teacher {teacher} seed {t.teacher_seed}, {run.path}")
    if result:
        print(f"student {run.path / 'final' / 'student.safetensors'}")
    if note:
        print(f"note: {note}")
    _pairs("setting", t.settings)
    if curve:
        print()
        _curve(curve)
    for section in ("metrics", "unavailable", "spend", "cost", "provenance"):
        _pairs(section, (result or {}).get(section, {}))
    for warning in warnings:
        print(f"\nwarning: {warning}")
    if failure:
        print(f"\n{failure['kind']}: {failure['reason']}\n{failure['detail']}".rstrip())


def _pairs(title: str, values: Mapping[str, Any]) -> None:
    if values:
        print()
        printing.table([{title: k, "": printing.cell(v)} for k, v in values.items()])


def _curve(curve: Sequence[Mapping[str, Any]]) -> None:
    top1 = [float(row["top1"]) for row in curve if "top1" in row]
    if top1:
        print(f"top1 {printing.sparkline(top1)} {min(top1):.2f} to {max(top1):.2f}, last {top1[-1]:.2f}\n")
    last = len(curve) - 1
    picked = sorted({round(i * last / (_ROWS - 1)) for i in range(_ROWS)})
    names = dict.fromkeys(k for i in picked for k in curve[i])
    printing.table([{name: curve[i].get(name) for name in names} for i in picked])
