"""Whether a method runs with given settings, found out on a toy problem in a fraction of a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from harness import registry
from harness.errors import DfkdError

if TYPE_CHECKING:
    from harness.interface import Method

#: a round is tried with at most these step counts, sizes and stores, as far as the method takes them
_STEPS = {"g_steps": 1, "s_steps": 1, "warmup_rounds": 0}
_SIZES = {"batch": 4, "synthesis_batch": 4, "nz": 8}
_STORES = {"pool": 64, "bank": 64, "bank_draw": 16}


def loss_of(method: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """``error``: why the method has no loss with these settings, or empty; ``terms``: names of its terms.

    Args:
        method: its name.
        settings: all of them; `obstacles` has found none.
    """
    from harness.compute import own_globals

    with own_globals(0, 1):
        made = _smallest(method, settings)
        try:
            return {"error": "", "terms": sorted(made.round())}
        except DfkdError as error:
            return {"error": str(error), "terms": []}


def _smallest(method: str, settings: Mapping[str, Any]) -> Method:
    from harness.check import toy_method

    for most in (_STEPS | _SIZES | _STORES, _STEPS | _STORES):
        with suppress(DfkdError):  # a method may want larger batches, or a number of steps that is its own
            return toy_method(method, dict(settings) | _shrunk(settings, most))
    return toy_method(method, dict(settings) | _shrunk(settings, _STORES))


def _shrunk(settings: Mapping[str, Any], most: Mapping[str, int]) -> dict[str, Any]:
    return {k: min(settings[k], v) for k, v in most.items() if isinstance(settings.get(k), int)}


def obstacles(
    method: str, settings: Sequence[Mapping[str, Any]], cells: Sequence[tuple[str, tuple[str, str]]]
) -> Iterator[str]:
    """Why the method refuses its settings in each cell (task, pair), or an empty text."""
    from harness.check import toy_method, toy_problem
    from harness.compute import own_globals
    from harness.data import describe
    from harness.nets.base import spec

    cls, problem = registry.methods.get(method), None
    for each, (name, pair) in zip(settings, cells, strict=True):
        task = describe(name)
        if reason := cls.skip(cls.HP(**each), task, *(spec(net, task) for net in pair)):
            yield reason
            continue
        with own_globals(0, 1):
            problem = problem or toy_problem()
            try:
                toy_method(method, dict(each) | _shrunk(each, _STORES), problem=problem)
            except DfkdError as error:
                yield str(error)
            else:
                yield ""
