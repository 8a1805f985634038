"""How good the images are: FID, KID, Inception Score, fd_teacher, diversity, high frequencies of each method.

Run:    dfkd run image_quality --gpus-per-trial 0.5 --inception-weights FILE
        --task digits --pair wrn16_2:wrn16_1 --seeds 0-4    on a laptop: benchmarks/results/image_quality
Trials: 120 (20 rows, 2 tasks, 3 seeds), 2 teachers; 102 are those of `paper_main`, which are not run again.
Cost:   6.23e19 FLOP, 346 hours of a GPU that keeps up 50 TFLOP/s; 1.99e19 and 110 beyond `paper_main`.
Expect: no published FID can be compared: KDCI's and D2CIP's (`benchmarks/published.csv`) name no extractor,
        no data set and no number of images.

Every one of these metrics is taken of every trial of any grid; here stand the methods that make images, and
CPSC without its embedding, without contrast and without statistics. Without Inception's weights the columns
of FID, KID and Inception Score say so, and fd_teacher, diversity and hf_ratio are still there.
"""

from typing import Any

from benchmarks.shared.authors import AUTHORS, BUDGETS, FAMILY, ROWS
from benchmarks.shared.tuned import small
from harness.config import Grid

#: what CPSC is without one part
LESS: dict[str, tuple[str, dict[str, Any]]] = {
    "cpsc - cfe": ("cpsc", {"cfe_layers": "none"}),
    "cpsc - scl": ("cpsc", {"gamma": 0.0}),
    "cpsc - bn": ("cpsc", {"beta": 0.0}),
}
MAKERS = {label: row for label, row in ROWS.items() if label not in ("scratch", "kd")}

GRID = Grid(
    tasks=("cifar10", "cifar100"),
    pairs=(("resnet34", "resnet18"),),
    variants=MAKERS | LESS,
    contrasts=dict.fromkeys(LESS, "cpsc"),
    on=AUTHORS | small(digits=1000, mnist=600),
    seeds=(0, 1, 2),
    budget=FAMILY,
    budgets={label: spent for label, spent in BUDGETS.items() if label in MAKERS}
    | dict.fromkeys(LESS, BUDGETS["cpsc"]),
    note="Settings of `paper_main`.",
)
