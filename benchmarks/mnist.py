"""MNIST: every method, settings by search; LeNet-5 -> its half, both with BatchNorm, 600 updates; WRNs, 300.

Run:    dfkd run mnist --pair lenet5_bn:lenet5_half_bn    benchmarks/results/mnist
        dfkd run mnist --pair wrn16_2:wrn16_1             benchmarks/results/mnist_wrn: the settings found on
                                                      LeNet-5; a teacher of 2 epochs
        (the data: dfkd tasks --download mnist)
        dfkd run ablation_cfe ablation_losses --task mnist --pair lenet5_bn:lenet5_half_bn --precision bf16
                                                          CPSC's parts under the same settings
Cost:   see the report; generators of 28 x 28 images cost more on a CPU than LeNets, WRNs more than those:
        four and a half minutes a trial of cpsc at 300 updates.
Expect: nothing is published at so few updates. `mnist_hand` has the plain pair of DAFL's table, DAFL at
        20,000 updates there.
"""

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import MNIST, MNIST_WRN, TRIED_MNIST
from harness.config import Grid

GRID = Grid(
    tasks=("mnist",),
    pairs=(("lenet5_bn", "lenet5_half_bn"), ("wrn16_2", "wrn16_1")),
    variants="all",
    settings=MNIST,
    on={"wrn16_2:wrn16_1": MNIST_WRN},
    seeds=(0, 1, 2),
    precision="bf16",
    note=TRIED_MNIST,
    budget=updates(600),
)
