"""FID, KID and Inception Score by pytorch-fid's InceptionV3; the only home of pytorch_fid.

Nothing is ever downloaded: a file of weights is given (``--inception-weights``) or lies in torch's cache, and
its SHA-256 is verified before it is opened. Nothing else in this project is called FID.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness import files
from harness.errors import Unavailable
from harness.metrics.base import Column, Evidence, Metric
from harness.metrics.distance import frechet_features, inception_score, kid

if TYPE_CHECKING:
    from torch import nn

WEIGHTS = "pt_inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/mseitzer/pytorch-fid/releases/download/fid_weights/{WEIGHTS}"
#: how the file's SHA-256 begins, as its authors put it in its name
SHA256 = "6726825d"
#: images a side, at most
MOST = 10_000
WIDTH = 2048
_BATCH = 50
#: how images become Inception's input and which test images stand for n; part of the name of cached features
_RECIPE = "bilinear299-draw0"


def weights_file(given: Path | None = None) -> Path | None:
    """The file of Inception weights: the given one, else the one in torch's cache, else None."""
    if given is not None:
        return given
    home = os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "torch"
    found = Path(home).expanduser() / "hub" / "checkpoints" / WEIGHTS
    return found if found.exists() else None


def load_inception(file: Path) -> tuple[nn.Module, np.ndarray, str]:
    """pytorch-fid's InceptionV3 from a verified file, frozen, in eval mode; touches no random stream.

    Args:
        file: the weights as pytorch-fid publishes them.

    Returns:
        A network (B, 3, H, W) in [0, 1] -> [(B, 2048, 1, 1)] that resizes to 299 bilinearly; the weights
        (1008, 2048) fp32 of the last layer, which it leaves off; the SHA-256 of the file.

    Raises:
        Unavailable: for a file that is missing or another one.
    """
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise Unavailable(f"Inception weights {file}: {files.why(error)}") from None
    found = hashlib.sha256(raw).hexdigest()
    if not found.startswith(SHA256):
        raise Unavailable(
            f"Inception weights {file} have SHA-256 {found[:8]}..., not {SHA256}...: not that file"
        )

    import torch
    from pytorch_fid import inception

    try:
        # the bytes that were verified, not the file again
        state = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError):
        raise Unavailable(f"Inception weights {file} are not a plain state dict") from None

    # pytorch-fid has no argument for a file. It asks this name, which would ask torch's cache, load the file
    # unverified with a full unpickler, or else the network.
    asked = inception.load_state_dict_from_url
    inception.load_state_dict_from_url = lambda *_, **__: state
    try:
        with torch.random.fork_rng(devices=[]):
            net: nn.Module = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[WIDTH]])
    except (RuntimeError, TypeError) as error:
        line = str(error).splitlines()[0]
        raise Unavailable(f"Inception weights {file} do not fit pytorch-fid's network: {line}") from None
    finally:
        inception.load_state_dict_from_url = asked
    return net.eval().requires_grad_(False), state["fc.weight"].float().numpy(), found


def features(net: nn.Module, images: np.ndarray, device: str) -> np.ndarray:
    """Inception features, (n, 2048) float32.

    Args:
        net: of `load_inception`.
        images: (n, C, H, W) uint8; one channel is repeated to three.
        device: where the network runs.

    Raises:
        Unavailable: for neither one nor three channels.
    """
    import torch

    if images.shape[1] not in (1, 3):
        raise Unavailable(f"Inception takes images of 1 or 3 channels, not {images.shape[1]}")
    net.to(device)
    rows = []
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            x = torch.from_numpy(np.ascontiguousarray(images[start : start + _BATCH]))
            x = x.to(device).float().div_(255).expand(-1, 3, -1, -1)
            rows.append(net(x)[0].flatten(1).cpu().numpy())
    return np.concatenate(rows)


