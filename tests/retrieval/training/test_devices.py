"""Types are chosen by what the processor at hand is fast at."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from retrieval.training.devices import rough_dtype

ROOT = Path(__file__).parents[3]


def test_a_device_has_one_rough_type() -> None:
    assert rough_dtype(torch.device("cuda", 1)) == torch.bfloat16
    found = rough_dtype(torch.device("cpu"))
    assert found in (torch.bfloat16, torch.float32) and rough_dtype(torch.device("cpu")) == found


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the libraries are told to use AVX2 alone")
def test_a_processor_without_units_for_bfloat16_computes_in_float32() -> None:
    script = "import torch; from retrieval.training.devices import rough_dtype; print(rough_dtype(torch.device('cpu')))"
    plain = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=plain, cwd=ROOT)
    assert done.stdout.strip() == "torch.float32", done.stderr[-2000:]
