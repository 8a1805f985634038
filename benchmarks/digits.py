"""The demo: every registered method on scikit-learn's real handwritten digits, 8 x 8, three seeds.

Run:    make demo          (or: dfkd run benchmarks/digits.py)
"""

from harness.config import Budget, Grid

GRID = Grid(
    tasks=("digits",),
    pairs=(("wrn16_2", "wrn16_1"),),
    variants="all",
    settings={
        "*": {"batch": 128},
        "cpsc": {"g_steps": 1, "s_steps": 2, "alpha": 1.0},
    },
    seeds=(0, 1, 2),
    budget=Budget(amount=400, unit="rounds"),
    points=25,
)
