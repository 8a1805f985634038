"""Frozen teachers: trained once per (task, net, recipe, seed), kept as safetensors with a card beside it.

The card records digest, normaliser, recipe and measured accuracy; the digest is checked at every load.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from harness import files
from harness.compute import own_globals
from harness.config import Recipe, Task, Trial, seed_for
from harness.errors import DfkdError, DiskError
from harness.nets.base import Net, reset_normaliser
from harness.nets.catalog import build, nets
from harness.store.cards import Card, check_digest, every, made, path_for, path_of, read_card
from harness.tasks import catalog, images
from harness.tasks.images import Loader, Split, TaskData
from harness.trials.provenance import machine

#: percent points by which a teacher's measured accuracy may differ from its card
TOLERANCE = 0.5


def load(dir: Path, trial: Trial, task: Task) -> tuple[Net, Card]:
    """A trial's teacher, frozen and in eval mode, its digest checked.

    Raises:
        DfkdError: when it is missing, damaged, or no plain tensor file.
    """
    path = path_of(dir, trial)
    if not path.exists():
        how = "import it" if trial.teacher_digest else "`dfkd run` or `dfkd teachers train` makes it"
        raise DfkdError(f"teacher {trial.teacher} for {trial.task} is missing at {path}: {how}")
    card = read_card(path)
    if trial.teacher_digest and not card.digest.startswith(trial.teacher_digest):
        raise DfkdError(f"teacher {path} has digest {card.digest}, the grid asks for {trial.teacher_digest}")
    if card.task_version != task.version:
        raise DfkdError(
            f"teacher {path} belongs to version {card.task_version} of {task.name}, not {task.version}: "
            "train or import it again"
        )
    return load_card(path, card, task), card


def load_card(path: Path, card: Card, task: Task) -> Net:
    """The network of a teacher file, frozen and in eval mode, its digest checked.

    Raises:
        DfkdError: when it is damaged, no plain tensor file, or of another network.
    """
    check_digest(path, card)
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise DfkdError(
            f"teacher {path} is not a safetensors file ({error}); pickles are never opened"
        ) from None
    with torch.random.fork_rng(devices=[]):
        net = build(card.net, task)
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise DfkdError(
            f"teacher {path} does not fit {card.net} on {task.name}: {str(error).splitlines()[-1].strip()}"
        ) from None
    reset_normaliser(net, card.mean, card.std)
    return net.eval().requires_grad_(False)


def accuracy(net: Net, split: Split, device: torch.device | str = "cpu", batch: int = 512) -> float:
    """Percent of a split's images that a network gets right, in eval mode."""
    where, right, was = torch.device(device), 0, net.training
    net.eval()
    with torch.no_grad():
        for start in range(0, len(split), batch):
            x, y = split.batch(slice(start, start + batch), where)
            logits = net(x)
            assert isinstance(logits, Tensor)
            right += int((logits.argmax(1) == y).sum())
    net.train(was)
    return 100.0 * right / len(split)


