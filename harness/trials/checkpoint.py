"""The checkpoint of a trial, written and read: what crosses a kill, and what is kept at its end."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

from harness import files
from harness.errors import DfkdError, Interrupted
from harness.interface import Method
from harness.store.directory import TrialDir


def _file(run: TrialDir) -> Path:
    return run.path / "checkpoint" / "state.pt"


def pools_of(run: TrialDir) -> Path:
    """Where a trial's pools lie beside its checkpoint, to be dropped with it."""
    return run.path / "checkpoint" / "pools"


def write(run: TrialDir, method: Method, progress: dict[str, Any]) -> None:
    """Replace a trial's checkpoint atomically: a kill leaves the old one or the new one.

    Args:
        run: the trial's directory.
        method: where it stands, with its problem's clock and count of flops, and torch's generators.
        progress: what the loop itself carries across rounds; plain values and tensors.
    """
    compute = method.problem.compute
    state = {
        "method": state_of(method),
        "progress": progress,
        "clock": vars(method.problem.clock),
        "flops": compute.meter.flops,
        "rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if compute.device.type == "cuda" else [],
    }
    _file(run).parent.mkdir(exist_ok=True)
    files.write_torch(_file(run), state)


def read(run: TrialDir, method: Method) -> dict[str, Any] | None:
    """Continue from what `write` left: the loop's progress, or None where a trial has no checkpoint yet.

    Raises:
        Interrupted: for one that cannot be read, or is ahead of the curve; it is gone, and ``method`` may be
            half loaded.
    """
    compute = method.problem.compute
    if not _file(run).exists():  # killed before its first checkpoint
        shutil.rmtree(pools_of(run), ignore_errors=True)
        return None
    try:
        state = torch.load(_file(run), map_location="cpu", weights_only=True)
        rows, points = state["progress"]["rows"], len(run.curve())
        if points < rows:
            raise DfkdError(f"curve.jsonl has {points} points, the checkpoint {rows}")
        restore(method, state["method"])
    except Exception as error:
        # The method may be half loaded: forget the file and let the next try start from nothing.
        _file(run).unlink()
        shutil.rmtree(pools_of(run), ignore_errors=True)
        run.cut(0)
        line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Interrupted(f"checkpoint cannot be read, the trial starts over: {line}") from error
    vars(method.problem.clock).update(state["clock"])
    compute.meter.flops = state["flops"]
    torch.set_rng_state(state["rng"])
    if state["cuda_rng"] and compute.device.type == "cuda":
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return dict(state["progress"])


def state_of(method: Method) -> dict[str, Any]:
    """Everything that crosses rounds, loadable with ``weights_only=True``."""
    return {
        "S": method.S.state_dict(),
        "parts": {k: m.state_dict() for k, m in method.parts.items()},
        "opts": {k: o.state_dict() for k, o in method.opts.items()},
        "pools": {k: p.state() for k, p in method.pools.items()},
        "rng": method.problem.rng.get_state(),
        "scalers": method.problem.compute.scaler_state(),
        "updates": dict(method.updates),
        "extra": method.extra_state(),
    }


def restore(method: Method, state: dict[str, Any]) -> None:
    """Continue from `state_of`.

    Raises:
        DfkdError: when the state belongs to another method or another network.
    """
    if set(state["parts"]) != set(method.parts) or set(state["opts"]) != set(method.opts):
        raise DfkdError(f"checkpoint holds parts {sorted(state['parts'])}, not {sorted(method.parts)}")
    method.S.load_state_dict(state["S"])
    for k, o in method.opts.items():
        o.load_state_dict(state["opts"][k])
    method.problem.rng.set_state(state["rng"])
    method.problem.compute.load_scaler_state(state["scalers"])
    method.updates = dict(state["updates"])
    restore_final(method, state)


def final_of(method: Method) -> dict[str, Any]:
    """What `Method.sample` needs when the trial is over and its ``scratch`` is gone; of pools, an excerpt."""
    return {
        "parts": {k: m.state_dict() for k, m in method.parts.items()},
        "pools": {k: p.excerpt() for k, p in method.pools.items() if k in method.SAMPLED},
        "extra": method.extra_state(),
    }


def restore_final(method: Method, state: dict[str, Any]) -> None:
    """Sample from `final_of` from now on."""
    for k, m in method.parts.items():
        m.load_state_dict(state["parts"][k])
    for k, kept in state["pools"].items():
        method.pools[k].load(kept)
    method.load_extra_state(state["extra"])
