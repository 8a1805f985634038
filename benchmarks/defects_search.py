"""The search behind `defects.py`: the weight that a defect rescales, five values for both arms, on val.

Run:    dfkd run benchmarks/defects_search.py; dfkd results benchmarks/defects_search.py --csv search.csv
        and take per arm the value with the least ``val_nll`` (test columns are not looked at)
Cost:   19 trials of CPSC, each half a minute on one core.

Seed 100 is in no other grid. ``val`` are 90 training images: the teacher has seen them,
the data-free students have not.
"""

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import HAND
from harness.config import Grid

BASE = {"batch": 128} | HAND["cpsc"]

GRID = Grid(
    tasks=("digits",),
    pairs=(("wrn16_2", "wrn16_1"),),
    variants={
        **{
            f"{ce}, eta {eta:g}": ("cpsc", BASE | {"ce": ce, "eta": eta})
            for ce in ("logits", "softmax")
            for eta in (0.05, 0.2, 0.7, 2.0, 7.0)
        },
        **{
            f"{l2}, alpha {alpha:g}": ("cpsc", BASE | {"l2": l2, "alpha": alpha})
            for l2 in ("mse", "log_if_10")
            for alpha in (0.1, 0.3, 1.0, 3.0, 10.0)
        },
    },
    seeds=(100,),
    budget=updates(500),
    points=10,
)
