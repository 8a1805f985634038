"""How much CPSC's settings matter on digits: alpha x gamma, and beta, eta and scl_tau each alone.

Run:    dfkd run sensitivity_digits
Trials: 102 (34 rows, 3 seeds), 1 teacher.
Cost:   4.38e14 FLOP, 4.29e12 a trial.
Expect: alpha of 3 to 7 and gamma of 0.5 to 0.9 are recommended for CIFAR-100; no number is published. Ours:
        alpha 1 91.3, 3 96.0, 5 95.4, 7 94.4, 9 94.7, means over gamma; gamma makes no difference.

`sensitivity` is the grid for CIFAR-100, with more values. Around the settings of digits: alpha 6.45,
gamma 0.881, beta 2.69, eta 0.799, scl_tau 0.207.
"""

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import DIGITS, TRIED
from harness.config import Grid

ALPHA = (1, 3, 5, 7, 9)
GAMMA = (0.1, 0.3, 0.5, 0.7, 0.9)
#: one setting at a time, the others as tuned
ALONE = {"beta": (0.1, 1.0, 10.0), "eta": (0.2, 0.7, 2.0), "scl_tau": (0.07, 0.2, 0.6)}

GRID = Grid(
    tasks=("digits",),
    pairs=(("wrn16_2", "wrn16_1"),),
    variants={
        **{f"alpha {a} gamma {g:g}": ("cpsc", {"alpha": a, "gamma": g}) for a in ALPHA for g in GAMMA},
        **{f"{name} {v:g}": ("cpsc", {name: v}) for name, values in ALONE.items() for v in values},
    },
    settings=DIGITS,
    seeds=(0, 1, 2),
    budget=updates(500),
    points=50,
    note=TRIED,
)
