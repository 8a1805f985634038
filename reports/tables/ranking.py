"""The section on rows over all cells laid out for people: mean ranks and paired tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.numbers.ranking import Ranking
from reports.numbers.rows import gathered, records
from reports.numbers.tests import ALPHA
from reports.tables.model import DASH, VERSUS, Head, Line, Table, number, signed, versus

#: beyond so many comparisons the section shows those that stand; the CSV has all
MOST = 40
#: the fewest pairs with 2 / 2^n <= 0.05
_NEEDED = 1 + math.ceil(-math.log2(ALPHA))

_TESTS = (
    "Top-1 at the last point, row minus the row it is measured against, over trials of equal task, pair, "
    "teacher file and seed. p: Wilcoxon's signed-rank test, two-sided; smallest p: what so many pairs give "
    "when all point one way; p (Holm): over the {family}, significant at 0.05. "
    "Seeds of one cell are pairs here: a difference is shown for these cells, not for tasks in general. g: "
    "Hedges' g of the paired differences (mean over deviation, corrected for small n)."
)
_RANKS = (
    "Data-free rows ranked by mean top-1 within each cell (task, pair, teacher file) in which all their "
    "seeds ran; 1 is best. Mean over cells."
)


def layout(ranked: Ranking, tests: pd.DataFrame) -> list[Table]:
    """The section's tables: mean ranks where there are several cells, then tests.

    Args:
        ranked: of `reports.numbers.ranking.ranks`.
        tests: of `reports.numbers.ranking.comparisons`.
    """
    made = [_ranks(ranked)] if len(ranked.cells) > 1 else []
    return made + ([_tests(records(tests))] if len(tests) else [])


def _ranks(ranked: Ranking) -> Table:
    apart = (
        [Head("not told apart from", "rows within the critical difference", words=True)]
        if ranked.groups
        else []
    )
    lines = [
        Line((name, number(mean, 2), *([_near(ranked, i)] if apart else [])))
        for i, (name, mean) in enumerate(zip(ranked.names, ranked.mean_ranks, strict=True))
    ]
    N = len(ranked.cells)
    if ranked.reason:
        notes = [f"No test of the ranks: {ranked.reason}."]
    else:
        friedman = f"Friedman over {N} cells: chi² = {ranked.statistic:.2f}, p = {p_text(ranked.p)}."
        nemenyi = f"Nemenyi's critical difference: {ranked.cd:.2f} ranks."
        none = " No difference between the rows is shown." if ranked.p > ALPHA else ""
        notes = [f"{friedman} {nemenyi}{none}"]
    rest = gathered((why, label) for label, why in ranked.left_out.items())
    notes += [f"Left out, {why}: {', '.join(labels)}." for why, labels in rest.items()]
    lines = lines if len(lines) > 1 else []
    heads = [Head("row", words=True), Head("mean rank"), *apart]
    return Table(f"Mean ranks over {N} cells", [_RANKS], heads, lines, notes)


def _near(ranked: Ranking, i: int) -> str:
    near = {j for first, last in ranked.groups if first <= i <= last for j in range(first, last + 1)} - {i}
    return ", ".join(ranked.names[j] for j in sorted(near)) or DASH


def _tests(rows: Sequence[Mapping[str, Any]]) -> Table:
    family = int(rows[0]["family"])
    shown = [r for r in rows if not math.isnan(r["p_holm"])]
    notes = []
    if len(shown) > MOST:
        stand = [r for r in shown if r["p_holm"] <= ALPHA]
        notes.append(
            f"{len(shown) - len(stand)} tested comparisons that do not stand are in comparisons.csv."
        )
        shown = stand
    heads = [
        *VERSUS,
        Head("cells", "task, pair and teacher file"),
        Head("difference (points)", "mean over the pairs ± half of the 95 % t-interval"),
        Head("g", "Hedges' g of the paired differences"),
        Head("p"),
        Head("smallest p", "that so many pairs can give"),
        Head("p (Holm)"),
        Head("verdict", words=True),
    ]
    lines = [
        Line(
            (
                *versus(r),
                str(r["cells"]),
                signed(r["difference"]) + ("" if math.isnan(r["half"]) else f" ± {number(r['half'], 2)}"),
                signed(r["effect"]),
                *(p_text(r[name]) for name in ("p", "p_smallest", "p_holm")),
                r["verdict"],
            )
        )
        for r in sorted(shown, key=lambda r: r["p_holm"])
    ]
    notes += _untested([r for r in rows if math.isnan(r["p_holm"])])
    of = f"{family} comparison{'s' if family != 1 else ''} that could reach 0.05"
    none = f"Of {len(rows)} comparisons none has the pairs that a test by signed ranks needs."
    caption = _TESTS.format(family=of) if family else none
    return Table("Paired tests over all cells", [caption], heads, lines, notes)


def _untested(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Comparisons without a test, gathered by reason."""
    short = [str(r["verdict"]).startswith("not testable") for r in rows]  # of pairs
    least = [f" (smallest p possible: {p_text(r['p_smallest'])})" for r in rows]
    why = gathered(
        (r["verdict"] + few * said, f"{r['row']} against {r['against']}")
        for r, few, said in zip(rows, short, least, strict=True)
    )
    told = [
        f"{'; '.join(names) if len(names) <= 3 else f'{len(names)} comparisons'}: {reason}."
        for reason, names in why.items()
    ]
    return told + [f"At least {_NEEDED} pairs that differ are needed for p = 0.05."] * any(short)


def p_text(p: float) -> str:
    """A p value to two digits; "< 0.0001" below that."""
    return DASH if math.isnan(p) else "< 0.0001" if p < 0.0001 else f"{p:#.2g}" if p < 0.1 else f"{p:.2f}"
