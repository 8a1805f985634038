"""The main table: ResNet-34 -> ResNet-18 on CIFAR-10, CIFAR-100 and Tiny-ImageNet, every method.

Run:    dfkd run paper_main --gpus-per-trial 0.5       (the data: dfkd tasks --download cifar10, and so on)
        --budget 80000:student_updates                 equal updates for all
        --equal-cost cpsc                              equal cost: what CPSC spends in its own budget
        --task digits --pair wrn16_2:wrn16_1           all of it on a laptop, with the settings of digits
Trials: 171 (19 rows, 3 tasks, 3 seeds), 3 teachers.
Cost:   1.29e20 FLOP, 717 hours of a GPU that keeps up 50 TFLOP/s; two thirds are Tiny-ImageNet's.
        DAFL's authors' row takes 29 % of it, CPSC's two rows 30 %.
Expect: CIFAR-10: cpsc 95.33 (pair inferred), cmi 94.84, dfq 94.61, fast 94.05 (k=10), 93.63 (5), 92.62 (2),
        dfad 93.3, adi 93.26, zskt 93.05 (mmrazor's; 93.32 in CMI's table), dafl 92.22; scratch 95.20, kd
        94.34, noise 14.89. CIFAR-100: cmi 77.04, fast 74.34, 72.82, 69.76, dafl 74.47, dfq 72.06 (CuDFKD's;
        77.01 in CMI's table), dfad 67.7, zskt 67.74, adi 61.32; scratch 77.10, kd 76.87, noise 1.44.
        Tiny-ImageNet: scratch 61.48, nothing else for this pair.
        Whose numbers, with which teachers and which of them are doubted: `benchmarks/published.csv`.

CPSC's 74.35 on CIFAR-100 (best of others: 73.92) has no pair and stands beside no row. Budgets are the
authors' own. Their settings for a task or this pair where they published any; else those for CIFAR-10, and
CPSC's are those of its CIFAR-100 command throughout. For Tiny-ImageNet nobody's command was found.
"""

from benchmarks.shared.authors import AUTHORS, BUDGETS, FAMILY, ROWS
from benchmarks.shared.tuned import small
from harness.config import Grid

GRID = Grid(
    tasks=("cifar10", "cifar100", "tiny_imagenet"),
    pairs=(("resnet34", "resnet18"),),
    variants=ROWS,
    on=AUTHORS | small(digits=1000, mnist=600),
    seeds=(0, 1, 2),
    budget=FAMILY,
    budgets=BUDGETS,
    note=(
        "Authors' settings where they published any for this task and pair, else those for CIFAR-10; CPSC's "
        "are those of its CIFAR-100 command, DFQ's and CMI's those of CMI's repository."
    ),
)
