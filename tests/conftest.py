"""One thread a worker: two workers on two cores get in each other's way otherwise. What many tests share.

`dfkd` is the command, `ray` a Ray, `planted` and `known` a file of Inception weights of the right layout.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import scipy.linalg  # noqa: F401 - has a BLAS of its own, which is limited once it is loaded
import torch
from threadpoolctl import threadpool_limits

from harness.cli import main

torch.set_num_threads(1)
threadpool_limits(1, user_api="blas")  # beside other work, two spinning threads take a hundred times as long
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # of the processes that tests start


class Said(NamedTuple):
    """What a command ended with: exit status, stdout, stderr."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    def refuses(self, *parts: str) -> None:
        """A person's mistake is one line on stderr, with these parts, and nothing else."""
        assert self.code == 2 and self.out == ""
        assert self.err.startswith("dfkd: ") and self.err.count("\n") == 1 and "Traceback" not in self.err
        for part in parts:
            assert part in self.err


@pytest.fixture(scope="session")
def dfkd() -> Callable[..., Said]:
    """Run the command in this process, words as one types them."""

    def call(*words: object) -> Said:
        out, err = StringIO(), StringIO()
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main.main([str(word) for word in words])
        return Said(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def ray() -> Iterator[None]:
    """One Ray of this machine's own for all tests that need no other."""
    from harness.schedule.on_ray import connected

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.syspath_prepend(str(Path(__file__).parents[1]))
        with connected(None):
            yield


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random Inception weights in the published layout and torch's old format, in a cache of their own."""
    import torchvision
    from pytorch_fid import inception

    from harness.metrics.fid import WEIGHTS

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inception, "load_state_dict_from_url", lambda *a, **k: {})
        patch.setattr(torchvision.models.Inception3, "load_state_dict", lambda self, state: None)
        net = inception.fid_inception_v3()
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, torch.nn.Conv2d):  # the default start shrinks every layer's output to nothing
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
    torch.nn.init.normal_(net.fc.weight, std=0.5, generator=generator)  # that it is sure of something
    file = tmp_path_factory.mktemp("torch") / "hub" / "checkpoints" / WEIGHTS
    file.parent.mkdir(parents=True)
    torch.save(net.state_dict(), file, _use_new_zipfile_serialization=False)
    return file


@pytest.fixture
def known(planted: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The planted file, its digest the expected one."""
    from harness.metrics import fid

    monkeypatch.setattr(fid, "SHA256", hashlib.sha256(planted.read_bytes()).hexdigest()[:8])
    return planted
