"""What of a trial's method crosses a kill, and what of it is kept when the trial is over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.errors import DfkdError
from harness.interface import Method
from harness.store.directory import TrialDir


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


def pools_of(run: TrialDir) -> Path:
    """Where a trial's pools lie beside its checkpoint, to be dropped with it."""
    return run.path / "checkpoint" / "pools"
