"""What one CPSC round costs against the same round with the released code's wastes, as ratios of one run.

    make bench          (or: python -m tests.bench_round [--rounds 9] [--compile] [--threads 2])

WRN-40-2 -> WRN-16-1, 3 x 32 x 32, batch 64, one step of G and one of S. The wastes: weight gradients of T
and S in the G step; in the S step a graph through G and T, and BatchNorm statistics that nobody reads. Rounds
of all variants are taken in turn, so that a machine whose speed drifts slows them alike; figures are medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import nullcontext
from unittest import mock

import torch

from harness import registry
from harness.compute import Compute, own_globals
from harness.config import resolve
from harness.interface import Clock, Method, Problem, Task, Terms
from harness.nets.base import build
from methods import generative
from methods.cpsc import CPSC

CIFAR = Task("cifar10", 1, 3, 32, tuple("abcdefghij"), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
SETTINGS = {"batch": 64, "g_steps": 1, "s_steps": 1, "order": "G_first"}


class Wasteful(CPSC):
    """The same numbers, computed as the released code does."""

    def synthesize(self) -> Terms:
        """Weight gradients of T and S."""
        self.T.requires_grad_(True)
        with mock.patch.object(generative, "frozen", lambda *nets: nullcontext()):
            return super().synthesize()

    def distill(self) -> Terms:
        """A graph through G and T, statistics of every BatchNorm layer of T."""
        x, y = self.draw(self.hp.batch, self.problem.rng)
        t = generative.see(self.T, x.detach(), (*self.taps_S[0], "bn"))
        held = generative.Out(t.logits.detach(), None if t.h is None else t.h.detach())
        return self.step_S(held, generative.see(self.S, x.detach(), self.taps_S[1]), y)


def make(
    cls: type[Method], *, precision: str = "fp32", channels_last: bool = False, compile: bool = False
) -> Method:
    """A method on seeded random networks."""
    torch.manual_seed(0)
    teacher, student = build("wrn40_2", CIFAR), build("wrn16_1", CIFAR)
    with torch.no_grad():
        teacher(torch.rand(64, *CIFAR.shape))
    teacher.eval().requires_grad_(False)
    compute = Compute(precision=precision, channels_last=channels_last, compile=compile)
    compute.prepare("T", teacher)
    compute.prepare("S", student)
    problem = Problem(CIFAR, teacher, student, Clock(0, 0.5), torch.Generator().manual_seed(1), compute)
    cpsc = registry.methods.get("cpsc")
    method = cls(problem, cpsc.HP(**resolve("cpsc", cpsc.HP, cpsc.PRESETS, SETTINGS)))
    for name, part in method.parts.items():
        compute.prepare(name, part)
    return method


def main() -> None:
    """Print the table."""
    ask = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    ask.add_argument("--rounds", type=int, default=9)
    ask.add_argument("--threads", type=int, default=2)
    ask.add_argument("--compile", action="store_true", help="also the compiled variant (minutes to warm up)")
    given = ask.parse_args()
    with own_globals(0, given.threads):
        variants = {
            "wasteful": make(Wasteful),
            "wasteful, channels-last": make(Wasteful, channels_last=True),
            "ours": make(CPSC),
            "ours, channels-last": make(CPSC, channels_last=True),
            "ours, channels-last, bf16": make(CPSC, channels_last=True, precision="bf16"),
        }
        if given.compile:
            variants["ours, channels-last, bf16, compiled"] = make(
                CPSC, channels_last=True, precision="bf16", compile=True
            )
        first = {name: m.round() for name, m in variants.items()}
        worst = max(
            abs(float(first["ours"][k]) - float(v)) / max(1.0, abs(float(v)))
            for k, v in first["wasteful"].items()
        )
        for m in variants.values():
            for _ in range(2):
                m.round()
        seconds: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(given.rounds):
            for name, m in variants.items():
                began = time.perf_counter()
                m.round()
                seconds[name].append(time.perf_counter() - began)
    base = seconds["wasteful"]
    print(f"{given.threads} threads, {given.rounds} rounds each; terms differ by at most {worst:.1e}")
    print(f"{'variant':38} {'s a round':>9} {'ratio':>6}  (median; ratio to 'wasteful', pair by pair)")
    for name, took in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(took, base, strict=True))
        print(f"{name:38} {statistics.median(took):9.3f} {ratio:6.2f}")


if __name__ == "__main__":
    main()
