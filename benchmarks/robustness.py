"""Students on images unlike the training set's: corrupted, and of another data set of the same classes.

Run:    dfkd run robustness --gpus-per-trial 0.5
        dfkd measure robustness --metrics corruption,shift     of trials that `paper_main` has done
        --task digits --pair wrn16_2:wrn16_1 --seeds 0-4    on a laptop: benchmarks/results/robustness
Trials: 171 (19 rows, 3 tasks, 3 seeds), 3 teachers; all are those of `paper_main`, which are not run again.
Cost:   1.29e20 FLOP, 717 hours of a GPU that keeps up 50 TFLOP/s; beyond `paper_main` none but test passes.
Expect: nothing is published for these students.

Noise, blur, contrast and pixelate at five strengths each; `shift` is taken where another set of the same
classes lies in the data root (`dfkd metrics` tells where), and its cell says so where none does. The student
from scratch and KD on real images are the measure: does a student that never saw an image lose more?
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
    metrics=("corruption", "shift"),
    note="Settings of `paper_main`.",
)
