"""What MLflow is told of a trial, and how to read it back: plain data, no MLflow.

Numbers become metrics (a point of the curve at its own step, the rest at step 0 under ``final/``,
``spend/``, ``cost/``, ``provenance/`` and ``training/``), texts become tags. Doubles survive the way exactly.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.config import Trial
from harness.store.directory import TrialDir
from harness.store.frame import is_number, tops

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

_VERSION = 2  # raised when the record's form changes: what was synced before is synced again
_CHUNK = 4000  # MLflow cuts longer tags (5000 to 8000, by version) with no more than a warning
_OWN_TAGS = frozenset({"trial_id", "status", "variant", "record", "warnings", "unavailable", "failure"})

Numbers = dict[tuple[str, int], float]


@dataclass(frozen=True)
class Record:
    """A trial as MLflow holds it: ``numbers`` maps (metric key, step) to a double."""

    status: str
    digest: str
    numbers: Numbers
    tags: dict[str, str]


def record_of(run: TrialDir) -> Record:
    """The record of a trial's directory as it stands."""
    numbers: Numbers = {}
    curve = run.curve()
    for row in curve:
        numbers |= row_numbers(row)
    result, failure, status = run.result() or {}, run.failure(), run.settled()
    if result:
        result = result | {"training": tops(curve)}
    tags = {"trial_id": run.id, "variant": run.trial.label or run.trial.method, "status": status}
    for section, prefix in SECTIONS.items():
        for name, value in result.get(section, {}).items():
            key = f"{prefix}/{quote(name)}"
            if is_number(value):
                numbers[key, 0] = float(value)
            elif isinstance(value, str):
                tags |= split(key, value)
    for name in ("warnings", "unavailable"):
        if result.get(name):
            tags |= split(name, json.dumps(result[name]))
    if failure:
        tags |= split("failure", json.dumps({"kind": failure["kind"], "reason": failure["reason"]}))
    return Record(status, state_digest(run), numbers, tags)


def row_numbers(row: Mapping[str, Any]) -> Numbers:
    """One row of a curve as metrics; what is no number is left out."""
    step = int(row["point"])
    return {(curve_key(k), step): float(v) for k, v in row.items() if k != "point" and is_number(v)}


def has_story(run: TrialDir) -> bool:
    """Whether there is anything to record: a trial that nobody ran has no run in MLflow."""
    return run.settled() != "missing" or run.failure() is not None


def state_digest(run: TrialDir) -> str:
    """Hash of all that a record is made of; reads files without parsing them."""
    sha = hashlib.sha256(f"{_VERSION} {run.trial.label} {run.settled()}".encode())
    for name in ("result.json", "failure.json", "curve.jsonl"):
        path = run.path / name
        sha.update(f"\n{name}\n".encode() + (path.read_bytes() if path.exists() else b""))
    return sha.hexdigest()


def params(trial: Trial) -> dict[str, str]:
    """Identity and settings, for people who sort and filter in MLflow."""
    named = {
        "task": trial.task,
        "teacher": trial.teacher,
        "student": trial.student,
        "method": trial.method,
        "method_version": trial.method_version,
        "teacher_recipe": trial.teacher_digest or trial.recipe.name,
        "teacher_seed": trial.teacher_seed,
        "seed": trial.seed,
        "budget": trial.budget,
        "precision": trial.precision,
        "channels_last": trial.channels_last,
        "compile": trial.compile,
        "protocol": trial.protocol,
    }
    named |= {f"settings/{quote(name)}": value for name, value in trial.settings.items()}
    return {name: str(value)[:_CHUNK] for name, value in named.items()}


def result_of(tags: Mapping[str, str], latest: Mapping[str, float]) -> dict[str, Any]:
    """``result.json`` again, from a run's tags and the latest value of its metrics."""
    result: dict[str, Any] = {"id": tags["trial_id"]}
    for section, prefix in SECTIONS.items():
        start = prefix + "/"
        found: dict[str, Any] = {
            unquote(k.removeprefix(start)): number(v) for k, v in latest.items() if k.startswith(start)
        }
        names = {k.partition(".")[0] for k in tags if k.startswith(start)}
        result[section] = found | {unquote(k.removeprefix(start)): join(k, tags) for k in names}
    result["warnings"] = json.loads(join("warnings", tags) or "[]")
    result["unavailable"] = json.loads(join("unavailable", tags) or "{}")
    return result


def failure_of(tags: Mapping[str, str]) -> dict[str, Any] | None:
    """``failure.json`` again, less its detail, which is an artifact."""
    text = join("failure", tags)
    return json.loads(text) | {"detail": ""} if text else None


def rows_of(numbers: Numbers) -> list[dict[str, Any]]:
    """Rows of the curve again, in order; keys of the result's sections are left out."""
    rows: dict[int, dict[str, Any]] = {}
    for (key, step), value in numbers.items():
        if is_curve(key):
            rows.setdefault(step, {"point": step})[unquote(key)] = value
    return [rows[step] for step in sorted(rows)]


def missing(want: Numbers, have: Numbers) -> Numbers:
    """What has to be logged for ``have`` to become ``want``."""
    return {k: v for k, v in want.items() if k not in have or not _same(v, have[k])}


def is_curve(key: str) -> bool:
    """Whether a metric belongs to the curve."""
    return not _in_section(key)


def is_own(tag: str) -> bool:
    """Whether a tag is ours to delete; people may add theirs."""
    name = tag.partition(".")[0]
    return name in _OWN_TAGS or _in_section(name)


def number(value: float) -> float:
    """A stored metric's value: MLflow keeps infinities as the largest double."""
    return math.copysign(math.inf, value) if abs(value) == sys.float_info.max else float(value)


def quote(name: str) -> str:
    """A name in the characters MLflow allows; ``:2E`` stands for a byte, as ``%2E`` does in a URL."""
    safe = r"[^A-Za-z0-9_\- /]" if all(name.split("/")) else r"[^A-Za-z0-9_\- ]"
    return re.sub(safe, lambda m: "".join(f":{b:02X}" for b in m.group().encode()), name)


def unquote(key: str) -> str:
    """The name that `quote` was given."""
    raw = re.sub(rb":([0-9A-F]{2})", lambda m: bytes([int(m.group(1), 16)]), key.encode())
    return raw.decode()


def curve_key(name: str) -> str:
    """Key of a curve's column; never mistaken for a section's."""
    key = quote(name)
    return key if is_curve(key) else key.replace("/", ":2F")


def split(name: str, text: str) -> dict[str, str]:
    """A text as tags that are short enough: ``name``, ``name.2``, ``name.3``."""
    parts = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)] or [""]
    return {name if i == 0 else f"{name}.{i + 1}": part for i, part in enumerate(parts)}


def join(name: str, tags: Mapping[str, str]) -> str:
    """The text that `split` was given; empty where there is none."""
    parts, i = [tags.get(name, "")], 2
    while (more := tags.get(f"{name}.{i}")) is not None:
        parts.append(more)
        i += 1
    return "".join(parts)


def latest(history: Iterable[tuple[int, int, float]]) -> dict[int, float]:
    """Step -> the value logged last, out of (timestamp, step, value): a resumed trial logs some twice."""
    return {step: number(value) for _, step, value in sorted(history, key=lambda h: h[0])}


def _in_section(key: str) -> bool:
    prefix, slash, _ = key.partition("/")
    return bool(slash) and prefix in SECTIONS.values()


def _same(a: float, b: float) -> bool:
    return a == b or (math.isnan(a) and math.isnan(b))
