"""Write a grid's report: one HTML file that asks the network for nothing, Markdown, LaTeX, CSV."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from harness import files
from harness.errors import unknown
from reports.figures import style
from reports.figures.draw import draw
from reports.figures.places import Picture
from reports.numbers import published
from reports.numbers.findings import work_out
from reports.numbers.published import Published
from reports.numbers.rows import Arrays, named, rows_of
from reports.page import fit
from reports.tables import seeds, tex
from reports.tables.layout import GUIDE, blocks
from reports.tables.model import escape, to_markdown
from reports.tables.sections import sections

_HERE = Path(__file__).parent
#: so many trials are still listed one by one on paper
_ON_PAPER = 500
FORMATS = {"html": "report.html", "md": "report.md", "tex": "report.tex", "csv": "report.csv"}


def write(
    grid_name: str,
    note: str,
    frame: pd.DataFrame,
    curves: pd.DataFrame,
    samples: Arrays,
    out: Path,
    formats: Sequence[str] = ("html", "md", "csv"),
    paired: pd.DataFrame | None = None,
    known: Sequence[Published] | None = None,
    predictions: Arrays = lambda id: None,
) -> dict[str, Path]:
    """Write the report of one grid.

    Args:
        grid_name: the title.
        note: how settings that are not the authors' were found; stands on top.
        frame: one row a trial, as `harness.store.frame.frame` makes it.
        curves: one row a point, as `harness.store.frame.curves` makes it.
        samples: trial id -> arrays of its ``samples.npz``, or None.
        out: directory, made if missing; files of an earlier report are replaced one by one.
        formats: out of `FORMATS`. Markdown also writes ``figures/*.svg``, which it shows; the page those
            that it cannot show in full.
        paired: rows against one another, of `reports.numbers.contrasts.paired`: a section, and the family of
            the tests over all cells. None for a grid without contrasts.
        known: published numbers; those of ``benchmarks/published.csv`` by default.
        predictions: trial id -> arrays of its ``predictions.npz``, or None; for the confusion tables.

    Returns:
        Format -> file; with "csv" also "verdicts" and "comparisons", and "contrasts" where there are any. The
        same input gives the same bytes.

    Raises:
        DfkdError: for an unknown format.
    """
    for name in formats:
        if name not in FORMATS:
            raise unknown("report format", name, FORMATS)
    found = work_out(frame, curves, published.load() if known is None else known, paired)
    headline = note or "The grid states nothing on how its settings were found."
    parts = sections(found)
    words: dict[str, Any] = {"grid": grid_name, "note": headline, "counts": counts(frame), "sections": parts}
    if set(formats) & {"html", "md"}:
        words |= {
            "blocks": blocks(found.table),
            "guide": GUIDE,
            "pictures": list(draw(frame, curves, samples, found, predictions)),
            "provenance": provenance(frame),
            "settings": settings(frame),
        }
    written = {}
    for name in formats:
        beside: Sequence[Picture] = ()
        if name == "csv":
            made = found.csv()
        elif name == "tex":
            every = [*blocks(found.table), *(table for part in parts.values() for table in part)]
            made = {name: tex.document(grid_name, f"{headline} {words['counts']}.", every)}
        elif name == "md":
            made, beside = {name: _markdown(words)}, words["pictures"]
        else:
            text, beside = _html(frame, words)
            made = {name: text}
        for picture in beside:
            save(out / "figures" / f"{picture.name}.svg", picture.svg)
        for kind, text in made.items():
            written[kind] = out / FORMATS.get(kind, f"{kind}.csv")
            save(written[kind], text)
    return written


def counts(frame: pd.DataFrame) -> str:
    """``15 of 18 trials done, 2 failed, 1 missing``."""
    statuses = Counter(str(s) for s in frame.drop_duplicates("id")["status"])
    rest = [f"{n} {status}" for status, n in sorted(statuses.items()) if status != "done"]
    return ", ".join([f"{statuses['done']} of {statuses.total()} trials done", *rest])


def provenance(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """What the results were made with: (what, values); several values each with their number of trials."""
    done = frame[frame["status"] == "done"].drop_duplicates("id")
    if done.empty:
        return [("results", "no trial finished")]
    facts = []
    for column in ("commit", "machine", "kernels", "device", "threads", "precision", "torch", "python"):
        if column in done:
            seen = Counter(f"{v:g}" if isinstance(v, float) else str(v) for v in done[column])
            facts.append((column, _listed(seen)))
    for (task, teacher, seed), group in done.groupby(["task", "teacher", "teacher_seed"], sort=False):
        seen = Counter(
            f"{digest or 'unknown'}, {top1:.2f} % top-1"
            for digest, top1 in zip(group["teacher_digest"], group["teacher_top1"], strict=True)
        )
        facts.append((f"teacher {teacher} on {task}, seed {seed}", _listed(seen)))
    for task, group in done.groupby("task", sort=False):
        facts.append(("data of " + str(task), _listed(Counter(map(str, group["data_digest"])))))
    return facts


def _listed(seen: Counter[str]) -> str:
    if len(seen) == 1:
        return next(iter(seen)) or "not recorded"
    return "; ".join(
        f"{value or 'not recorded'} ({n} trial{'s' if n > 1 else ''})" for value, n in sorted(seen.items())
    )


def settings(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    """(row, method, its resolved settings): a method's first row in full, the others by what differs."""
    rows = []
    first: dict[str, tuple[str, dict[str, Any]]] = {}
    for row in rows_of(frame):
        method, values = row.of("method"), named(row.of("settings"))
        said = "none"
        if values:
            label, base = first.setdefault(method, (row.label, values))
            changed = {k: v for k, v in values.items() if k not in base or base[k] != v}
            parts = _named(changed) + [f"no {k}" for k in sorted(base.keys() - values.keys())]
            said = ", but ".join([f"as {label}", *filter(None, [", ".join(parts)])])
            if base is values:
                said = ", ".join(_named(values))
            elif row.label == label and not parts:
                continue  # the same row with another task, pair or teacher
        rows.append((row.label, method, said))
    return list(dict.fromkeys(rows))


def _named(values: Mapping[str, Any]) -> list[str]:
    return [f"{k} = {json.dumps(v, ensure_ascii=False)}" for k, v in sorted(values.items())]


def _markdown(words: Mapping[str, Any]) -> str:
    lines = [f"# {escape(words['grid'])}", "", escape(words["note"]), "", f"{words['counts']}.", ""]
    lines += [to_markdown([block]) for block in words["blocks"]]
    for picture in words["pictures"]:
        if picture.block not in words["sections"]:
            lines += figure(picture, f": {', '.join(filter(None, (picture.block, picture.file)))}")
    for anchor, part in words["sections"].items():
        lines.append(to_markdown(part))
        for picture in words["pictures"]:
            lines += figure(picture) if picture.block == anchor else []
    lines += ["## How to read this", "", *(f"- {escape(line)}" for line in words["guide"]), ""]
    lines += ["## Provenance", "", "| what | value |", "| :-- | :-- |"]
    lines += [f"| {escape(what)} | {escape(value)} |" for what, value in words["provenance"]]
    lines += ["", "## Settings", "", "| row | method | settings |", "| :-- | :-- | :-- |"]
    lines += ["| " + " | ".join(escape(text) for text in row) + " |" for row in words["settings"]]
    return "\n".join(lines) + "\n"


def figure(picture: Picture, where: str = "") -> list[str]:
    """Lines of Markdown that show a figure out of ``figures/``; ``where`` ends its heading."""
    title = escape(picture.title)
    shown = f"![{title}](figures/{picture.name}.svg)"
    return [f"### {title}{escape(where)}", "", shown, "", escape(picture.caption), ""]


def _html(frame: pd.DataFrame, words: Mapping[str, Any]) -> tuple[str, list[Picture]]:
    """The page, and the pictures it has no room for: as much as fits under `fit.LIMIT`.

    Numbers go before pictures, rows before the trials behind them.
    """
    made = seeds.made(frame)
    words = {
        **words,
        "trials": made,
        "many": sum(block.trials for block in made) > _ON_PAPER,
        "drawings": [fit.Drawing(picture) for picture in words["pictures"]],
        "shortened": fit.SAYS_MOST,
    }
    bare = len(render("page.html.j2", words).encode())
    if bare > fit.LIMIT:
        words = {**words, "trials": []}
        bare = len(render("page.html.j2", words).encode())
    drawings = fit.fit(words["pictures"], fit.LIMIT - bare)
    shown = {**words, "drawings": drawings, "shortened": fit.said(drawings)}
    return render("page.html.j2", shown), [each.picture for each in drawings if not each.svg]


def render(template: str, words: Mapping[str, Any]) -> str:
    """A page from one of the templates here; it also gets the style and script of every page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["noted"] = _noted
    script = (_HERE / "page.js").read_text("utf-8")
    shared = {
        "theme": Markup(style.css()),
        "style": Markup((_HERE / "page.css").read_text("utf-8")),
        "script": Markup(script),
        # the one script that the page's own policy lets run
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    return environment.get_template(template).render(words, **shared)


def _noted(text: str, table: str) -> Markup:
    """Turn the closing " [1]" of a cell into a link to that note of the table with this id."""
    found = re.fullmatch(r"(.*) \[(\d+)\]", text, flags=re.DOTALL)
    if not found:
        return Markup("{}").format(text)
    link = Markup('{0}<sup><a href="#{1}-{2}" aria-label="note {2}">{2}</a></sup>')
    return link.format(found[1], table, found[2])


def save(path: Path, text: str) -> None:
    """Write a file whole or not at all, its folder too; OSErrors pass through."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(path) as new:
        new.write_bytes(text.encode())
