"""Writes the synthetic trials that the report's golden files are made from; run once, kept as the recipe.

Every kind of row a report can meet: references, a method complete, one still climbing, a failed seed, a
stale row, two teacher files, a control, one seed, a skip, a missing cell, and a name that is not ASCII.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
POINTS = 40
NO_FID = "no Inception weights: give --inception-weights FILE"
OLD, NEW = "1f" * 32, "9c" * 32

# label, method, reference, end accuracy by seed (None: failed), rounds for 63 % of the way, flops a round
ROWS = [
    ("scratch", "scratch", True, (97.1, 97.4, 96.9), 12, 2.1e9),
    ("kd", "kd", True, (98.2, 98.0, 98.3), 10, 3.3e9),
    ("dafl", "dafl", False, (88.1, 90.4, 86.2), 160, 9.4e9),
    ("dfad", "dfad", False, (93.5, None, 92.9), 35, 5.2e9),
    ("cpsc", "cpsc", False, (96.8, 96.3, 97.0), 30, 7.7e9),
    ("cpsc - L_BN <β=0> | größer", "cpsc", False, (95.9, 95.1, 96.2), 32, 7.1e9),
]


def trial(label: str, method: str, reference: bool, seed: int, **more: object) -> dict[str, object]:
    settings = {"beta": 0.0 if "β" in label else 1.0, "alpha": 5.0} if method == "cpsc" else {}
    return {
        "id": f"{abs(hash_(label, seed, more.get('task', ''))):012x}"[:12],
        "task": "digits", "teacher": "wrn16_2", "student": "wrn16_1", "variant": label, "method": method,
        "reference": reference, "control": method == "noise", "seed": seed, "teacher_seed": 0,
        "budget": "400:rounds", "precision": "fp32", "status": "done", "reason": "",
        "settings": json.dumps(settings, sort_keys=True), "classes": 10.0,
        "stale": "", "warnings": "", "unavailable": "", "teacher_digest": "", "data_digest": "",
        "device": "", "torch": "", "python": "", "machine": "", "commit": "",
    } | more  # fmt: skip


def hash_(*parts: object) -> int:
    import hashlib

    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big")


def results(end: float, tau: float, flops: float, rng: np.random.Generator, reference: bool, digest: str):
    rounds = np.arange(1, POINTS + 1) * (400 // POINTS)
    top1 = 10 + (end - 10) * (1 - np.exp(-rounds / tau)) + rng.normal(0, 0.25, POINTS)
    top1 = np.round(top1 * 8.98) / 8.98  # 898 test images
    tail = max(1, POINTS // 10)
    unavailable = {"fid_898_test": NO_FID}
    if reference:
        unavailable |= dict.fromkeys(("fd_teacher", "class_coverage"), "makes no images")
    numbers = {
        "top1": top1[-1], "agreement": min(99.5, top1[-1] + 0.4),
        "fd_teacher": math.nan if reference else 40 + (98 - end) * 6 + rng.normal(0, 1),
        "class_coverage": math.nan if reference else 100.0, "fid_898_test": math.nan,
        "top1_tail": top1[-tail:].mean(), "top1_mean": top1.mean(), "top1_std": top1.std(ddof=1),
        "top1_oracle": top1.max(), "rounds": 400.0, "student_updates": 800.0, "flops": 400 * flops,
        "seconds": 400 * flops / 9e10, "seconds_total": 400 * flops / 8e10, "peak_memory_mb": 512.0,
        "teacher_top1": 99.11, "threads": 1.0,
    }  # fmt: skip
    texts = {
        "teacher_digest": digest, "data_digest": "d1" * 32, "device": "cpu", "torch": "2.9.0",
        "python": "3.12.3", "machine": "x86_64, 2 cores", "commit": "0123456789ab",
        "unavailable": json.dumps(unavailable, sort_keys=True),
    }  # fmt: skip
    curve = [
        {"point": i, "round": float(r), "student_updates": 2.0 * r, "flops": flops * r, "top1": t}
        for i, (r, t) in enumerate(zip(rounds.tolist(), top1.tolist(), strict=True))
    ]
    return {k: round(float(v), 4) for k, v in numbers.items()} | texts, curve


def main() -> None:
    rng = np.random.default_rng(7)
    trials, points = [], []

    def done(row: dict[str, object], end: float, tau: float, flops: float, digest: str = NEW) -> None:
        numbers, curve = results(end, tau, flops, rng, bool(row["reference"]), digest)
        trials.append(numbers | {k: v for k, v in row.items() if v != "" or k not in numbers})
        for p in curve:
            points.append({"id": row["id"], "variant": row["variant"], "seed": row["seed"]} | p)

    for label, method, reference, ends, tau, flops in ROWS:
        for seed, end in enumerate(ends):
            row = trial(label, method, reference, seed)
            if end is None:
                trials.append(
                    row | {"status": "failed", "reason": "loss of 'G' is not finite in round 31: bn"}
                )
            else:
                done(row, end, tau, flops)
    trials[6]["warnings"] = "mode collapse: 4 of 10 classes hold 92 % of the samples"
    for seed, digest in ((0, OLD), (1, NEW), (2, NEW)):
        stale = "teacher file changed since" if digest == OLD else ""
        done(trial("two teachers", "dfad", False, seed, stale=stale), 91.0 + seed, 40, 5e9, digest)
    for seed in range(3):
        trials.append(
            trial("needs BN", "zskt", False, seed, status="skipped", reason="teacher has no BatchNorm layer")
        )
        trials.append(trial("cmi", "cmi", False, seed, status="missing" if seed else "running"))
    done(trial("cpsc", "cpsc", False, 0, task="mnist", budget="2000:student_updates"), 98.4, 25, 9.1e9)
    trials.append(trial("dafl", "dafl", False, 0, task="mnist", status="failed", reason="loss is nan"))
    for seed in range(3):
        done(trial("noise", "noise", False, seed), 84.0 + seed, 30, 1e9)
    for name, rows in (("trials", trials), ("curves", points)):
        lines = [
            json.dumps({k: None if v != v else v for k, v in row.items()}, ensure_ascii=False) for row in rows
        ]
        (HERE / f"report_{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
