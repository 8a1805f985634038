"""Results as tidy tables: one row a trial, one row a point. The home of pandas in the harness."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import files
from harness.config import Trial
from harness.errors import DfkdError
from harness.store.directory import Store

if TYPE_CHECKING:
    import pandas as pd

SPEND = ("rounds", "student_updates", "flops")
COST = ("seconds", "seconds_total", "peak_memory_mb")
PROVENANCE = {
    "teacher_digest": str,
    "teacher_top1": float,
    "data_digest": str,
    "device": str,
    "threads": float,
    "torch": str,
    "python": str,
    "machine": str,
    "kernels": str,
    "commit": str,
}
POINT = ("round", "student_updates", "flops", "seconds", "top1", "agreement")
_FIRST = ("top1", "agreement")
_OWN = ("id", "task", "teacher", "student", "method", "seed", "teacher_seed", "precision")
_NOT_YET = "not measured yet: `dfkd measure` on this grid adds it"


def frame(
    trials: Sequence[Trial],
    store: Store,
    stale: Callable[[Trial, Mapping[str, Any]], str] | None = None,
    asked: Sequence[str] = (),
) -> pd.DataFrame:
    """One row a trial, done or not, in the order given.

    Args:
        trials: what to look up.
        store: where.
        stale: (trial, its provenance) -> why the result no longer stands for today's teacher or data, or "".
        asked: metrics that every trial should have, which those do not that ran for another grid.

    Returns:
        Identity (``id`` ... ``precision``), ``status``, ``reason``, one column a metric, ``top1_*`` over
        the curve, spend, cost, provenance, ``warnings``, ``unavailable`` (JSON: metric -> why it has no
        number), ``settings`` (JSON), ``stale``. Numbers are doubles, NaN where there is none and in every
        row that is not done; texts are empty there; ``seed`` and ``teacher_seed`` int64, ``reference``
        and ``control`` bool; ``classes``; ``authors_batch``, images in a batch of the student as the method's
        presets have it.
    """
    rows, metrics = [], set[str]()
    for trial in trials:
        row, names = _row(trial, store, stale, asked)
        rows.append(row)
        metrics |= names
    ordered = [m for m in _FIRST if m in metrics] + sorted(metrics - set(_FIRST))
    kinds = _kinds(ordered)
    import pandas as pd

    table = pd.DataFrame({name: [row.get(name) for row in rows] for name in kinds})
    return table.fillna({n: "" for n, kind in kinds.items() if kind is str}).astype(kinds)


def curves(trials: Sequence[Trial], store: Store) -> pd.DataFrame:
    """One row a point of every trial that has any, long.

    Returns:
        ``id``, ``variant``, ``seed``, ``point`` (int64), `POINT`, then the loss terms by name; doubles, NaN
        where a row has no such number.
    """
    own, counts, terms = [], [], set[str]()
    points: list[int] = []
    numbers: list[dict[str, array[float]]] = []  # by column, for millions of points are too many dictionaries
    for trial in trials:
        rows = store.curve(trial)
        own.append((trial.id, trial.label or trial.method, trial.seed))
        counts.append(len(rows))
        points += [row["point"] for row in rows]
        names = {k for row in rows for k in row} - {"point"}
        numbers.append(
            {
                k: array("d", [float(row[k]) if files.is_number(row.get(k)) else math.nan for row in rows])
                for k in names
            }
        )
        terms |= {k for k, column in numbers[-1].items() if not all(map(math.isnan, column))} - {*POINT}
    table: dict[str, Any] = {
        name: np.repeat(np.array([each[i] for each in own], dtype=object), counts)
        for i, name in enumerate(("id", "variant", "seed"))
    } | {"point": points}
    blank = [array("d", [math.nan]) * n for n in counts]
    for name in (*POINT, *sorted(terms)):
        parts = [found.get(name, none) for found, none in zip(numbers, blank, strict=True)]
        table[name] = np.concatenate(parts) if parts else np.zeros(0)
    import pandas as pd

    return pd.DataFrame(table).astype({"id": str, "variant": str, "seed": "int64", "point": "int64"})


def _row(
    trial: Trial,
    store: Store,
    stale: Callable[[Trial, Mapping[str, Any]], str] | None,
    asked: Sequence[str],
) -> tuple[dict[str, Any], set[str]]:
    found = store.look(trial)
    settings = json.dumps(trial.settings, sort_keys=True)
    row: dict[str, Any] = {name: getattr(trial, name) for name in _OWN} | {
        "variant": trial.label or trial.method,
        "reference": _marked(trial.method, "USES_DATA"),
        "control": _marked(trial.method, "CONTROL"),
        "budget": str(trial.budget),
        "status": found.status,
        "reason": found.failure["reason"] if found.failure else "",
        "settings": settings,
        "classes": _classes(trial.task),
        "authors_batch": _authors_batch(trial.method, settings),
    }
    if (result := found.result) is None:
        return row, set()
    metrics, provenance = result["metrics"], result.get("provenance", {})
    unavailable = result.get("unavailable", {}) | dict.fromkeys(lacking(result, asked), _NOT_YET)
    row |= _numbers(metrics)
    row |= _numbers(tops(store.curve(trial)))
    row |= _numbers({k: v for k, v in result.get("spend", {}).items() if k in SPEND})
    row |= _numbers({k: v for k, v in result.get("cost", {}).items() if k in COST})
    texts = {k: v for k, v in provenance.items() if PROVENANCE.get(k) is str and isinstance(v, str)}
    row |= texts | _numbers({k: v for k, v in provenance.items() if PROVENANCE.get(k) is float})
    row["warnings"] = "; ".join(found.warnings)
    row["unavailable"] = json.dumps(unavailable, sort_keys=True) if unavailable else ""
    row["stale"] = stale(trial, provenance) if stale else ""
    return row, set(_numbers(metrics)) | set(unavailable)


def lacking(result: Mapping[str, Any], asked: Iterable[str]) -> list[str]:
    """Which metrics a ``result.json`` says nothing about, no number and no reason."""
    told = {*result.get("metrics", ()), *result.get("unavailable", ())}
    return [m for m in asked if not any(k == m or k.startswith(f"{m}_") for k in told)]


def _kinds(metrics: Sequence[str]) -> dict[str, Any]:
    kinds: dict[str, Any] = dict.fromkeys(("id", "task", "teacher", "student", "variant", "method"), str)
    kinds |= {"reference": bool, "control": bool, "seed": "int64", "teacher_seed": "int64"}
    kinds |= dict.fromkeys(("budget", "precision", "status", "reason"), str)
    kinds |= dict.fromkeys((*metrics, "top1_tail", "top1_mean", "top1_std", "top1_oracle"), float)
    kinds |= dict.fromkeys((*SPEND, *COST), float) | PROVENANCE
    kinds |= {"classes": float, "authors_batch": float}
    return kinds | dict.fromkeys(("warnings", "unavailable", "settings", "stale"), str)


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {k: float(v) for k, v in values.items() if files.is_number(v)}


@cache
def _classes(task: str) -> float:
    """How many classes: chance is 100 over it; NaN for a folder that is not here."""
    from harness.tasks import catalog

    try:
        return float(catalog.describe(task).K)
    except DfkdError:
        return math.nan


@cache
def _authors_batch(method: str, settings: str) -> float:
    """Images in a batch of S as the method's own presets have it, whatever the trial's; NaN without any."""
    from harness import registry
    from harness.settings import resolve

    cls, _ = registry.methods.error_or(method)
    if not cls:
        return math.nan
    chosen = {k: v for k, v in json.loads(settings).items() if k in cls.PRESETS}
    try:
        return float(resolve(method, cls.HP, cls.PRESETS, chosen).get("batch", math.nan))
    except DfkdError:  # settings of another version of the method
        return math.nan


@cache
def _marked(method: str, flag: str) -> bool:
    """A flag of a method's class; False for one that cannot be imported."""
    from harness import registry

    cls, _ = registry.methods.error_or(method)
    return bool(cls and getattr(cls, flag))


def tops(curve: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Accuracy over training: last tenth of the points, mean, sample deviation, best on test."""
    top1 = [float(row["top1"]) for row in curve if files.is_number(row.get("top1"))]
    if not top1:
        return {}
    mean = math.fsum(top1) / len(top1)
    tail = top1[-max(1, len(top1) // 10) :]
    return {
        "top1_tail": math.fsum(tail) / len(tail),
        "top1_mean": mean,
        "top1_std": math.sqrt(math.fsum((t - mean) ** 2 for t in top1) / (len(top1) - 1))
        if len(top1) > 1
        else math.nan,
        "top1_oracle": max(top1),
    }
