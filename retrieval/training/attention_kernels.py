"""Which kernels compute attention where shapes vary."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def varying_shapes() -> Iterator[None]:
    """Attention without cuDNN's kernels, which are planned anew, on the host, for each shape that they meet.

    On an H100 or B200, torch takes them first for bfloat16 and float16, and never for float32
    (`check_prefer_cudnn_attention` of its sdp_utils.cpp, from 2.10 or so on). A plan takes 25 ms and more, where a step
    of decoding takes 4: inputs of all lengths, and keys that grow by one at each step, make validation under bf16-mixed
    several times as slow as in float32. Other kernels, FlashAttention's first, need no plans.
    """
    was_enabled = torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        yield
    finally:
        torch.backends.cuda.enable_cudnn_sdp(was_enabled)