def train(
    dir: Path,
    task_name: str,
    net: str,
    recipe: Recipe,
    seed: int,
    *,
    data_root: Path | None = None,
    device: str = "cpu",
    threads: int = 1,
    on_epoch: Callable[[int, int, float], None] | None = None,
) -> Card:
    """Train a teacher, unless another process just did: SGD, momentum 0.9, cosine to zero per step.

    The last epoch is kept; the test split is looked at once, at the end. Same bits for the same seed, machine
    and number of threads.

    Args:
        dir: the teachers' folder.
        task_name: on what.
        net: which network.
        recipe: how.
        seed: of initial weights and batches.
        data_root: see `harness.tasks.images.data_root`.
        device: where.
        threads: CPU threads; another number gives other bits.
        on_epoch: told (epoch, epochs, mean training loss).

    Raises:
        DfkdError: for an unknown task or net, missing data, a disk that cannot be written, or a training
            that diverged.
    """
    version = catalog.version(task_name)
    nets.check(net)
    path = path_for(dir, task_name, net, recipe, seed)
    with ExitStack() as alone:  # inside, no other process makes this teacher
        with files.saying(f"teachers' folder {path.parent} cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            alone.enter_context(files.locked(path.with_suffix(".lock")))
        if card := made(path, version):
            return card
        found = images.load(task_name, data_root)
        with own_globals(seed_for(seed, "teacher"), threads):
            began = time.perf_counter()
            model = fit(found, net, recipe, seed, torch.device(device), on_epoch)
            seconds = time.perf_counter() - began
            top1 = accuracy(model, found.test, device)
        facts: dict[str, Any] = {"source": "trained", "recipe": recipe, "seed": seed, "seconds": seconds}
        return write(path, model, found, top1, facts)


def fit(
    found: TaskData,
    name: str,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    on_epoch: Callable[[int, int, float], None] | None,
) -> Net:
    """Train a network on a task's training images as a recipe says; called inside `own_globals`.

    Args:
        found: the task.
        name: of the network.
        recipe: how.
        seed: of the batches.
        device: where.
        on_epoch: told (epoch, epochs, mean training loss).

    Returns:
        It, in eval mode, on the CPU.

    Raises:
        DfkdError: when the loss is not finite.
    """
    net = build(name, found.task).to(device)
    net.to(memory_format=torch.channels_last)
    rng = torch.Generator(device).manual_seed(seed_for(seed, "teacher train"))
    loader = Loader(found.train, found.task, rng, device)
    batch = min(recipe.batch, len(found.train))
    opt = torch.optim.SGD(
        net.parameters(), recipe.lr, momentum=0.9, weight_decay=recipe.weight_decay, fused=True
    )
    per_epoch = max(1, len(found.train) // batch)
    total = per_epoch * recipe.epochs
    net.train()
    for epoch in range(recipe.epochs):
        losses = torch.zeros((), device=device)
        for i in range(per_epoch):
            at = (epoch * per_epoch + i) / total
            opt.param_groups[0]["lr"] = 0.5 * recipe.lr * (1 + math.cos(math.pi * at))
            x, y = loader.batch(batch)
            logits = net(x)
            assert isinstance(logits, Tensor)
            loss = F.cross_entropy(logits, y)
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            losses += loss.detach()
        mean = float(losses) / per_epoch
        if not math.isfinite(mean):
            raise DfkdError(
                f"teacher {name} on {found.task.name} diverged in epoch {epoch + 1} with lr {recipe.lr:g}"
            )
        if on_epoch:
            on_epoch(epoch + 1, recipe.epochs, mean)
    return net.to("cpu").to(memory_format=torch.contiguous_format).eval()


def write(path: Path, net: Net, found: TaskData, top1: float, facts: dict[str, Any]) -> Card:
    """Write a teacher file, then its card: both atomically, the card last.

    Args:
        path: of the file; ``{digest}`` in its name becomes the digest's first 12 digits.
        net: the network.
        found: the task it belongs to.
        top1: percent on the test split.
        facts: fields of `Card` that only the caller knows.
    """
    raw = save({k: v.detach().contiguous() for k, v in net.state_dict().items()})
    key = hashlib.sha256(raw).hexdigest()
    path = path.with_name(path.name.replace("{digest}", key[:12]))
    card = Card(
        task=found.task.name,
        task_version=found.task.version,
        net=net.name,
        mean=tuple(float(v) for v in net.mean.flatten()),
        std=tuple(float(v) for v in net.std.flatten()),
        top1=top1,
        data_digest=found.digest,
        digest=key,
        machine=machine(),
        **({"recipe": None, "seed": None} | facts),
    )
    with files.saying(f"teacher {path} cannot be written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        # An old card goes first: killed between the two, a file without a card is made again, while a file
        # with another's card would be refused for ever.
        path.with_suffix(".json").unlink(missing_ok=True)
        with files.whole(path) as new:
            new.write_bytes(raw)
        with files.whole(path.with_suffix(".json")) as new:
            new.write_text(card.model_dump_json(indent=1) + "\n")
    return card


def verify(dir: Path, card: Card, found: TaskData, device: str = "cpu") -> float:
    """Check a teacher's digest, and measure its accuracy against its card, once per (digest, data, machine).

    Returns:
        Percent of test images right, as measured on this machine.

    Raises:
        DfkdError: when the accuracy differs by more than `TOLERANCE` points, the file is not that of the
            card, or the data are not.
    """
    path = next(
        (p for p, c in every(dir) if isinstance(c, Card) and (c.digest, c.task) == (card.digest, card.task)),
        None,
    )
    if path is None:
        raise DfkdError(f"no teacher with digest {card.digest[:12]} for {card.task} under {dir}")
    check_digest(path, card)
    if card.data_digest != found.digest:
        again = "import" if card.source == "imported" else "train"
        raise DfkdError(
            f"teacher {path} was made with data {card.data_digest[:12]}, {card.task} is now "
            f"{found.digest[:12]}: delete it and {again} it again"
        )
    book = Path(dir) / "verified.json"
    key = f"{card.digest} {found.digest} {machine()}"
    known = _read_book(book)
    if key in known:
        return known[key]
    top1 = accuracy(load_card(path, card, found.task).to(device), found.test, device)
    if abs(top1 - card.top1) > TOLERANCE:
        raise DfkdError(
            f"teacher {path} gets {top1:.2f} % on {card.task}, its card says {card.top1:.2f} %: "
            "another normaliser, or a card that was changed"
        )
    with suppress(DiskError):  # a note only saves time
        files.write(book, json.dumps(_read_book(book) | {key: top1}))
    return top1


def _read_book(book: Path) -> dict[str, float]:
    found: dict[str, Any] = {}
    with suppress(DiskError):
        found = files.read_json(book) or {}
    return {k: v for k, v in found.items() if isinstance(v, float)}
