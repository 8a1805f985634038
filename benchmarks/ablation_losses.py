"""What each loss term of CPSC gives: the full method less one term, and the bare game with one term more.

Run:    dfkd run ablation_losses --gpus-per-trial 0.5
        --task digits --pair wrn16_2:wrn16_1 --seeds 0-4    on a laptop: benchmarks/results/ablation_losses
        --methods "full,- ikd,- l2,- bn,- scl,- ce" --task mnist --pair lenet5_bn:lenet5_half_bn
        --precision bf16 --seeds 0-2                   the full method less each: .../ablation_losses_mnist
        the same with --pair wrn16_2:wrn16_1           300 updates: .../ablation_losses_mnist_wrn
        dfkd ablate METHOD                             the same for any method
Trials: 33 (11 rows, 3 seeds), 1 teacher.
Cost:   3.64e19 FLOP, 202 hours of a GPU that keeps up 50 TFLOP/s; every row costs the same.
Expect: nothing is published by term.

The bare game is KL alone, G against S. ``- ikd`` takes KL and L2 together, so that S has the pseudo-labels
and nothing of the teacher's logits. A weight at 0 takes its term away; the passes through T and S stay, other
terms need them. Rows that lack a term are measured against the full method, rows that add one against the
bare game.
"""

from benchmarks.shared.authors import updates
from benchmarks.shared.tuned import small
from harness.config import Grid

#: weight -> the term's name in the rows
TERMS = {"alpha": "l2", "beta": "bn", "gamma": "scl", "eta": "ce"}

GRID = Grid(
    tasks=("cifar100",),
    pairs=(("resnet34", "resnet18"),),
    variants={
        "full": ("cpsc", {}),
        "- ikd": ("cpsc", {"ikd": 0.0}),
        **{f"- {term}": ("cpsc", {weight: 0.0}) for weight, term in TERMS.items()},
        "bare": ("cpsc", dict.fromkeys(TERMS, 0.0)),
        **{
            f"bare + {term}": ("cpsc", {other: 0.0 for other in TERMS if other != weight})
            for weight, term in TERMS.items()
        },
    },
    contrasts={
        **{f"- {term}": "full" for term in ("ikd", *TERMS.values())},
        "bare": "full",
        **{f"bare + {term}": "bare" for term in TERMS.values()},
    },
    on=small(digits=500, mnist=600),
    seeds=(0, 1, 2),
    budget=updates(150_000),
    note="Settings of CPSC's CIFAR-100 command.",
)
