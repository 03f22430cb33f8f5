"""What a device is fast at: asked of the device itself, since processors of one name differ."""

from __future__ import annotations

import functools
import time

import torch

_SIZE = 256  # rows and columns of the products that are timed: 13 ms each on a CPU without units for bfloat16
_NUM_TIMED = 3
_MAX_RATIO = 1.5  # a CPU with such units takes 0.4 to 0.5 of the time of float32, one without 40 times as long


def rough_dtype(device: torch.device) -> torch.dtype:
    """Return the type for matrix products that need few digits: bfloat16, or float32 where that is much faster.

    Measured once in a process and for each kind of device.
    """
    return _rough_dtype(device.type)


@functools.cache
def _rough_dtype(device_type: str) -> torch.dtype:
    if device_type != "cpu":
        return torch.bfloat16
    seconds = {dtype: _seconds(dtype) for dtype in (torch.float32, torch.bfloat16)}
    is_fast = seconds[torch.bfloat16] <= _MAX_RATIO * seconds[torch.float32]
    return torch.bfloat16 if is_fast else torch.float32


def _seconds(dtype: torch.dtype) -> float:
    """The shortest time of a product, behind one that is not counted."""
    matrix = torch.ones(_SIZE, _SIZE, dtype=dtype)
    times = []
    for _ in range(_NUM_TIMED + 1):
        start = time.perf_counter()
        matrix @ matrix
        times.append(time.perf_counter() - start)
    return min(times[1:])
