"""CIFAR-100, WRN-40-2 -> WRN-16-1 and ResNet-34 -> ResNet-18, every method with its authors' settings.

Run:    dfkd run benchmarks/cifar100.py --gpus-per-trial 0.5        (the data: dfkd tasks --download cifar100)
        --budget 80000:student_updates                   equal updates for all
        --equal-cost cpsc                                equal cost: what CPSC spends in its own budget
Cost:   not measured: made on machines without a GPU. A GPU of 2020 takes days for the whole grid.
Expect: benchmarks of others lie between 20 and 77 % top-1; their teachers differ (78.05, 75.83 % for CMI's).

Budgets are the authors' own, in student updates: DAFL 2000 x 120, DFAD 500 x 250, ZSKT 80,000 x 10, CPSC
600 x 250 (its CIFAR-100 command), the DataFree family 200 x 400. References and controls: 200 x 390 batches.
DAFL's weights are those of its CIFAR-100 command; ZSKT, DFAD, DeepInversion and CMI published no settings for
CIFAR-100, so they have those for CIFAR-10.
"""

from benchmarks.settings import BUDGETS, DAFL_CIFAR100, FAMILY, ROWS
from harness.config import Grid

GRID = Grid(
    tasks=("cifar100",),
    pairs=(("wrn40_2", "wrn16_1"), ("resnet34", "resnet18")),
    variants=ROWS | {"dafl": ("dafl", DAFL_CIFAR100)},
    seeds=(0, 1, 2),
    budget=FAMILY,
    budgets=BUDGETS,
    note=("Authors' settings where they published any for this task, else those for CIFAR-10."),
)
