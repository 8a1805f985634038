"""What a result says of where it was made."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from harness.trials import provenance


def test_kernels_name_what_torch_and_blas_chose() -> None:
    told = provenance.kernels().split(", ")
    assert told[0] == f"torch {torch.backends.cpu.get_cpu_capability()}"
    np.eye(2) @ np.eye(2)
    chosen = {str(lib["architecture"]) for lib in threadpool_info() if lib["internal_api"] == "openblas"}
    assert {line.split()[-1] for line in told[1:] if line.startswith("openblas")} == chosen


@pytest.mark.parametrize("first", ["sklearn.cluster", "harness.trials.provenance"])
def test_kernels_are_the_same_whatever_was_loaded_first(first: str) -> None:
    code = f"import {first}; from harness.trials.provenance import kernels; print(kernels())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == provenance.kernels()


@pytest.mark.skipif("openblas" not in provenance.kernels(), reason="NumPy's BLAS is not OpenBLAS")
def test_another_choice_of_openblas_is_told() -> None:
    code = "import json; from harness.trials import provenance as p\n"
    code += "print(json.dumps([p.kernels(), p.machine()]))"
    env = os.environ | {"OPENBLAS_CORETYPE": "NEHALEM", "ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    kernels, machine = json.loads(done.stdout)
    assert machine == provenance.machine()  # which is why it does not do
    assert kernels != provenance.kernels()
    assert "Nehalem" in kernels and "torch DEFAULT" in kernels
