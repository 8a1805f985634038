"""Tunes a method's settings on the validation images; what it tried and what it chose stand in a folder.

``<out>/search/<method>-<task>-<teacher>-<student>-<key>/`` holds ``search.json`` and ``chosen.py``
(`harness.grids.chosen`), and ``trials/``, a directory each as `harness.store.directory` keeps them. The key
is of all that is asked for but the number of trials: to ask for more goes on from what there is, and what ran
is not run again. A trial may be stopped early (`harness.schedule.rungs`): on Ray by Tune's ASHA, in this
process by the same rule. The test images are out of reach (`harness.trials.trial.blind`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness import files
from harness.config import Trial
from harness.errors import DfkdError
from harness.grids import chosen, draws
from harness.grids.goal import Goal, Tried
from harness.schedule import preflight
from harness.schedule.attempt import in_a_line
from harness.schedule.progress import duration
from harness.schedule.rungs import Climb, Rungs
from harness.schedule.work import Work
from harness.store.directory import Busy
from harness.store.stale import Staleness

#: draws for one trial before a space counts as used up
_DRAWS = 200


class Search(Work):
    """Work that grows: `next` adds a trial whenever a worker comes free. Only inside `held`."""

    def __init__(self, goal: Goal, out: Path, trials: int, tell: Callable[[str], None] | None = None) -> None:
        """Read what is there.

        Args:
            goal: what is asked for.
            out: the store; the search has a folder of its own in it.
            trials: how many. Those that ran before are among them, and stay where they are more.
            tell: hears a line whenever a trial ends.

        Raises:
            DfkdError: for a damaged ``search.json``.
        """
        self.goal, self.folder, self.asked_for = goal, goal.folder(out), trials
        self._hear = tell or (lambda line: None)
        before, self.exhausted = self._read()
        known = {(t := goal.trial(n, values)).id: (t, values) for n, values in enumerate(before)}
        super().__init__([t for t, _ in known.values()], self.folder)
        self.values = {id: values for id, (_, values) in known.items()}
        self.rungs = Rungs(goal.eta, goal.by)
        self._settled: dict[str, Tried] = {}
        for each in self.tries():
            climb = Climb(goal.eta, goal.by)
            for row in self.runs[each.id].curve() if each.ended != "open" else []:
                if row["point"] <= each.point and (judged := climb(row)):
                    self.rungs.scores[int(judged["rung"])][each.id] = judged["score"]
        self.tried = set(self._settled)
        self._left = [id for id in self.trials if id not in self.tried]
        self._before, self._began = len(self.tried), time.monotonic()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep others from the same search.

        Raises:
            DfkdError: while somebody else is at it, or where the folder cannot be written.
        """
        preflight.writable("--out", self.folder)
        busy = DfkdError(f"the search in {self.folder} is running elsewhere")
        with files.locked(self.folder / "lock", busy):
            yield

    def check_origin(self, teachers_dir: Path) -> None:
        """Refuse to go on where the teacher, data, torch or threads of what ran were others.

        Raises:
            DfkdError: naming what was and what is.
        """
        stale = Staleness(teachers_dir)
        for id, trial in self.trials.items():
            if (result := self.runs[id].result()) and (why := stale(trial, result.get("provenance", {}))):
                raise DfkdError(f"{self.folder}: what ran there was another thing ({why}): move it away")

    # --- what is run --------------------------------------------------------------------------------

    def open(self) -> list[Trial]:
        """The settings it begins with, which stand for all others; none where nothing is left to do."""
        more = len(self.trials) < self.asked_for and not self.exhausted
        return [self.goal.start] if self._left or more else []

    def next(self) -> Trial | None:
        """One left open, or a new one."""
        while self._left or (len(self.trials) < self.asked_for and self._add()):
            id = self._left.pop(0)
            with suppress(Busy), self.runs[id].lock():
                self.runs[id].prepare()
                return self.trials[id]
        return None

    def _add(self) -> bool:
        """Whether there was another trial to add."""
        number, goal = len(self.trials), self.goal
        for again in range(_DRAWS):
            if not number:
                values = {name: goal.start.settings[name] for name in goal.over}
            else:
                values = draws.drawn(goal.over, goal.draw, number, again)
            trial = goal.trial(number, values)
            if trial.id not in self.trials:
                self.add(trial)
                self.values[trial.id] = values
                self._left.append(trial.id)
                self.save()
                return True
        self.exhausted = True
        return False

    # --- what is heard ------------------------------------------------------------------------------

    def say(self, line: str) -> None:
        """Tell the user."""
        self._hear(line)

    def untaught(self, trial: Trial, reason: str) -> None:
        """Every trial has the same teacher: this is the end."""
        raise DfkdError(f"no teacher: {reason}")

    def tell(self, id: str, cause: str) -> None:
        """The trial has ended."""
        each = self._look(list(self.trials).index(id), id)
        seen = each.reason or f"{self.goal.by} {vars(each)[self.goal.by]:.5g}"
        where = f" at {each.point / self.rungs.points:.0%} of the budget" if each.ended == "stopped" else ""
        n, of = len(self._settled), max(self.asked_for, len(self.trials))
        eta = ""
        if each.ended != "open" and n < of:
            pace = (time.monotonic() - self._began) / (n - self._before)
            eta = f"  (about {duration(pace * (of - n))} left)"
        self.say(f"[{n}/{of}] {each.ended:7} trial {each.number}  {seen}{where}{eta}")
        self.save()

    # --- what is known ------------------------------------------------------------------------------

    def tries(self) -> list[Tried]:
        """Every trial, in order."""
        return [self._look(n, id) for n, id in enumerate(self.trials)]

    def complete(self) -> bool:
        """Whether every trial asked for has ended."""
        ended = [each for each in self.tries() if each.ended != "open"]
        return len(ended) == len(self.trials) and (len(ended) >= self.asked_for or self.exhausted)

    def _look(self, number: int, id: str) -> Tried:
        if id not in self._settled:
            found = self._read_trial(number, id)
            if found.ended == "open":
                return found
            self._settled[id] = found
        return self._settled[id]

    def _read_trial(self, number: int, id: str) -> Tried:
        run, values = self.runs[id], self.values[id]
        if row := files.read_json(run.path / "stopped.json"):
            return Tried(number, id, values, "stopped", row["point"], row["val_nll"], row["val_top1"])
        if result := run.result():
            seen = result["metrics"]
            return Tried(number, id, values, "done", self.rungs.points, seen["val_nll"], seen["val_top1"])
        settled, curve = run.settled(), run.curve()
        ended = settled if settled in ("failed", "skipped") else "open"
        reason = (run.failure() or {}).get("reason", "")
        return Tried(number, id, values, ended, curve[-1]["point"] if curve else 0.0, reason=reason)

    def _read(self) -> tuple[list[dict[str, Any]], bool]:
        """Settings of the trials so far, in order, and whether there are no others."""
        file = self.folder / "search.json"
        try:
            found = json.loads(file.read_bytes())
            return [dict(each["settings"]) for each in found["trials"]], bool(found["space_used_up"])
        except FileNotFoundError:
            return [], False
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DfkdError(f"{file} cannot be read ({in_a_line(error)}): move its folder away") from None

    def record(self) -> dict[str, Any]:
        """All that is known, as JSON has it."""
        return chosen.record(self.goal, self.tries(), self.asked_for, self.complete(), self.exhausted)

    def save(self) -> None:
        """Write down what is known, and at the end the choice; the same trials, the same bytes.

        Raises:
            DfkdError: for a folder that cannot be written.
        """
        files.put(self.folder / "search.json", json.dumps(self.record(), indent=1) + "\n", anew=True)
        tries = self.tries()
        if self.complete() and (best := self.goal.best(tries)):
            files.put(self.folder / "chosen.py", chosen.source(self.goal, tries, best), anew=True)
