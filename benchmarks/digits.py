"""The demo: every registered method on scikit-learn's real handwritten digits (8 x 8), 1,000 updates each.

Run:    make demo                                       one seed each, three of cpsc
        dfkd run digits --seeds 0-4                     five of each: benchmarks/results/digits
        dfkd run digits --equal-cost cpsc --seeds 0-4   every row spends what cpsc does: .../digits_equal_cost
        dfkd run digits --methods deepinversion,dfq,adi,fast --teacher-seeds 0-2 --seeds 0-4
                                                        three teachers for the first four: .../digits_teachers
Cost:   make demo: 6 min 57 s on 2 cores (AMD EPYC, one thread a trial), teacher included.
Expect: top-1 of deepinversion 98.9, adi 98.7, dfq 98.6, fast 98.3, dfad 98.3, cpsc 98.1, cmi 97.3, zskt
        97.0, dafl 87.7; controls: untrained 95.1, noise 87.3; scratch 99.6, kd 99.0, teacher 99.1.
"""

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import DIGITS, TRIED
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
