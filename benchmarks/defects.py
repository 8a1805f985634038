"""What the bugs in public code cost: each documented defect switched on, one at a time, on digits, five seeds.

Run:    dfkd run benchmarks/defects.py
Cost:   see the README.
Expect: nothing is published: this is the first time they are measured. Whatever it says stands in the README.

A row with a colon is its base row with one defect of released code switched on; the report pairs them by seed.
Two defects rescale a term: CPSC's double softmax (eta) and its log losses (alpha). For these both arms were
also given the same small search over that weight on the validation images, `defects_search.py`; the rows with
"searched" hold what it found, and both comparisons are shown. What selection by test images adds (the best
point against the last) is read off the curves of all rows.
"""

from typing import Any

from harness.config import Budget, Grid


def updates(n: float) -> Budget:
    """So many steps of the student."""
    return Budget(amount=n, unit="student_updates")


#: row -> (method, settings), the base of each audit first
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "cpsc": ("cpsc", {"student_bn": "eval"}),
    "cpsc: G's Adam rebuilt": ("cpsc", {"student_bn": "eval", "g_optimizer": "rebuilt"}),
    "cpsc: adapter never trained": ("cpsc", {"student_bn": "eval", "adapter": "frozen"}),
    "cpsc: S's BN drifts in the G step": ("cpsc", {"student_bn": "train"}),
    "cpsc: double softmax": ("cpsc", {"student_bn": "eval", "ce": "softmax"}),
    "cpsc, eta searched": ("cpsc", {"student_bn": "eval", "eta": 0.7}),
    "cpsc, eta searched: double softmax": ("cpsc", {"student_bn": "eval", "ce": "softmax", "eta": 0.7}),
    "cpsc: log losses": ("cpsc", {"student_bn": "eval", "l2": "log_if_10"}),
    "cpsc, alpha searched": ("cpsc", {"student_bn": "eval", "alpha": 1.0}),
    "cpsc, alpha searched: log losses": ("cpsc", {"student_bn": "eval", "l2": "log_if_10", "alpha": 1.0}),
    "dfad": ("dfad", {}),
    "dfad: teacher as student": ("dfad", {"rival": "teacher"}),
    "zskt": ("zskt", {}),
    "zskt: teacher as student": ("zskt", {"rival": "teacher"}),
    "dfq": ("dfq", {}),
    "dfq: teacher as student": ("dfq", {"rival": "teacher"}),
    "deepinversion": ("deepinversion", {}),
    "deepinversion: best image aliased": ("deepinversion", {"keep": "after"}),
    "adi": ("adi", {}),
    "adi: best image aliased": ("adi", {"keep": "after"}),
    "adi: JS clamped": ("adi", {"js": "clamped"}),
    "fast, k = 2": ("fast", {"g_steps": 2}),
    "fast, k = 2: rendered before the last step": ("fast", {"g_steps": 2, "keep": "best"}),
    "cmi": ("cmi", {}),
    "cmi: rendered before the last step": ("cmi", {"keep": "best"}),
}  # fmt: skip
