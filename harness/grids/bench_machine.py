"""What the machine itself gives and takes: its matrix product, a run without trials, trials side by side."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from typing import Any

import torch

from harness.compute import own_globals, pick_device
from harness.errors import DfkdError
from harness.nets.catalog import build
from harness.tasks import catalog

#: side of the matrices of `matmul`, on a CPU and on a GPU
_SIDES = {"cpu": 1024, "cuda": 8192}
#: processes at most that are started to see how they get into each other's way; images of their batch
_CROWD, _BATCH = 32, 64
#: what a run does before its first trial and after its last
_ON_RAY = """
from harness.schedule import connected
with connected(None):
    import ray
    from ray import tune
    ray.get(ray.remote(lambda: __import__("harness.trials.trial")).remote())
import reports.page
"""


def device_name(device: str) -> str:
    """``cpu``, or the name of the GPU.

    Raises:
        DfkdError: for a GPU that is not there.
    """
    found = pick_device(device)
    return torch.cuda.get_device_name(found) if found.type == "cuda" else found.type


def matmul(device: str, threads: int, precision: str = "fp32", seconds: float = 0.5) -> float:
    """Operations a second of the best product of two large square matrices, 2 per multiply-add.

    Args:
        device: where.
        threads: of the CPU.
        precision: ``fp32``, without TF32 as in a trial, ``bf16`` or ``fp16``.
        seconds: how long to try.
    """
    where = pick_device(device)
    n = _SIDES[where.type]
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    with own_globals(0, threads):
        a, b = (torch.rand(n, n, device=where).to(kind) for _ in range(2))
        best, began = float("inf"), time.perf_counter()
        while best == float("inf") or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            torch.matmul(a, b)
            _wait(where)
            best = min(best, time.perf_counter() - start)
    return 2 * n**3 / best


def run_start(ray: bool) -> float:
    """Seconds of a run without trials, from Python's start to end.

    Args:
        ray: whether it starts Ray and a worker.

    Raises:
        DfkdError: when that fails.
    """
    words = _ON_RAY if ray else "import harness.trials.trial, reports.page.page"
    began = time.perf_counter()
    _hear([_started(words)], "a run that does nothing failed, so its time is not known")
    return time.perf_counter() - began


def crowding(
    task: str, net: str, workers: int, threads: int, device: str = "cpu", seconds: float = 2.0
) -> float:
    """How many times longer a network takes for a batch with all workers at it than with one.

    Args:
        task: whose images, as noise.
        net: which network.
        workers: processes; of more than 32, as many are tried.
        threads: of the CPU, in each.
        device: where; all of them on the same.
        seconds: of work, alone and together.

    Returns:
        At least 1: the rest is chance.

    Raises:
        DfkdError: when one of them fails.
    """
    if workers < 2:
        return 1.0
    words = f"from {__name__} import batches; batches({task!r}, {net!r}, {threads}, {device!r}, {seconds})"
    failed = "a process that was to show how trials slow each other down failed"
    alone, together = (
        statistics.mean(float(said) for said in _hear([_started(words) for _ in range(n)], failed))
        for n in (1, min(workers, _CROWD))
    )
    return max(1.0, together / alone)


def batches(task: str, net: str, threads: int, device: str, seconds: float) -> None:
    """A process of `crowding`: print the median seconds of a batch."""
    described, where = catalog.describe(task), pick_device(device)
    with own_globals(0, threads), torch.no_grad():
        model = build(net, described).to(where).to(memory_format=torch.channels_last)
        x = torch.rand(_BATCH, *described.shape, device=where)
        times, began = list[float](), time.perf_counter()
        while len(times) < 3 or time.perf_counter() - began < seconds:
            start = time.perf_counter()
            model(x)
            _wait(where)
            times.append(time.perf_counter() - start)
    print(statistics.median(times))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _started(words: str) -> subprocess.Popen[str]:
    path = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", words], text=True, env=path, **pipes)


def _hear(crowd: list[subprocess.Popen[str]], failed: str) -> list[str]:
    """What each process printed at its end."""
    said = [one.communicate() for one in crowd]
    for one, (_, complaint) in zip(crowd, said, strict=True):
        if one.returncode:
            raise DfkdError(f"{failed}: {(complaint.strip().splitlines() or ['no word of why'])[-1]}")
    return [out for out, _ in said]
