"""What others published, read from ``benchmarks/published.csv``, and which of it stands beside a row of ours.

The table was read off repositories, their logs, figures and issues, one paper and some notes; hardly any
paper was opened, so ``source`` names what was seen. Left out, since no student of ours can stand beside it:
speed-ups averaged over pairs (the hours they come from are there), data-free quantisation (PSAQ-ViT,
CLAMP-ViT), epochs until a loss is reached (NAYER). A cell that one source prints twice stands once.
"""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from harness.errors import DfkdError, unknown

PAIRS = ("stated", "inferred", "unknown")
#: who printed a value, the best witness first; see `Published.kind`
KINDS = ("own", "rerun", "secondary", "copy", "issue")
SELECTIONS = ("last", "best", "")
#: measure -> smallest and largest legal value. ``top1_best``, ``top1_mean``, ``top1_variance`` are over the
#: points of one training, ``top1_gain`` is in points; hours are those of the source's machine
METRICS: dict[str, tuple[float, float]] = {
    "top1": (0, 100), "top1_best": (0, 100), "top1_mean": (0, 100), "top1_variance": (0, 2500),
    "top1_gain": (-100, 100), "synthesis_hours": (0, 1e4), "train_hours": (0, 1e4),
    "gpu_memory_gb": (0, 1e3), "fid": (0, 1e4), "js_divergence": (0, 1), "high_frequency_ratio": (0, 1),
}  # fmt: skip
COLUMNS = (
    "method", "settings", "task", "teacher", "student", "pair", "metric", "value", "teacher_top1",
    "selection", "seeds", "spread", "updates", "kind", "copied_from", "source", "printed", "note", "suspect",
)  # fmt: skip
_TEXTS = (
    "method", "task", "teacher", "student", "pair", "metric", "source", "note", "suspect", "printed", "kind",
    "selection", "copied_from",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One number that somebody printed.

    Attributes:
        method: name as registered here, ``teacher`` for a teacher's own accuracy, else the published name.
        task: name as registered here, else the published one; "" where the source does not say.
        teacher: network as registered here, else the published name; "" where unknown, and for ``scratch``.
        student: the same; "" where unknown, and for ``teacher``.
        pair: ``stated`` by the source, ``inferred`` from it, or ``unknown``: then beside no row of ours.
        metric: ``top1`` in percent, or a name of the source's own measure.
        value: the number.
        teacher_top1: accuracy of the source's teacher in percent, None where unknown.
        source: repository, paper or page, and the table in it.
        note: what else a reader should know.
        suspect: why the number, or the teacher beside it, is doubted; "" for no reason.
        settings: what a row of ours must have to stand beside it, name -> text: the weights and the protocol
            of the source's run, as far as they are known.
        printed: the method's name in the source.
        kind: ``own`` numbers of the method's authors, a ``rerun`` by other authors, ``secondary`` (seen in a
            note or read off a plot), a ``copy`` of another source's number, a user's report in an ``issue``.
        selection: ``best`` on the test images, ``last`` point, "" where unknown.
        seeds: how many, None where unknown.
        spread: over seeds, as printed, None where unknown.
        updates: student updates of the source's run, None where unknown.
        copied_from: whose number it is, for a ``copy``.
        line: in the file.
    """

    method: str
    task: str
    teacher: str
    student: str
    pair: str
    metric: str
    value: float
    teacher_top1: float | None
    source: str
    note: str
    suspect: str
    settings: Mapping[str, str] = field(default_factory=dict)
    printed: str = ""
    kind: str = "own"
    selection: str = ""
    seeds: int | None = None
    spread: float | None = None
    updates: int | None = None
    copied_from: str = ""
    line: int = 0


class Match(NamedTuple):
    """What was published for a row of ours.

    Attributes:
        best: the number to set beside ours, or None.
        others: the other numbers for the same method, task and pair, best witness first.
        footnotes: numbers for method and task whose pair nobody stated: no gap, no verdict.
    """

    best: Published | None
    others: tuple[Published, ...]
    footnotes: tuple[Published, ...] = ()

    @property
    def conflicts(self) -> tuple[Published, ...]:
        """Of the others, those that print another value than ``best``, rounding apart."""
        return tuple(o for o in self.others if self.best and abs(o.value - self.best.value) > 0.011)


def match(
    rows: Iterable[Published],
    *,
    method: str,
    task: str,
    teacher: str,
    student: str,
    settings: Mapping[str, Any] | None = None,
    metric: str = "top1",
) -> Match:
    """Choose the number that stands beside a row of ours.

    The method's own authors come first, then re-runs by other authors, then what is known at second hand,
    then copies; all that is suspected after these. A user's report in an issue is the last and never the
    best. Among equals more seeds, then the last point before the best on test, then the file's order.

    Args:
        rows: as `load` gives them.
        method: registered name, or ``teacher``.
        task: registered name.
        teacher: network of the teacher; ``scratch`` has none and ignores it.
        student: network of the student; ``teacher`` ignores it.
        settings: the row's resolved settings; with them, a number whose source had others is never ``best``.
        metric: which measure.
    """
    pair = "" if method == "scratch" else teacher, "" if method == "teacher" else student
    own = [r for r in rows if (r.method, r.task, r.metric) == (method, task, metric)]
    loose = [r for r in own if r.pair == "unknown"]
    found = sorted((r for r in own if r.pair != "unknown" and (r.teacher, r.student) == pair), key=_rank)
    fit = (r for r in found if r.kind != "issue" and (settings is None or agrees(r, settings)))
    best = next(fit, None)
    return Match(best, tuple(r for r in found if r is not best), tuple(loose))


def agrees(row: Published, settings: Mapping[str, Any]) -> bool:
    """Whether resolved settings are those that the published row names."""
    return all(name in settings and _same(text, settings[name]) for name, text in row.settings.items())


def _same(text: str, value: Any) -> bool:
    try:
        return float(text) == float(value)
    except (TypeError, ValueError):
        return text.lower() == str(value).lower()


def _rank(row: Published) -> tuple[int, int, int]:
    kind = KINDS.index(row.kind)
    place = 2 * len(KINDS) if row.kind == "issue" else kind + len(KINDS) * bool(row.suspect)
    return place, -(row.seeds or 0), SELECTIONS.index(row.selection)


def file() -> Path:
    """``benchmarks/published.csv``.

    Raises:
        DfkdError: when the package ``benchmarks`` is not installed.
    """
    spec = find_spec("benchmarks")
    for folder in (spec and spec.submodule_search_locations) or ():
        return Path(folder) / "published.csv"
    raise DfkdError("published.csv: the package `benchmarks` is not installed")


def load(path: Path | None = None) -> list[Published]:
    """Every row of a table such as ours, checked.

    Args:
        path: the file; `file` by default.

    Raises:
        DfkdError: naming the file, the line and what is wrong with it.
    """
    path = path or file()
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            reader = csv.DictReader(lines)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise DfkdError(f"{path}, line 1: the columns must be {', '.join(COLUMNS)}")
            rows = [_row(raw, f"{path}, line {reader.line_num}", reader.line_num) for raw in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DfkdError(f"{path} cannot be read: {error}") from None
    seen: dict[tuple[Any, ...], int] = {}
    for row in rows:
        fields = dataclasses.asdict(row) | {"settings": sorted(row.settings.items())}
        key = tuple(str(v) for k, v in fields.items() if k not in ("line", "note", "suspect"))
        if key in seen:
            raise DfkdError(f"{path}, line {row.line} repeats line {seen[key]}")
        seen[key] = row.line
    return rows


def _row(raw: Mapping[str | Any, Any], where: str, line: int) -> Published:
    if None in raw or None in raw.values():
        raise DfkdError(f"{where}: not {len(COLUMNS)} fields; put a text with a comma in quotes")
    text = {name: raw[name].strip() for name in COLUMNS}
    for name in ("method", "metric", "source", "printed"):
        if not text[name]:
            raise DfkdError(f"{where}: {name} is empty")
    for name, allowed in (("pair", PAIRS), ("kind", KINDS), ("selection", SELECTIONS), ("metric", METRICS)):
        if text[name] not in allowed:
            raise unknown(f"{name} in {where}:", text[name], allowed)
    needs = {"teacher", "student"} - {{"scratch": "teacher", "teacher": "student"}.get(text["method"], "")}
    if text["pair"] != "unknown" and not all(text[n] for n in {"task", *needs}):
        raise DfkdError(f"{where}: pair = {text['pair']!r}, yet task, teacher or student is empty")
    if text["copied_from"] and text["kind"] != "copy":
        raise DfkdError(f"{where}: copied_from = {text['copied_from']!r}, yet kind = {text['kind']!r}")

    def number(name: str, low: float, high: float) -> float | None:
        if not text[name]:
            return None
        try:
            value = float(text[name])
        except ValueError:
            raise DfkdError(f"{where}: {name} = {text[name]!r} is not a number") from None
        if not low <= value <= high:
            raise DfkdError(f"{where}: {name} = {text[name]} is not between {low:g} and {high:g}")
        return value

    value = number("value", *METRICS[text["metric"]])
    if value is None:
        raise DfkdError(f"{where}: value is empty")
    seeds, updates = number("seeds", 1, 1000), number("updates", 1, 1e9)
    return Published(
        **{name: text[name] for name in _TEXTS},
        value=value,
        teacher_top1=number("teacher_top1", 0, 100),
        settings=_settings(text["settings"], where),
        seeds=None if seeds is None else int(seeds),
        spread=number("spread", 0, 100),
        updates=None if updates is None else int(updates),
        line=line,
    )


def _settings(text: str, where: str) -> dict[str, str]:
    found = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not (name and equals and value):
            raise DfkdError(f"{where}: settings = {text!r} is not NAME=VALUE; NAME=VALUE")
        found[name] = value
    return found
