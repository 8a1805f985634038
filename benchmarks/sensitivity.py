"""How much CPSC's settings matter: alpha x gamma, and beta, eta and the temperature of SCL each alone.

Run:    dfkd run sensitivity --gpus-per-trial 0.5
        --task digits --pair wrn16_2:wrn16_1           on a laptop, around the settings of digits
Trials: 144 (48 rows, 3 seeds), 1 teacher; 135 are different (the defaults stand in four rows).
Cost:   3.95e19 FLOP, 220 hours of a GPU that keeps up 50 TFLOP/s.
Expect: alpha of 3 to 7 and gamma of 0.5 to 0.9 are recommended for CIFAR-100; no number is published.

WRN-40-2 and WRN-16-2 have features of one width: no Adapter stands between gamma and the student.
"""

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import small
from harness.config import Grid

ALPHA = (1, 3, 5, 7, 9)
GAMMA = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
#: one setting at a time, the others as the authors' (on a small task as tuned there)
ALONE = {
    "beta": (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
    "eta": (0.05, 0.2, 0.7, 2.0, 7.0),
    "scl_tau": (0.02, 0.04, 0.07, 0.15, 0.3, 1.0),
}

GRID = Grid(
    tasks=("cifar100",),
    pairs=(("wrn40_2", "wrn16_2"),),
    variants={
        **{f"alpha {a} gamma {g:g}": ("cpsc", {"alpha": a, "gamma": g}) for a in ALPHA for g in GAMMA},
        **{f"{name} {v:g}": ("cpsc", {name: v}) for name, values in ALONE.items() for v in values},
    },
    on=small(digits=500, mnist=600),
    seeds=(0, 1, 2),
    budget=updates(150_000),
    note="Settings of CPSC's CIFAR-100 command, but for those a row names.",
)
