"""What the bugs in public code cost: each documented defect switched on, one at a time; digits, five seeds.

Run:    dfkd run benchmarks/defects.py
Cost:   110 trials, 61 core minutes (AMD EPYC), teacher apart.
Expect: nothing is published. Ours stand in the README: double softmax +3.5, adapter never trained +2.1, S's
        BatchNorm without drift -68, teacher as student +33 for dfad and -3.6 for dfq; the others not shown.

A row with a colon is its base row with one defect of released code on; the report pairs them by seed. One
row goes the other way: that S's BatchNorm statistics drift while G is trained is our default (nothing shows
that the paper means otherwise), and the row without the drift is measured against it. Two defects rescale a
term: CPSC's double softmax (eta) and its log losses (alpha). For these both arms were also given the same
small search over that weight on the validation images, `defects_search.py`; the rows with "searched" hold
what it found, and both comparisons are shown. What selection by test images adds (the best point against the
last) is read off the curves of all rows.
"""

from typing import Any

from benchmarks.shared.audit import AUDIT_CONTRASTS, AUDIT_ROWS, AUDITS
from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import HAND
from harness.config import Grid

#: arms whose weight was searched: row -> settings; the first of each pair is the corrected one
SEARCHED: dict[str, dict[str, Any]] = {
    "cpsc, eta searched": {"eta": 0.05},
    "cpsc, eta searched: double softmax": {"ce": "softmax", "eta": 0.05},
    "cpsc, alpha searched": {"alpha": 3.0},
    "cpsc, alpha searched: log losses": {"l2": "log_if_10", "alpha": 10.0},
}


#: student updates of a base row and of its defects; long enough to learn, short of the ceiling
SPENT = {"cpsc": 500, "dfad": 600, "zskt": 400, "dfq": 400}

GRID = Grid(
    tasks=("digits",),
    pairs=(("wrn16_2", "wrn16_1"),),
    variants=AUDIT_ROWS | {row: ("cpsc", settings) for row, settings in SEARCHED.items()},
    contrasts=AUDIT_CONTRASTS
    | {
        "cpsc, eta searched: double softmax": "cpsc, eta searched",
        "cpsc, alpha searched: log losses": "cpsc, alpha searched",
    },
    settings=HAND | {name: {"g_steps": 100, "s_steps": 60} for name in ("deepinversion", "adi")},
    seeds=tuple(range(5)),
    budget=updates(300),
    budgets={
        **{base: updates(n) for base, n in SPENT.items()},
        **{f"{base}: {d}": updates(n) for base, n in SPENT.items() for d in AUDITS[base][2]},
        **{row: updates(SPENT["cpsc"]) for row in SEARCHED},
    },
    points=20,
    note=(
        "Settings of digits as tuned by hand (`benchmarks/shared/tuned.py`: HAND), before any search; fewer "
        "updates, so that students are not yet at their ceiling. eta and alpha of the searched rows: least "
        "val_nll of five values for each arm, one seed (`defects_search`); eta = 0.05, of both arms, and "
        "alpha = 10, of the log losses, are ends of the range that was tried."
    ),
)
