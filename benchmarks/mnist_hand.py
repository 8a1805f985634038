"""MNIST before any search: LeNet-5 -> its half as in DAFL's table, the same pair with BatchNorm; one seed.

Run:    dfkd run mnist_hand (the data: dfkd tasks --download mnist): benchmarks/results/mnist_hand
Cost:   see its report; generators of 28 x 28 images cost far more here than the networks.
Expect: DAFL's table (arXiv 1904.01186, teacher 98.91): scratch 98.65, KD 98.91, Gaussian noise 88.01, DAFL
        98.20; DFAD's (arXiv 1912.11006, teacher 98.9): DFAD 98.3.

``lenet5_bn`` and ``lenet5_half_bn`` have BatchNorm after each convolution: methods that match the teacher's
statistics need it, and are skipped with that reason on the plain pair. Budgets are reduced: 600 updates, and
20,000 for DAFL (its authors: 24,000 at batch 512), whose lr_g is 0.02: the authors' 0.2 collapsed at
batch 128, and at their 512 after 4,100 updates.
"""

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import MNIST_HAND, TRIED_MNIST_HAND
from harness.config import Grid

GRID = Grid(
    tasks=("mnist",),
    pairs=(("lenet5", "lenet5_half"), ("lenet5_bn", "lenet5_half_bn")),
    variants="all",
    settings=MNIST_HAND,
    seeds=(0,),
    precision="bf16",
    note=TRIED_MNIST_HAND,
    budget=updates(600),
    budgets={"dafl": updates(20_000)},
)
