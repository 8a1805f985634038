"""The authors' settings for CIFAR: rows, budgets, and what goes with a task or a pair; not a grid itself.

What the headers call the cost of a grid is `harness.trials.costs.flops_per_update` of each row and pair on
CIFAR-10, times its updates and seeds: two FLOP a multiply-add, without warm-up rounds, the teachers' training
and the tests. CIFAR-100 is taken to cost the same, Tiny-ImageNet, with four times the pixels, four times as
much.
"""

from typing import Any

from harness.config import Budget, On


def updates(n: float) -> Budget:
    """So many steps of the student."""
    return Budget(amount=n, unit="student_updates")


#: references and controls, then every method, each as its authors and as the DataFree family run it; FastDFKD
#: at its three k and their rates; no label has a comma, so that ``--methods`` can name them
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "scratch": ("scratch", {}),
    "kd": ("kd", {}),
    "noise": ("noise", {}),
    "untrained": ("untrained", {}),
    "dafl": ("dafl", {}),
    # the preset's own weights, written out: what a task or a pair asks of DAFL is meant for the authors' loop
    "dafl (DataFree)": ("dafl", {"protocol": "datafree", "oh": 1.0, "a": 0.001, "ie": 20.0}),
    "zskt": ("zskt", {}),
    "zskt (DataFree)": ("zskt", {"protocol": "datafree"}),
    "dfad": ("dfad", {}),
    "dfad (DataFree)": ("dfad", {"protocol": "datafree"}),
    "deepinversion (DataFree)": ("deepinversion", {"protocol": "datafree"}),
    "adi (DataFree)": ("adi", {"protocol": "datafree"}),
    "dfq": ("dfq", {}),
    "cmi": ("cmi", {}),
    "fast k=2": ("fast", {"g_steps": 2, "lr_z": 0.015, "lr_g": 5e-3}),
    "fast k=5": ("fast", {"g_steps": 5, "lr_z": 0.01, "lr_g": 3e-3}),
    "fast k=10": ("fast", {"g_steps": 10, "lr_z": 0.01, "lr_g": 2e-3}),
    "cpsc": ("cpsc", {}),
    "cpsc released": ("cpsc", {"fidelity": "released"}),
}

#: the authors' own, in student updates, by row; 80,000 (200 x 400, the DataFree family) for the others. DAFL
#: 2000 x 120, ZSKT 80,000 x 10, DFAD 500 x 250, CPSC 600 x 250; references and controls 200 x 390 batches
FAMILY = updates(80_000)
BUDGETS: dict[str, Budget] = {
    "scratch": updates(78_000),
    "kd": updates(78_000),
    "noise": updates(78_000),
    "untrained": updates(78_000),
    "dafl": updates(240_000),
    "zskt": updates(800_000),
    "dfad": updates(125_000),
    "cpsc": updates(150_000),
    "cpsc released": updates(150_000),
}

#: DAFL's weights in its command for CIFAR-100
DAFL_CIFAR100: dict[str, Any] = {"oh": 0.5, "a": 0.1, "ie": 20.0}

#: what the authors' scripts change with the task or the pair
AUTHORS: dict[str, On] = {
    "cifar100": On(settings={"dafl": DAFL_CIFAR100}),
    "tiny_imagenet": On(settings={"dafl": DAFL_CIFAR100}),
    "resnet34:resnet18": On(settings={"fast": {"adv": 1.33, "oh": 0.5}, "dfq": {"lr_s": 0.05}}),
    "vgg11:resnet18": On(settings={"fast": {"adv": 1.0, "oh": 0.5}}),
}
