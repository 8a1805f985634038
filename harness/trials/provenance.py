"""Where a number was made: machine, packages, commit. Recorded beside every result."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil
import torch

from harness.store.cards import Card


@lru_cache(maxsize=1)
def machine() -> str:
    """Processor and number of cores, as one line."""
    model = platform.processor() or platform.machine()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((s.partition(":")[2].strip() for s in lines if s.startswith("model name")), model)
    return f"{platform.system()} {platform.machine()}, {model}, {os.cpu_count()} cores"


@lru_cache(maxsize=1)
def kernels() -> str:
    """For which processors torch and the BLAS of NumPy and SciPy have chosen their code, as one line.

    They choose by what the processor can do, which `machine` is too coarse for, and each choice rounds in its
    own way: ``torch AVX512, openblas 0.3.31.188.0 SkylakeX``.
    """
    import scipy.linalg  # noqa: F401 - has a BLAS of its own, which is listed once it is loaded
    import torch
    from threadpoolctl import threadpool_info

    found = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    names = ("internal_api", "version", "architecture")
    blas = sorted({" ".join(str(lib[k]) for k in names if lib.get(k)) for lib in found})
    return ", ".join([f"torch {torch.backends.cpu.get_cpu_capability()}", *blas])


@lru_cache(maxsize=1)
def commit() -> str:
    """Commit of the checkout this code runs from (``+`` where it has local changes), or the version."""
    here = Path(__file__).resolve().parents[2]
    if (here / ".git").exists():
        with suppress(OSError, subprocess.SubprocessError):
            head = _git(here, "rev-parse", "--short=12", "HEAD")
            dirty = _git(here, "status", "--porcelain", "--untracked-files=no")
            return head + ("+" if dirty else "")
    try:
        return f"v{version('dfkd-bench')}"
    except PackageNotFoundError:
        return "unknown"


def _git(where: Path, *args: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(where), *args], capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()


def provenance(card: Card, data_digest: str, device: torch.device) -> dict[str, Any]:
    """Of a trial's numbers: its teacher, its data, and what this process computes with.

    Args:
        card: of the teacher.
        data_digest: of the task's images.
        device: where it ran.
    """
    gpu = {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}
    return gpu | {
        "teacher_digest": card.digest,
        "teacher_top1": card.top1,
        "data_digest": data_digest,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": machine(),
        "kernels": kernels(),
        "commit": commit(),
    }


def reset_peak_memory(device: torch.device) -> None:
    """Forget what earlier work of this process took on a GPU."""
    if device.type == "cuda":
        torch.cuda.init()  # before the first use there is nothing to reset, and torch refuses
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> float:
    """MiB: the GPU allocator's most since `reset_peak_memory`, or this process's resident set now."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return float(psutil.Process().memory_info().rss) / 2**20
