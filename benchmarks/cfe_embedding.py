"""How wide a category's embedding must be: CFE's tables of K x C factorised through m dimensions.

Run:    dfkd run cfe_embedding --gpus-per-trial 0.5
        --task digits --pair wrn16_2:wrn16_1 --seeds 0-4    on a laptop: benchmarks/results/cfe_embedding;
                                                            with K = 10, m above 10 saves nothing
Trials: 27 (9 rows, 3 seeds), 1 teacher.
Cost:   2.98e19 FLOP, 166 hours of a GPU that keeps up 50 TFLOP/s.
Expect: nothing is published on m; the authors' code has the full tables (row `full tables`).

Row `no embedding` has no categorical norm at all: what m = 1 has to beat.
"""

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import small
from harness.config import Grid

WIDTHS = (1, 2, 4, 8, 16, 32, 64)

GRID = Grid(
    tasks=("cifar100",),
    pairs=(("resnet34", "resnet18"),),
    variants={
        "full tables": ("cpsc", {}),
        **{f"m={m}": ("cpsc", {"cfe_embedding_dim": m}) for m in WIDTHS},
        "no embedding": ("cpsc", {"cfe_layers": "none"}),
    },
    contrasts={f"m={m}": "full tables" for m in WIDTHS} | {"no embedding": "full tables"},
    on=small(digits=500, mnist=600),
    seeds=(0, 1, 2),
    budget=updates(150_000),
    note="Settings of CPSC's CIFAR-100 command.",
)
