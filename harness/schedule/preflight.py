"""What would go wrong later, said before anything starts: resources no node has, paths a node cannot see.

Ray waits for ever, in silence, for what it can never place. Needs no Ray itself: `harness.schedule.on_ray`
hands over the list of nodes and a way to run a function on each.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness.errors import DfkdError, unknown
from harness.files import saying, why

#: resources of one node: ``{"CPU": 8.0, "GPU": 1.0}``
Node = Mapping[str, float]


class Site(NamedTuple):
    """A path that every node must see; ``writable`` if trials write there."""

    setting: str
    path: Path
    writable: bool


def arguments(workers: int | None, gpus_per_trial: float, address: str | None, retry: Sequence[str]) -> None:
    """Refuse what makes no sense on any machine.

    Raises:
        DfkdError: naming the setting, the value and what is allowed.
    """
    if workers is not None and workers < 0:
        raise DfkdError(f"--workers {workers}: give 0 (in this process) or more, or leave it out")
    if gpus_per_trial < 0 or (gpus_per_trial > 1 and gpus_per_trial != int(gpus_per_trial)):
        raise DfkdError(
            f"--gpus-per-trial {gpus_per_trial:g}: give a share of one GPU (0 to 1) or a whole number"
        )
    if address and workers == 0:
        raise DfkdError(
            f"--workers 0 runs in this process, so --address {address} has no use: drop one of them"
        )
    if address and address.startswith("ray://"):
        raise DfkdError(
            f"--address {address}: Ray Client is not supported; start dfkd on a node of the cluster and "
            "give host:port or auto"
        )
    for word in retry:
        if word != "failed":
            raise unknown("--retry", word, ["failed"])


def writable(setting: str, path: Path) -> None:
    """Make the folder and prove that files can be written there.

    Raises:
        DfkdError: when they cannot.
    """
    probe = path / f".probe-{secrets.token_hex(4)}"
    with saying(f"{setting} {path} cannot be written"):
        path.mkdir(parents=True, exist_ok=True)
        probe.write_text("dfkd")
        probe.unlink()


def reachable(address: str | None) -> None:
    """Knock at a cluster's door: Ray itself would wait there for minutes.

    Raises:
        DfkdError: when nobody answers.
    """
    host, _, port = (address or "").rpartition(":")
    if not address or address == "auto":
        return
    try:
        socket.create_connection((host, int(port)), timeout=5).close()
    except (OSError, ValueError, OverflowError) as error:
        raise DfkdError(f"--address {address}: no Ray cluster answers ({error})") from error


def slots(nodes: Sequence[Node], cpus: int, gpus: float) -> int:
    """How many trials of this size run at once.

    Raises:
        DfkdError: when not even one fits on any node.
    """
    where = "this machine" if len(nodes) == 1 else "the largest node"
    if gpus and not any(node.get("GPU", 0.0) for node in nodes):
        place = "this machine" if len(nodes) == 1 else f"none of the {len(nodes)} nodes"
        raise DfkdError(f"--gpus-per-trial {gpus:g}: {place} has {'no' if len(nodes) == 1 else 'a'} GPU")
    for setting, key, want in (("--gpus-per-trial", "GPU", gpus), ("cpus_per_trial", "CPU", float(cpus))):
        most = max((node.get(key, 0.0) for node in nodes), default=0.0)
        if want > most:
            raise DfkdError(f"{setting} {want:g}: {where} has {most:g} {key}{'s' if most != 1 else ''}")
    total = sum(_fits(node, cpus, gpus) for node in nodes)
    if not total:
        raise DfkdError(f"no node has {cpus} CPUs and {gpus:g} GPUs together")
    return total


def _fits(node: Node, cpus: int, gpus: float) -> int:
    by_cpu = int(node.get("CPU", 0.0) // cpus)
    if not gpus:
        return by_cpu
    have = int(node.get("GPU", 0.0))
    # A share never spans two GPUs; the epsilon lets a third fit three times.
    by_gpu = have * int(1 / gpus + 1e-6) if gpus <= 1 else have // int(gpus)
    return min(by_cpu, by_gpu)


def gpu_here(gpus: float) -> None:
    """Refuse a GPU that this process cannot use.

    Raises:
        DfkdError: when there is none.
    """
    if gpus:
        import torch

        if not torch.cuda.is_available():
            raise DfkdError(f"--gpus-per-trial {gpus:g}: this machine has no GPU")


def sites(
    out: Path, teachers_dir: Path, data_root: Path | None = None, inception: Path | None = None
) -> list[Site]:
    """What every node must see of a run."""
    read = (("--data-root", data_root), ("--inception-weights", inception))
    return [
        Site("--out", out, True),
        Site("the teachers' folder", teachers_dir, True),
        *(Site(setting, path, False) for setting, path in read if path and path.exists()),
    ]


def seen_from_here(sites: Sequence[Site], token: str, reply: str) -> str | None:
    """Runs on a node: what it cannot see of the sites, or None."""
    for setting, path, is_written in sites:
        probe = path / f".probe-{token}"
        try:
            if not is_written:
                os.stat(path)
            elif probe.read_text() != token:
                return f"{setting} {path} is another folder there"
            else:
                probe.with_name(f"{probe.name}-{reply}").write_text(reply)
        except OSError as error:
            return f"{setting} {path}: {why(error)}"
    return None


def visible(sites: Sequence[Site], names: Sequence[str], ask: Callable[[int, str], str | None]) -> None:
    """Prove that every node reads and writes the driver's folders.

    Args:
        sites: what must be visible.
        names: of the nodes, for the message.
        ask: (index of a node, token) -> what `seen_from_here` returns there, having written the index.

    Raises:
        DfkdError: for the first node and folder where that fails.
    """
    token, written = secrets.token_hex(8), [site for site in sites if site.writable]
    try:
        for site in written:
            (site.path / f".probe-{token}").write_text(token)
        for i, name in enumerate(names):
            problem = ask(i, token)
            for site in written if problem is None else ():
                with suppress(OSError):
                    if (site.path / f".probe-{token}-{i}").read_text() == str(i):
                        continue
                problem = f"{site.setting} {site.path}: what it writes there is not seen here"
            if problem:
                raise DfkdError(f"node {name} does not share the driver's files: {problem}")
    finally:
        for site in written:
            for left in site.path.glob(f".probe-{token}*"):
                left.unlink(missing_ok=True)


def import_path() -> list[str]:
    """What workers need beyond their own: folders of grids and plug-ins, not those of this Python."""
    own = tuple(sysconfig.get_path(n) for n in ("stdlib", "platstdlib", "purelib", "platlib", "scripts"))
    found = [os.path.abspath(p) for p in sys.path if not p.endswith(".zip")]
    return list(dict.fromkeys(p for p in found if not p.startswith(own)))
