"""How deep Categorical Feature Embedding goes: which of the generator's four norms are categorical.

Run:    dfkd run ablation_cfe --gpus-per-trial 0.5
        --task digits --pair wrn16_2:wrn16_1 --seeds 0-4    on a laptop: benchmarks/results/ablation_cfe
        --methods "all four,norms 0+1+2,no CFE"        some of the rows
        those rows --task mnist --pair lenet5_bn:lenet5_half_bn --precision bf16    .../ablation_cfe_mnist
        the same with --pair wrn16_2:wrn16_1           300 updates: .../ablation_cfe_mnist_wrn
Trials: 48 (16 rows: every choice; 3 seeds), 1 teacher.
Cost:   5.30e19 FLOP, 294 hours of a GPU that keeps up 50 TFLOP/s; a fifth with --pair wrn40_2:wrn16_1.
Expect: all four +0.54 points over three on CIFAR-100 (CPSC's table 5). Which norm the three leave out and for
        which pair is not told, so all four choices are here, and the number stands in a footnote.

Norm 0 follows the first linear layer, 1 and 2 the two inner convolutions, 3 is the last thing before the
image. Each row is measured against the one with all four, seed by seed.
"""

from itertools import combinations

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import small
from harness.config import Grid

#: what `cfe_layers` calls a choice of three
_THREE: dict[tuple[int, ...], str] = {
    (1, 2, 3): "drop0",
    (0, 2, 3): "drop1",
    (0, 1, 3): "drop2",
    (0, 1, 2): "drop3",
}
#: label -> value of `cfe_layers`
DEPTHS = {
    "all four": "full",
    **{
        f"norm{'s' if n > 1 else ''} {'+'.join(map(str, layers))}": _THREE.get(
            layers, "+".join(map(str, layers))
        )
        for n in (3, 2, 1)
        for layers in combinations(range(4), n)
    },
    "no CFE": "none",
}

GRID = Grid(
    tasks=("cifar100",),
    pairs=(("resnet34", "resnet18"),),
    variants={label: ("cpsc", {"cfe_layers": layers}) for label, layers in DEPTHS.items()},
    contrasts={label: "all four" for label in DEPTHS if label != "all four"},
    on=small(digits=500, mnist=600),
    seeds=(0, 1, 2),
    budget=updates(150_000),
    note="Settings of CPSC's CIFAR-100 command.",
)
