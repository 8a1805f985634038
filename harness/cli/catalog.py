"""Commands on what there is: methods, tasks, networks, metrics; and the conformance tests."""

from __future__ import annotations

import inspect
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from harness.cli import printing
from harness.cli.options import DataRoot, Json, complete_method, complete_task
from harness.errors import DfkdError

if TYPE_CHECKING:
    from harness.interface import Method


def methods(
    method: Annotated[
        str | None,
        typer.Argument(help="Show this method's equation and settings.", autocompletion=complete_method),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the methods, a broken plug-in with its error; or one with equation, departures and settings."""
    from harness import registry

    if method:
        registry.methods.get(method)
    found = [_method(name) for name in ([method] if method else registry.methods.names())]
    if as_json:
        printing.dump(found)
    elif method:
        print(f"{found[0]['about']}\n")
        printing.table(
            [
                {
                    "setting": k,
                    "default": printing.cell(s["default"]),
                    "what": s["help"],
                    "allowed": _allowed(s),
                }
                for k, s in found[0]["settings"].items()
            ]
        )
    else:
        printing.table(
            [
                {
                    "method": m["name"],
                    "title": m["title"],
                    "year": m["year"] or "",
                    "sees": _sees(m),
                    "passes per update: G": _passes(m, "G"),
                    "T": _passes(m, "T"),
                    "S": _passes(m, "S"),
                    "needs": "; ".join(m["needs"]),
                    "paper, or why it cannot be used": m["error"] or m["paper"],
                }
                for m in found
            ]
        )


def _method(name: str) -> dict[str, Any]:
    from harness import registry
    from harness.settings import settings_of

    cls, error = registry.methods.error_or(name)
    about: dict[str, Any] = {"name": name, "title": "", "paper": "", "year": 0, "version": 0}
    about |= {"reference": False, "control": False, "passes": {}, "needs": (), "presets": {}}
    about |= {"settings": {}, "about": "", "error": error}
    if cls is None:
        return about
    about |= {"title": cls.TITLE, "paper": cls.PAPER, "year": cls.YEAR, "version": cls.VERSION}
    about |= {"reference": cls.USES_DATA, "needs": cls.NEEDS, "presets": cls.PRESETS}
    about |= {"control": cls.CONTROL, "passes": _cost(name), "about": _about(cls)}
    for key, (default, meta) in settings_of(cls.HP).items():
        space = meta.space._asdict() if meta.space else None
        about["settings"][key] = {"default": default, **asdict(meta), "space": space}
    return about


def _about(cls: type[Method]) -> str:
    """The head of the file that a method lies in: its equation and departures, not what was seen of it."""
    text = inspect.getdoc(sys.modules[cls.__module__]) or f"{cls.TITLE}. {cls.PAPER}"
    return text.partition("\n\nSeen:")[0]


def _cost(name: str) -> dict[str, dict[str, float]]:
    """Passes of each network per student update, at the method's defaults; none where it cannot be run."""
    from harness.grids import remember

    def count() -> dict[str, dict[str, float]]:
        from harness.trials import costs

        return {part: {k: float(v) for k, v in p._asdict().items()} for part, p in costs.passes(name).items()}

    try:
        return dict(remember.by_code(f"passes {name}", count))
    except DfkdError:
        return {}


def _sees(method: dict[str, Any]) -> str:
    if method["error"]:
        return ""
    return "real images" if method["reference"] else "no data (control)" if method["control"] else "no data"


def _passes(method: dict[str, Any], part: str) -> str:
    """``1.2 / 0.2``: forwards and backwards; S has two kinds, to the weights and to the input."""
    passes = method["passes"].get(part)
    if not passes:
        return ""
    kinds = ("forward", "weights", "input") if part == "S" else ("forward", "both")
    both = passes | {"both": passes["weights"] + passes["input"]}
    return " / ".join(f"{both[kind]:.3g}" for kind in kinds)


def _allowed(setting: dict[str, Any]) -> str:
    if setting["choices"]:
        return ", ".join(map(str, setting["choices"]))
    low = "" if setting["low"] is None else f"from {setting['low']:g}"
    return low + (f"; {setting['off']:g} turns {setting['term']} off" if setting["term"] else "")


def tasks(
    download: Annotated[
        str | None, typer.Option(help="Fetch the files of this task.", autocompletion=complete_task)
    ] = None,
    data_root: DataRoot = None,
    as_json: Json = False,
) -> None:
    """List the built-in tasks, or fetch the files of one."""
    from harness.tasks import catalog as tasks_catalog
    from harness.tasks import images

    if download:
        got = images.load(download, data_root, download=True)
        sizes = {"train": len(got.train), "test": len(got.test), "digest": got.digest}
        printing.dump({"name": download, **sizes}) if as_json else print(
            f"{download}: {sizes['train']} training and {sizes['test']} test images, digest {got.digest[:12]}"
        )
        return
    found = [tasks_catalog.describe(name) for name in tasks_catalog.names()]
    if as_json:
        printing.dump([vars(t) | {"K": t.K} for t in found])
        return
    rows: list[dict[str, Any]] = [
        {
            "task": t.name,
            "version": t.version,
            "image": "x".join(map(str, t.shape)),
            "classes": t.K,
            "bears": ", ".join(sorted(t.augment)),
        }
        for t in found
    ]
    own = {"task": "folder:/path?side=32", "version": tasks_catalog.version("folder:"), "image": "yours"}
    printing.table([*rows, {**own, "classes": "", "bears": ""}])


def nets(as_json: Json = False) -> None:
    """List the networks with parameters and feature width, for 3 x 32 x 32 images and K = 10."""
    from harness.nets.catalog import nets as known
    from harness.nets.catalog import spec
    from harness.tasks.catalog import describe

    found = [spec(name, describe("cifar10")) for name in known.names()]
    if as_json:
        printing.dump([asdict(s) | {"has_bn": s.has_bn} for s in found])
        return
    printing.table(
        [
            {
                "net": s.name,
                "parameters": f"{s.params:,}",
                "feature width": s.width,
                "BatchNorm layers": len(s.bn_channels),
                "stages": " ".join("x".join(map(str, stage)) for stage in s.stages),
            }
            for s in found
        ]
    )


def metrics(as_json: Json = False) -> None:
    """List the metrics: unit, which way is better, what each needs, which are taken only when asked for."""
    from harness.metrics.base import all_metrics

    found = sorted(all_metrics().values(), key=lambda m: m.opt_in)
    rows = [
        {
            "metric": m.name,
            "title": m.title,
            "unit": m.unit,
            "better": m.better,
            "needs": m.needs,
            "taken": "when asked for" if m.opt_in else "always",
        }
        for m in found
    ]
    if as_json:
        printing.dump(rows)
        return
    printing.table(rows)
    asked = ",".join(m.name for m in found if m.opt_in)
    print(
        f"\nto ask: `dfkd measure GRID --metrics {asked}` for trials that are done, "
        "metrics=(...) in the grid for those to come"
    )


def check(
    method: Annotated[
        str | None,
        typer.Argument(help="Which method, of ours or a plug-in's.", autocompletion=complete_method),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every registered method.")] = False,
    as_json: Json = False,
) -> None:
    """Run the conformance tests on a method; exit status 1 where one fails."""
    from harness import registry
    from harness.trials.check import check as verdicts_on

    if every == bool(method):
        raise DfkdError("dfkd check: name one METHOD, or say --all")
    rows: list[dict[str, Any]] = []
    for name in registry.methods.names() if every else [str(method)]:
        error = registry.methods.error_or(name)[1] if every else ""
        if error:
            rows.append({"method": name, "check": "import", "error": error, "seconds": 0.0})
        else:
            rows += [v._asdict() for v in verdicts_on(name)]
    bad = sum(bool(row["error"]) for row in rows)
    if as_json:
        printing.dump(rows)
    else:
        printing.table(
            [
                {
                    "method": r["method"],
                    "check": r["check"],
                    "s": f"{r['seconds']:.1f}",
                    "": r["error"] or "ok",
                }
                for r in rows
            ]
        )
        print(f"\n{len(rows) - bad} of {len(rows)} checks passed")
    if bad:
        raise typer.Exit(1)
