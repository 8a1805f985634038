"""What MLflow is told of a trial: plain data, no MLflow.

The trial's files are its artifacts, for whoever reads it back (`harness.store.mlflow_runs.Download`). For
people who sort and filter, numbers become metrics (a point of the curve at its own step, the rest at step 0
under ``final/``, ``spend/``, ``cost/``, ``provenance/`` and ``training/``) and texts become tags.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.config import Trial
from harness.files import is_number
from harness.store.directory import TrialDir
from harness.store.frame import tops

#: section of result.json -> prefix of its metrics and tags; ``training``, which it has not, is `tops`
SECTIONS = {
    "metrics": "final",
    "spend": "spend",
    "cost": "cost",
    "provenance": "provenance",
    "training": "training",
}
#: MLflow's terminal status of a trial; one that is neither done nor failed was killed
TERMINAL = {"done": "FINISHED", "failed": "FAILED", "skipped": "FAILED"}
ARTIFACTS = (
    *("trial.json", "result.json", "failure.json", "curve.jsonl"),
    *("samples.npz", "confusion.npy", "predictions.npz"),
)

_VERSION = 3  # raised when the record's form changes: what was synced before is synced again
_CHUNK = 4000  # MLflow cuts longer tags (5000 to 8000, by version) with no more than a warning
_OWN_TAGS = frozenset(
    ("trial_id", "status", "variant", "record", "warnings", "unavailable", "failure", "files")
)
#: fields of a trial that are parameters as they are
_PARAMS = (
    *("task", "teacher", "student", "method", "method_version", "teacher_seed", "seed", "budget"),
    *("precision", "channels_last", "compile", "protocol"),
)

Numbers = dict[tuple[str, int], float]


@dataclass(frozen=True)
class Record:
    """A trial as MLflow holds it: ``numbers`` maps (metric key, step) to a double."""

    status: str
    digest: str
    numbers: Numbers
    tags: dict[str, str]


@dataclass
class Live:
    """A run being written: ``have`` is all that it holds, or None where only the server knows."""

    trial: Trial
    run_id: str
    have: Numbers | None = field(default_factory=dict)


def record_of(run: TrialDir) -> Record:
    """The record of a trial's directory as it stands."""
    curve, found = run.curve(), run.look(live=False)
    result = found.result | {"training": tops(curve)} if found.result else {}
    numbers: Numbers = {}
    for row in curve:
        numbers |= row_numbers(row)
    tags = {"trial_id": run.id, "variant": run.trial.label or run.trial.method, "status": found.status}
    for section, prefix in SECTIONS.items():
        for name, value in result.get(section, {}).items():
            key = f"{prefix}/{quote(name)}"
            if is_number(value):
                numbers[key, 0] = float(value)
            elif isinstance(value, str):
                tags[key] = value
    if found.warnings:
        tags["warnings"] = json.dumps(found.warnings)
    if unavailable := result.get("unavailable"):
        tags["unavailable"] = json.dumps(unavailable)
    if found.failure:
        tags["failure"] = f"{found.failure['kind']}: {found.failure['reason']}"
    tags["files"] = " ".join(name for name in ARTIFACTS if (run.path / name).exists())
    return Record(found.status, state_digest(run), numbers, {k: v[:_CHUNK] for k, v in tags.items()})


def row_numbers(row: Mapping[str, Any]) -> Numbers:
    """One row of a curve as metrics; what is no number is left out."""
    step = int(row["point"])
    return {(curve_key(k), step): float(v) for k, v in row.items() if k != "point" and is_number(v)}


def has_story(run: TrialDir) -> bool:
    """Whether there is anything to record: a trial that nobody ran has no run in MLflow."""
    found = run.look(live=False)
    return found.status != "missing" or found.failure is not None


def state_digest(run: TrialDir) -> str:
    """Hash of all that a record is made of; reads files without parsing them."""
    sha = hashlib.sha256(f"{_VERSION} {run.trial.label} {run.settled()}".encode())
    for name in ("result.json", "failure.json", "curve.jsonl"):
        path = run.path / name
        sha.update(f"\n{name}\n".encode() + (path.read_bytes() if path.exists() else b""))
    return sha.hexdigest()


def params(trial: Trial) -> dict[str, str]:
    """Identity and settings, for people who sort and filter in MLflow."""
    named = {name: getattr(trial, name) for name in _PARAMS}
    named |= {"teacher_recipe": trial.teacher_digest or trial.recipe.name}
    named |= {f"settings/{quote(name)}": value for name, value in trial.settings.items()}
    return {name: str(value)[:_CHUNK] for name, value in named.items()}


def missing(want: Numbers, have: Numbers) -> Numbers:
    """What has to be logged for ``have`` to become ``want``."""
    return {k: v for k, v in want.items() if k not in have or not _same(v, have[k])}


def is_own(tag: str) -> bool:
    """Whether a tag is ours to delete; people may add theirs."""
    name = tag.partition(".")[0]
    return name in _OWN_TAGS or _in_section(name)


def quote(name: str) -> str:
    """A name in the characters MLflow allows; ``:2E`` stands for a byte, as ``%2E`` does in a URL."""
    safe = r"[^A-Za-z0-9_\- /]" if all(name.split("/")) else r"[^A-Za-z0-9_\- ]"
    return re.sub(safe, lambda m: "".join(f":{b:02X}" for b in m.group().encode()), name)


def curve_key(name: str) -> str:
    """Key of a curve's column; never mistaken for a section's."""
    key = quote(name)
    return key.replace("/", ":2F") if _in_section(key) else key


def latest(history: Iterable[tuple[int, int, float]]) -> dict[int, float]:
    """Step -> the value logged last, out of (timestamp, step, value): a resumed trial logs some twice."""
    logged = {step: value for _, step, value in sorted(history, key=lambda h: h[0])}
    # MLflow keeps infinities as the largest double
    most = sys.float_info.max
    return {k: math.copysign(math.inf, v) if abs(v) == most else v for k, v in logged.items()}


def _in_section(key: str) -> bool:
    prefix, slash, _ = key.partition("/")
    return bool(slash) and prefix in SECTIONS.values()


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
