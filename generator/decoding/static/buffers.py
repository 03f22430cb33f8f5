"""What all that lives in buffers of fixed shapes shares."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from generator.decoding.protocol import NaNLogitsError


class Buffers:
    """Something whose attributes are tensors that stay where they are."""

    def tensors(self) -> Iterator[Tensor]:
        """Its buffers."""
        for value in vars(self).values():
            for one in value if isinstance(value, list | tuple) else [value]:
                if isinstance(one, Tensor):
                    yield one

    @property
    def num_bytes(self) -> int:
        """Memory of its buffers."""
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in self.tensors()}
        return sum(storages.values())


def ends_of(tokens: Tensor, ends: Tensor) -> Tensor:
    """Which tokens are among `ends` (E,), without a look at how many these are on the device."""
    return (tokens.unsqueeze(-1) == ends).any(-1)


def first_nan(nan_steps: Tensor) -> NaNLogitsError:
    """The error of the state whose logits were NaN first; 0 where they never were."""
    steps = nan_steps.tolist()
    step = min(step for step in steps if step)
    return NaNLogitsError(steps.index(step), step)


def bucket(size: int, smallest: int, per_octave: int = 1) -> int:
    """The smallest of few sizes that holds `size`: each power of two from `smallest` on, and parts between them."""
    found = power = max(smallest, 1 << max(0, size - 1).bit_length())
    for part in range(per_octave, 0, -1):  # power / 2 * (1 + part / per_octave)
        candidate = power // 2 + power // 2 * part // per_octave
        if candidate >= max(size, smallest):
            found = candidate
    return found


def room_for(num_steps: int, steps_per_check: int) -> int:
    """Steps rounded up to whole chunks."""
    return -(-num_steps // steps_per_check) * steps_per_check


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Zeros, because a weight of 0 does not silence a NaN on a masked position."""
    return torch.zeros(shape, dtype=dtype, device=device)
