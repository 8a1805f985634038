"""One thread a worker: two workers on two cores get in each other's way otherwise. `dfkd` as a fixture."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
import torch

from harness import cli

torch.set_num_threads(1)


@pytest.fixture
def dfkd(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Run the command in this process: words -> exit status, stdout, stderr."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dfkd", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    return call
