"""Other pairs: VGG-11 -> ResNet-18, WRN-40-2 -> WRN-16-1, WRN-40-1, WRN-16-2, on CIFAR-10 and CIFAR-100.

Run:    dfkd run paper_pairs --gpus-per-trial 0.5
        dfkd run paper_pairs --pair wrn40_2:wrn16_1 --methods cpsc,cmi,kd     a part of it
        --task digits --pair wrn16_2:wrn16_1                                  on a laptop
Trials: 456 (19 rows, 2 tasks, 4 pairs, 3 seeds), 4 teachers.
Cost:   5.22e19 FLOP, 290 hours of a GPU that keeps up 50 TFLOP/s.
Expect: from left to right the four pairs.
        CIFAR-10:  dafl 81.10, 65.71, 81.33, 81.55; zskt 89.46, 83.74 (its authors: 83.69), 86.07, 89.66;
        adi 90.36, 83.04, 86.85, 89.72; dfq 90.84, 86.14, 91.69, 92.01; cmi 91.13, 88.82 (90.01 from a bank of
        images made before), 92.78, 92.52; fast (k=10) 90.53, 89.29, 92.51, 92.45; scratch 95.20, 91.12,
        93.94, 93.95.
        CIFAR-100: dafl 57.29, 22.50, 34.66, 40.00; zskt 34.72, 30.15, 29.73, 28.44; adi 54.13, 53.77, 61.33,
        61.34; dfq 68.32, 54.77, 62.92, 59.01; cmi 70.56, 57.91, 68.88, 68.75; fast (k=10) 67.44, 54.02,
        63.91, 65.12; scratch 77.10, 65.31, 72.19, 73.56; kd (tau=4) 74.92 for WRN-16-2, 73.54 for WRN-40-1.

These are CMI's table and Fast's own rows; other tables print other numbers for dafl, zskt and dfq on
CIFAR-100, by up to 26 points (`benchmarks/published.csv`). CPSC's rows for these pairs were not seen.
"""

from benchmarks.shared.authors import AUTHORS, BUDGETS, FAMILY, ROWS
from benchmarks.shared.tuned import small
from harness.config import Grid

GRID = Grid(
    tasks=("cifar10", "cifar100"),
    pairs=(("vgg11", "resnet18"), ("wrn40_2", "wrn16_1"), ("wrn40_2", "wrn40_1"), ("wrn40_2", "wrn16_2")),
    variants=ROWS,
    on=AUTHORS | small(digits=1000, mnist=600),
    seeds=(0, 1, 2),
    budget=FAMILY,
    budgets=BUDGETS,
    note=(
        "Authors' settings where they published any for this task and pair, else those for CIFAR-10; CPSC's "
        "are those of its CIFAR-100 command, DFQ's and CMI's those of one pair."
    ),
)
