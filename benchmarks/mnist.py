"""MNIST: LeNet-5 -> its half as in DAFL's table, the same pair with BatchNorm, and WRN-16-2 -> WRN-16-1.

Run:    dfkd run benchmarks/mnist.py --pair lenet5:lenet5_half --pair lenet5_bn:lenet5_half_bn
        (the data: dfkd tasks --download mnist). Any part of it, as often as you like: what is done stays.
Cost:   see the README; generators of 28 x 28 images cost far more here than the networks.
Expect: DAFL's table (arXiv 1904.01186, teacher 98.91): scratch 98.65, KD 98.91, Gaussian noise 88.01, DAFL
        98.20; DFAD's (arXiv 1912.11006, teacher 98.9): DFAD 98.3.

``lenet5_bn`` and ``lenet5_half_bn`` have BatchNorm after each convolution: methods that match the teacher's
statistics need it, and are skipped with that reason on the plain pair. Budgets are reduced: 600 updates, and
20,000 for DAFL (its authors: 24,000 at batch 512), whose lr_g is 0.02: the authors' 0.2 collapsed at
batch 128.
"""

from harness.config import Budget, Grid


def updates(n: float) -> Budget:
    """So many steps of the student."""
    return Budget(amount=n, unit="student_updates")


GRID = Grid(
    tasks=("mnist",),
    pairs=(("lenet5", "lenet5_half"), ("lenet5_bn", "lenet5_half_bn"), ("wrn16_2", "wrn16_1")),
    variants="all",
    settings={
        "*": {"batch": 128, "synthesis_batch": 128, "lr_s": 0.03},
        "dafl": {
            "nz": 100,
            "oh": 1.0,
            "a": 0.1,
            "opt_s": "adam",
            "lr_s": 2e-3,
            "weight_decay": 0.0,
            "schedule": "cosine",
        },
        "zskt": {
            "protocol": "datafree",
            "final": "tanh_bn",
            "sample_mode": "train",
            "student_bn": "train",
            "g_schedule": "same",
            "lr_s": 0.1,
        },
        "noise": {"lr_s": 0.1},
        "untrained": {"lr_s": 0.1},
        "dfad": {"schedule": "cosine", "beta1_g": 0.5},
        "dfq": {"bn": 0.1, "s_steps": 5, "final": "tanh_bn", "sample_mode": "train", "student_bn": "train"},
        "deepinversion": {"g_steps": 100, "s_steps": 100},
        "adi": {"g_steps": 100, "s_steps": 100},
        "cmi": {"g_steps": 60, "s_steps": 100, "bank_draw": 256},
        "fast": {"g_steps": 5, "s_steps": 25, "warmup_rounds": 4, "lr_s": 0.2},
        "cpsc": {"g_steps": 2, "s_steps": 5, "alpha": 0.1, "lr_s": 0.02},
    },
    seeds=(0,),
    precision="bf16",
    note=(
        "Settings of digits, hand-tuned there, at two rates of the student each, digits' own and 0.03: the "
        "better on val (5,999 images, one seed) stands, for both pairs. The LeNets have no BatchNorm before "
        "their last layers: a rate of 0.1 killed the students of kd and cpsc. cpsc had three tries more "
        "(alpha, beta). DAFL has its authors' settings for MNIST but for lr_g and the batch, which had "
        "twelve tries of up to 2,700 rounds, looked at on val."
    ),
    budget=updates(600),
    budgets={"dafl": updates(20_000)},
)