def _seen(ev: Evidence) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of n samples and n test images, and the last layer's weights: once for all metrics here."""
    made = ev.images_made(MOST)["images"]
    n = min(len(made), len(ev.test))
    if ev.features is None or len(ev.features[0]) != n:
        file = weights_file(ev.inception)
        if file is None:
            raise Unavailable(f"no Inception weights: download {URL} and give it with --inception-weights")
        net, head, digest = load_inception(file)
        ev.features = (features(net, made[:n], ev.device), _reference(ev, net, digest, n), head)
    return ev.features


def _reference(ev: Evidence, net: nn.Module, digest: str, n: int) -> np.ndarray:
    """Features of n test images, kept in the cache under all that decides them."""
    if not (ev.cache and ev.data_digest):
        return features(net, ev.test[ev.test_rows(n)], ev.device)
    kind = ev.device.split(":")[0]  # a GPU's convolutions round otherwise
    path = ev.cache / "inception" / f"{ev.data_digest[:16]}-{digest[:16]}-{_RECIPE}-{n}-{kind}.npy"
    with suppress(OSError, ValueError, EOFError):  # none yet, or a damaged one
        kept: np.ndarray = np.load(path, allow_pickle=False)
        if kept.shape == (n, WIDTH):
            return kept
    found = features(net, ev.test[ev.test_rows(n)], ev.device)
    with suppress(OSError):  # a cache that cannot be written costs time, nothing else
        path.parent.mkdir(parents=True, exist_ok=True)
        with files.whole(path) as new, new.open("wb") as file:
            np.save(file, found)
    return found


def fid(ev: Evidence) -> dict[str, float]:
    """FID of n samples (8-bit) against n test images, n = min(10,000, test, samples), in the column's name.

    Biased upwards for small n: compare equal n only, and below n = 2048 rather look at KID.
    """
    made, real, _ = _seen(ev)
    return {f"fid_{len(made)}_test": frechet_features(made, real)}


def kernel(ev: Evidence) -> dict[str, float]:
    """KID over the same features, whole sets; unbiased, so the one to trust for small n."""
    made, real, _ = _seen(ev)
    return {f"kid_{len(made)}_test": kid(made, real)}


def score(ev: Evidence) -> dict[str, float]:
    """Inception Score of the samples that FID looks at, n in the column's name, and of as many test images.

    From FID's own features: logits are their product with the last layer's weights, without its bias, as in
    the code that published scores come from (openai/improved-gan). One set of n, not the mean over ten
    splits of it (Barratt and Sharma, 1801.01973): a split's size bounds its score, so the smaller the lower.
    What it rewards are ImageNet's classes: read it beside that of the test images, ``is_<n>_test``.
    """
    made, real, head = _seen(ev)
    n, w = len(made), head.T.astype(np.float64)
    return {f"is_{n}_samples": inception_score(made @ w), f"is_{n}_test": inception_score(real @ w)}


def _images(weights: Path | None, n_test: int) -> int:
    return min(MOST, n_test) if weights_file(weights) else 0


_row = partial(Metric, unit="", needs=("samples", "Inception weights"), images=_images)
METRICS = (
    _row(
        *("fid", "FID"),
        better="lower",
        fn=fid,
        blank=lambda ev: f"fid_{min(MOST, len(ev.test))}_test",
        columns=(Column("FID (n={}, test)", "lower is better", number="fid_*_test"),),
        place=3,
    ),
    _row(
        *("kid", "KID"),
        better="lower",
        fn=kernel,
        blank=lambda ev: f"kid_{min(MOST, len(ev.test))}_test",
        columns=(Column("KID x 1000 (n={}, test)", "lower is better", scale=1000, number="kid_*_test"),),
        place=4,
    ),
    _row(
        *("inception_score", "Inception Score"),
        better="higher",
        fn=score,
        blank=lambda ev: f"is_{min(MOST, len(ev.test))}_samples",
        columns=(
            Column(
                *("Inception Score (n={})", "higher is better; it knows ImageNet's classes"),
                number="is_*_samples",
            ),
        ),
        place=5,
    ),
)
