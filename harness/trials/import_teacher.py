"""Teachers that others trained: plain state dicts of the CMI/DataFree family and of CPSC-DFKD.

Nothing in such a file is executed: safetensors, or `torch.load` with ``weights_only=True``.
"""

from __future__ import annotations

import math
import pickle
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from harness.errors import DfkdError
from harness.files import saying
from harness.nets.base import Net, reset_normaliser
from harness.nets.catalog import build
from harness.store.cards import Card, slug
from harness.tasks import catalog, images
from harness.trials.teachers import accuracy, write

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "teacher")
#: what data-parallel and compiled modules put before every name
_PREFIX = re.compile(r"^(?:module\.|_orig_mod\.)+")
#: how torch's zip files and bare pickles begin
_PICKLES = (b"PK", b"\x80")
#: heads by any name: ours are CMI's and CPSC's (``linear`` in ResNets, ``fc`` in WRNs, ``classifier`` in VGG)
_HEADS = ("linear.", "fc.", "classifier.")
#: CMI's LeNet-5 numbers its layers
_LENET = {
    "features.0.": "conv1.",
    "features.3.": "conv2.",
    "features.6.": "conv3.",
    "fc.0.": "fc1.",
    "fc.2.": "fc2.",
}


def read_state(file: Path) -> dict[str, Tensor]:
    """Tensors of a file by name, a wrapper taken off.

    Raises:
        DfkdError: for a missing or damaged file, one that holds code, or no state dict.
    """
    found = _opened(file)
    for key in _WRAPPERS:
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
            break
    if not isinstance(found, Mapping) or not any(isinstance(v, Tensor) for v in found.values()):
        raise DfkdError(f"{file} holds no state dict: a mapping of names to tensors is wanted")
    return {str(k): v for k, v in found.items() if isinstance(v, Tensor)}


def _opened(file: Path) -> Any:
    with saying(f"{file} cannot be read"), file.open("rb") as opened:
        head = opened.read(512).lstrip()
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged file can make an unpickler raise anything
        # What the file begins with says why better than torch, which advises to load it unsafely.
        if head.startswith(b"<"):
            why = "is a web page, not weights: its download failed"
        elif isinstance(error, pickle.UnpicklingError) and head.startswith(_PICKLES):
            why = (
                "holds Python objects, not only tensors, and loading them could run code; "
                "save net.state_dict() alone and import that"
            )
        else:
            why = "is damaged, cut off, or neither a PyTorch nor a safetensors file"
        raise DfkdError(f"{file} {why}") from None


def fit(state: Mapping[str, Tensor], net: Net, file: Path) -> dict[str, Tensor]:
    """The tensors under our names, every key of the network present and of its shape.

    Raises:
        DfkdError: naming what is missing, unexpected or of another shape.
    """
    own = net.state_dict()
    given = {_name(key, net, own): value for key, value in state.items()}
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
    if bad := [k for k in own if k in given and not given[k].isfinite().all()]:
        raise DfkdError(f"{file} holds numbers that are not finite: {_few('spoilt', bad)}")
    return {k: given[k].to(own[k].dtype) if k in given else own[k] for k in own}


def _name(key: str, net: Net, own: Mapping[str, Tensor]) -> str:
    """A file's key under our name; as it is where we know no such thing."""
    name = _PREFIX.sub("", key)
    if name in own:
        return name
    aliases = dict.fromkeys(_HEADS, f"{net.HEAD}.") | _LENET
    for theirs, ours in aliases.items():
        if name.startswith(theirs) and (known := ours + name.removeprefix(theirs)) in own:
            return known
    return name


def _few(what: str, keys: list[str]) -> str:
    more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
    return f"{len(keys)} keys {what} ({', '.join(keys[:3])}{more})" if keys else ""


def normaliser(text: str, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) from the name of a task or from ``m1,m2,m3/s1,s2,s3``.

    Raises:
        DfkdError: for anything else.
    """
    if text in catalog.names():
        task = catalog.describe(text)
        mean, std = task.mean, task.std
    else:
        try:
            mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split("/"))
        except ValueError:
            known = ", ".join(catalog.names())
            raise DfkdError(f"--normalise {text!r} is neither a task ({known}) nor MEANS/STDS") from None
    usable = all(map(math.isfinite, mean + std)) and min(std) > 0
    if len(mean) != channels or len(std) != channels or not usable:
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
        normalise: constants it was trained with (see `normaliser`); by default those that the file holds,
            as ours do, else the task's.
        data_root: see `harness.tasks.images.data_root`.
        device: where to measure.

    Raises:
        DfkdError: for a file that does not fit, or one that gets no more than chance right.
    """
    found = images.load(task_name, data_root)
    with torch.random.fork_rng(devices=[]):
        net = build(net_name, found.task)
    state = fit(read_state(file), net, file)
    net.load_state_dict(state)  # its mean and std are the task's unless the file had some
    if normalise:
        reset_normaliser(net, *normaliser(normalise, found.task.channels))
    top1 = accuracy(net.eval().to(device), found.test, device)
    chance, n = 1 / found.task.K, len(found.test)
    if top1 <= 100 * (chance + 3 * math.sqrt(chance * (1 - chance) / n)):
        raise DfkdError(
            f"{file} gets {top1:.1f} % on {task_name}, no more than chance: another task, or other "
            "constants (--normalise)"
        )
    path = Path(dir) / slug(task_name) / f"{net_name}-import-{{digest}}.safetensors"
    return write(path, net.to("cpu"), found, top1, {"source": "imported", "origin": file.name})
