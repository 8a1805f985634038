"""What trials of a kind cost on a machine, and the book of it, ``<out>/bench/<machine>.json``; no torch.

A kind is all that changes the cost. Settings count as far as they do: of a loss weight, whether its term is
on; of a rate or a temperature, whether it is 0.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from harness.config import Budget, Frozen, Trial, digest, one_line
from harness.errors import DfkdError
from harness.grids import remember
from harness.settings import Setting, settings_of
from harness.store.cards import slug
from harness.trials.provenance import machine

_T = TypeVar("_T", bound=Frozen)


class Cost(Frozen):
    """What trials of a kind cost: seconds, floating point operations (2 per multiply-add), bytes.

    Attributes:
        seconds, flops, updates: of a round; updates are the student's.
        warm: rounds before the student is trained; warm_seconds, warm_flops: of one of them.
        start: seconds before the first round, with what that takes longer than others.
        look: seconds at each point of the curve.
        finish: seconds after the last round: images, metrics, files.
        bytes: what a finished trial leaves on disk, but for its pool of images.
        pool: bytes that a round adds to what is left of the pool; pool_most: never more than this.
        memory: MiB, of the GPU's allocator at most, or on the CPU the resident set after the rounds; None
            where a smaller batch was timed.
        timed: share of the trial's own round that was timed; the rest is scaled from there.
    """

    seconds: float
    flops: float
    updates: float
    warm: int = 0
    warm_seconds: float = 0.0
    warm_flops: float = 0.0
    start: float = 0.0
    look: float = 0.0
    finish: float = 0.0
    bytes: float = 0.0
    pool: float = 0.0
    pool_most: float = 0.0
    memory: float | None = None
    timed: float = 1.0

    def rounds(self, budget: Budget) -> int:
        """Rounds until a budget is spent.

        Raises:
            DfkdError: when none of them spends its unit.
        """
        if budget.unit == "rounds":
            return math.ceil(budget.amount)
        by_warm, each = (self.warm_flops, self.flops) if budget.unit == "flops" else (0.0, self.updates)
        left = budget.amount - self.warm * by_warm
        if left <= 0:
            return _ceil(budget.amount / by_warm)
        if not each:
            raise DfkdError(f"a round spends no {budget.unit}: the budget {budget} cannot be spent")
        return self.warm + _ceil(left / each)

    def total(self, trial: Trial) -> float:
        """Seconds of a whole trial of this kind, from its budget and points."""
        rounds = self.rounds(trial.budget)
        warm = min(rounds, self.warm)
        spent = warm * self.warm_seconds + (rounds - warm) * self.seconds
        return self.start + spent + min(rounds, trial.points) * self.look + self.finish

    def disk(self, trial: Trial) -> float:
        """Bytes that it leaves."""
        return self.bytes + min(self.pool_most, self.pool * self.rounds(trial.budget))


def _ceil(x: float) -> int:
    # the quotient of a sum and one of its parts may come out a hair above a whole number
    return max(1, math.ceil(x * (1 - 1e-9)))


class Number(Frozen):
    """One number: seconds, a ratio, or operations a second."""

    value: float


def place(device: str, threads: int) -> dict[str, Any]:
    """What changes the speed of everything: the CPU's threads, torch's version, ``cpu`` or the GPU's name."""
    return {"device": device, "threads": threads, "torch": version("torch").partition("+")[0]}


def kinds(trials: Iterable[Trial], device: str, inception: bool) -> dict[str, dict[str, Any]]:
    """Trial id -> all that changes what it costs; without torch where it was asked for before.

    Args:
        trials: which.
        device: ``cpu``, or the GPU's name.
        inception: whether FID is measured.
    """
    by_id = {t.id: t for t in trials}

    def reduced() -> dict[str, dict[str, Any]]:
        from harness import registry

        about = {m: settings_of(registry.methods.get(m).HP) for m in {t.method for t in by_id.values()}}
        return {
            id: what_costs(t.settings, {k: meta for k, (_, meta) in about[t.method].items()})
            for id, t in by_id.items()
        }

    settings = remember.by_code(f"what costs {sorted(by_id)}", reduced)
    same = {"method", "method_version", "task", "task_version", "teacher", "student"}
    same |= {"precision", "channels_last", "compile"}
    return {
        id: t.model_dump(mode="json", include=same)
        | {"settings": settings[id], "metrics": sorted(t.metrics), "inception": inception}
        | place(device, t.cpus)
        for id, t in by_id.items()
    }


def what_costs(settings: Mapping[str, Any], about: Mapping[str, Setting]) -> dict[str, Any]:
    """A method's settings as far as they change what a round costs; see the module's text."""
    kept: dict[str, Any] = {}
    for name, value in settings.items():
        if about[name].term:
            kept[name] = value != about[name].off
        else:
            kept[name] = bool(value) if isinstance(value, float) else value
    return kept


class Book:
    """The file of this machine under ``out``; an entry is found again by a hash of what stands beside it."""

    def __init__(self, out: Path) -> None:
        """Name it; reads nothing yet."""
        self.path = Path(out) / "bench" / f"{slug(machine())}.json"

    def get(self, kind: type[_T], of: Mapping[str, Any]) -> _T | None:
        """The entry of that kind and key, or None.

        Raises:
            DfkdError: for a file that is damaged.
        """
        try:
            found = self._read().get(kind.__name__, {}).get(digest(of))
            return None if found is None else kind.model_validate(found["measured"])
        except (ValidationError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(
                one_line(error) if isinstance(error, ValidationError) else str(error)
            ) from None

    def put(self, of: Mapping[str, Any], measured: Frozen) -> None:
        """Keep an entry, over an older one.

        Raises:
            DfkdError: when the file is damaged or cannot be written.
        """
        whole = self._read()
        section = whole.setdefault(type(measured).__name__, {})
        section[digest(of)] = {"of": dict(of), "measured": measured.model_dump(mode="json")}
        new = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new.write_text(json.dumps({"machine": machine()} | whole, indent=1, sort_keys=True) + "\n")
            new.replace(self.path)
        except OSError as error:
            raise DfkdError(f"--out: {self.path} cannot be written: {error.strerror or error}") from None
        finally:
            with suppress(OSError):
                new.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DfkdError(f"{self.path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise self._damaged(str(error)) from None
        if not isinstance(found, dict):
            raise self._damaged("it is no JSON object")
        return found

    def _damaged(self, line: str) -> DfkdError:
        return DfkdError(f"{self.path} is damaged ({line}): remove it, `dfkd bench` measures again")
