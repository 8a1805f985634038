"""One thread a worker: two workers on two cores get in each other's way otherwise. What many tests share.

`dfkd` is the command, `planted` and `known` a file of Inception weights of the right layout.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.cli import main

torch.set_num_threads(1)


@pytest.fixture
def dfkd(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: words -> exit status, stdout, stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dfkd", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call


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
