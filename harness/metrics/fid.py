"""FID and KID in the features of pytorch-fid's InceptionV3; the only home of pytorch_fid.

Nothing is ever downloaded: a file of weights is given (``--inception-weights``) or lies in torch's cache, and
its SHA-256 is verified before it is opened. Nothing else in this project is called FID.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.errors import Unavailable
from harness.metrics.base import Evidence, Metric
from harness.metrics.distance import frechet, kid

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
#: how the file's SHA-256 begins, as its authors put it in its name
SHA256 = "6726825d"
MOST = 10_000
_BATCH = 50
#: how images become Inception's input; part of the name of cached features
_RESIZE = "bilinear299"


def weights_file(given: Path | None = None) -> Path | None:
    """The file of Inception weights: the given one, else the one in torch's cache, else None."""
    if given is not None:
        return given
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    found = Path(home).expanduser() / "hub" / "checkpoints" / WEIGHTS
    return found if found.exists() else None


def load_inception(file: Path) -> nn.Module:
    """pytorch-fid's InceptionV3, (B, 3, H, W) in [0, 1] -> [(B, 2048, 1, 1)], resized to 299 bilinearly.

    Raises:
        Unavailable: for a file that is missing, another one, or no weights.
    """
    import torch
    from pytorch_fid import inception

    try:
        with file.open("rb") as opened:
            found = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise Unavailable(f"Inception weights {file}: {error.strerror}") from None
    if not found.startswith(SHA256):
        raise Unavailable(
            f"Inception weights {file} have SHA-256 {found[:8]}..., not {SHA256}...: another file"
        )

    def from_file(*args: Any, **kwargs: Any) -> Any:
        return torch.load(file, map_location="cpu", weights_only=True)

    # pytorch-fid has no argument for a file: it asks this name, which would ask the network.
    asked = inception.load_state_dict_from_url
    inception.load_state_dict_from_url = from_file
    try:
        with torch.random.fork_rng(devices=[]):
            net: nn.Module = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[2048]])
    except Exception as error:  # whatever torch.load or a misfit raises
        raise Unavailable(
            f"Inception weights {file} cannot be loaded: {str(error).splitlines()[0]}"
        ) from error
    finally:
        inception.load_state_dict_from_url = asked
    return net.eval().requires_grad_(False)


def features(net: nn.Module, images: np.ndarray, device: str) -> np.ndarray:
    """(n, 2048) float32 of uint8 images (n, C, H, W); one channel is repeated to three."""
    import torch

    rows = []
    net.to(device)
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            x = (
                torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH])).to(device).float()
                / 255
            )
            x = x.expand(-1, 3, -1, -1) if x.shape[1] == 1 else x
            rows.append(net(x)[0].flatten(1).cpu().numpy())
    return np.concatenate(rows)


def _both(ev: Evidence) -> tuple[np.ndarray, np.ndarray, int]:
    made = ev.images_made()["images"]
    if ev.inception is None:
        raise Unavailable(f"no Inception weights: give {WEIGHTS} with --inception-weights")
    n = min(len(made), len(ev.test), MOST)
    if ev.features is None or len(ev.features[0]) != n:
        net = load_inception(ev.inception)
        ev.features = (features(net, made[:n], ev.device), _reference(ev, net, n))
    return (*ev.features, n)


def _reference(ev: Evidence, net: nn.Module, n: int) -> np.ndarray:
    """Features of the first n test images, kept in the cache under all that decides them."""
    key = f"{ev.data_digest[:16]}-{SHA256}-{_RESIZE}-{n}.npy"
    path = ev.cache / "inception" / key if ev.cache and ev.data_digest else None
    if path and path.exists():
        kept: np.ndarray = np.load(path, allow_pickle=False)
        return kept
    found = features(net, np.asarray(ev.test.images[:n]), ev.device)
    if path:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_name(f".{os.getpid()}-{path.name}")
        np.save(new, found)
        new.replace(path)
    return found


def fid(ev: Evidence) -> dict[str, float]:
    """FID of the first n samples (8-bit) against the first n test images; n is in the column's name."""
    made, real, n = _both(ev)
    return {f"fid_{n}_test": frechet(made, real)}


def kernel(ev: Evidence) -> dict[str, float]:
    """KID over the same features, whole sets; the one to trust for small n."""
    made, real, n = _both(ev)
    return {f"kid_{n}_test": kid(made, real)}


METRICS = (
    Metric("fid", "FID", "", "lower", ("samples", "Inception weights"), fid),
    Metric("kid", "KID", "", "lower", ("samples", "Inception weights"), kernel),
)
