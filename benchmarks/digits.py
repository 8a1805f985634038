"""The demo: every registered method on scikit-learn's real handwritten digits (8 x 8), 1,000 updates each.

Run:    make demo                                        one seed each, three of cpsc
        dfkd run benchmarks/digits.py --seeds 0-2        three of each: the full grid
        dfkd run benchmarks/digits.py --equal-cost cpsc  every row spends what cpsc does
Cost:   make demo: 7 min 34 s on 2 cores (AMD EPYC, one thread a trial), teacher included.
Expect: top-1 of deepinversion, fast 98.3, adi 98.0, cmi 97.3, dfad 97.0, cpsc 96.8, dfq 96.3, zskt 94.1, dafl
        87.7; controls: untrained 93.2, noise 88.1; scratch 99.6, kd 99.0, teacher 99.1.
"""

from benchmarks.settings import DIGITS, TRIED, updates
from harness.config import Grid

GRID = Grid(
    tasks=("digits",),
    pairs=(("wrn16_2", "wrn16_1"),),
    variants="all",
    settings=DIGITS,
    seeds=(0,),
    row_seeds={"cpsc": (0, 1, 2)},
    budget=updates(1000),
    points=40,
    note=TRIED,
)
