"""The search behind `defects.py`: the weight that a defect rescales, five values for both arms, on val.

Run:    dfkd run benchmarks/defects_search.py; dfkd results benchmarks/defects_search.py --csv search.csv
        and take per arm the value with the least ``val_nll`` (test columns are not looked at)
Cost:   19 trials of CPSC, each half a minute on one core.

Seed 100 is in no other grid. ``val`` are the 90 images that neither the teacher nor a student learns from.
"""

from harness.config import Budget, Grid

BASE = {"batch": 128, "g_steps": 2, "s_steps": 5, "beta": 0.1}

GRID = Grid(
    tasks=("digits",),
    pairs=(("wrn16_2", "wrn16_1"),),
    variants={
        **{
            f"{ce}, eta {eta:g}": ("cpsc", BASE | {"ce": ce, "eta": eta, "alpha": 1.0})
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
    budget=Budget(amount=500, unit="student_updates"),
    points=10,
)
