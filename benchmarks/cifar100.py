"""CIFAR-100, WRN-40-2 -> WRN-16-1 and ResNet-34 -> ResNet-18, every method with its authors' settings.

Run:    dfkd run benchmarks/cifar100.py --gpus-per-trial 0.5        (the data: dfkd tasks --download cifar100)
Cost:   not measured: made on machines without a GPU. A GPU of 2020 takes days for the whole grid.
Expect: benchmarks of others lie between 20 and 77 % top-1; their teachers differ (78.05, 75.83 % for CMI's).

Budgets are the authors' own, in student updates: DAFL 2000 x 120, DFAD 500 x 250, CPSC 600 x 250 (its
command). References: 200 epochs of 390 batches.
"""

from harness.config import Budget, Grid

GRID = Grid(
    tasks=("cifar100",),
    pairs=(("wrn40_2", "wrn16_1"), ("resnet34", "resnet18")),
    variants={
        "scratch": ("scratch", {}),
        "kd": ("kd", {}),
        "dafl": ("dafl", {"oh": 0.5, "a": 0.1, "ie": 20.0}),
        "dfad": ("dfad", {}),
        "cpsc": ("cpsc", {}),
        "cpsc released": ("cpsc", {"fidelity": "released"}),
    },
    seeds=(0, 1, 2),
    budget=Budget(amount=78_000, unit="student_updates"),
    budgets={
        "dafl": Budget(amount=240_000, unit="student_updates"),
        "dfad": Budget(amount=125_000, unit="student_updates"),
        "cpsc": Budget(amount=150_000, unit="student_updates"),
        "cpsc released": Budget(amount=150_000, unit="student_updates"),
    },
    note="Authors' settings: DAFL's weights are those of its CIFAR-100 command.",
)
