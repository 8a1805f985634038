"""Teachers that others trained: plain state dicts of the CMI/DataFree family and of CPSC-DFKD.

Nothing in such a file is executed: safetensors, or `torch.load` with ``weights_only=True``.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from harness import data
from harness.errors import DfkdError
from harness.nets.base import Net, build, reset_normaliser
from harness.teachers import Card, accuracy, slug, write

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "teacher")
#: what data-parallel and compiled modules put before every name
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.)+")
#: heads by any name: ours are those of CMI and CPSC (``linear`` in ResNets, ``fc`` in WRNs, ``classifier`` in VGG)
_HEADS = ("linear.", "fc.", "classifier.")


def read_state(file: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, a wrapper and ``module.`` prefixes taken off.

    Raises:
        DfkdError: for a missing file, one that holds code, or no state dict.
    """
    if not file.exists():
        raise DfkdError(f"{file} does not exist")
    try:
        if file.suffix == ".safetensors":
            found: Any = load_file(file)
        else:
            found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise DfkdError(
            f"{file} holds Python objects, not only tensors, and loading them could run code; "
            "save net.state_dict() alone and import that"
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise DfkdError(f"{file} cannot be read as a state dict: {line}") from None
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not any(isinstance(v, Tensor) for v in found.values()):
        raise DfkdError(f"{file} holds no state dict: a mapping of names to tensors is wanted")
    return {str(k): v for k, v in found.items() if isinstance(v, Tensor)}


def fit(state: Mapping[str, Tensor], net: Net, file: Path) -> dict[str, Tensor]:
    """The tensors under our names, every key of the network present and of its shape.

    Raises:
        DfkdError: naming what is missing, unexpected or of another shape.
    """
    own = net.state_dict()
    given: dict[str, Tensor] = {}
    for key, value in state.items():
        name = _PREFIX.sub("", key)
        for head in _HEADS:
            tail = name.removeprefix(head)
            if name not in own and name.startswith(head) and f"{net.HEAD}.{tail}" in own:
                name = f"{net.HEAD}.{tail}"
        given[name] = value
    optional = {k for k in own if k in ("mean", "std") or k.endswith("num_batches_tracked")}
    missing = sorted(own.keys() - given.keys() - optional)
    unexpected = sorted(given.keys() - own.keys())
    misfits = [
        f"{k} {tuple(given[k].shape)} for {tuple(own[k].shape)}"
        for k in sorted(given.keys() & own.keys())
        if given[k].shape != own[k].shape
    ]
    told = [_few("missing", missing), _few("unexpected", unexpected), _few("of another shape", misfits)]
    if any(told):
        raise DfkdError(f"{file} does not fit {net.name}: {'; '.join(t for t in told if t)}")
    return {k: given[k].to(own[k].dtype) if k in given else own[k] for k in own}


def _few(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{len(keys)} keys {what} ({', '.join(keys[:3])}{more})" if keys else ""


def normaliser(text: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) from the name of a task or from ``m1,m2,m3/s1,s2,s3``.

    Raises:
        DfkdError: for anything else.
    """
    if text in data.names():
        task = data.describe(text)
        mean, std = task.mean, task.std
    else:
        try:
            mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split("/"))
        except ValueError:
            known = ", ".join(data.names())
            raise DfkdError(f"--normalise {text!r} is neither a task ({known}) nor MEANS/STDS") from None
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise DfkdError(f"--normalise {text!r} does not give {channels} means and positive stds")
    return mean, std


def import_file(
    dir: Path,
    file: Path,
    task_name: str,
    net_name: str,
    *,
    normalise: str | None = None,
    data_root: Path | None = None,
    device: str = "cpu",
) -> Card:
    """Take somebody's weights as a teacher: fit the keys, measure the accuracy, write file and card.

    Args:
        dir: the teachers' folder.
        file: ``.pt``, ``.pth`` or ``.safetensors``.
        task_name: what it was trained on.
        net_name: which of our networks it is.
        normalise: constants it was trained with; default the task's own.
        data_root: see `harness.data.data_root`.
        device: where to measure.

    Raises:
        DfkdError: for a file that does not fit, or one that gets no more than chance right.
    """
    found = data.load(task_name, data_root)
    with torch.random.fork_rng(devices=[]):
        net = build(net_name, found.task)
    net.load_state_dict(fit(read_state(file), net, file))
    # A foreign file has no say in the normaliser unless it is one of ours and says so itself.
    mean, std = normaliser(normalise, found.task.channels) if normalise else (found.task.mean, found.task.std)
    reset_normaliser(net, mean, std)
    top1 = accuracy(net.eval().to(device), found.test, device)
    if top1 <= 150.0 / found.task.K:
        raise DfkdError(
            f"{file} gets {top1:.1f} % on {task_name}, hardly more than chance: another task, or other "
            "constants (--normalise)"
        )
    path = Path(dir) / slug(task_name) / f"{net_name}-import-{{digest}}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write(path, net.to("cpu"), found, top1, {"source": "imported", "origin": file.name})
