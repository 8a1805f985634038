"""The audit of `defects` on MNIST: each documented defect switched on, one at a time; LeNet-5 with BatchNorm.

Run:    dfkd run defects_mnist
Cost:   54 trials, of which 18 are those of `mnist` on this pair.
Expect: nothing is published. `defects` has the same on digits, five seeds.

Settings and budget are those of `mnist`: found by search for the corrected rows, so that a defect that only
rescales a term (double softmax, log losses) is judged at a weight that was chosen without it. `defects` has
both arms searched.
"""

from benchmarks.shared.audit import AUDIT_CONTRASTS, AUDIT_ROWS
from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import MNIST, TRIED_MNIST
from harness.config import Grid

GRID = Grid(
    tasks=("mnist",),
    pairs=(("lenet5_bn", "lenet5_half_bn"),),
    variants=AUDIT_ROWS,
    contrasts=AUDIT_CONTRASTS,
    settings=MNIST,
    seeds=(0, 1, 2),
    precision="bf16",
    note=TRIED_MNIST,
    budget=updates(600),
)
