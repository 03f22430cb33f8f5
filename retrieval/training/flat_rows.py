"""The texts of a batch in one row, one behind the other: nothing is computed for padding.

Shape legend: B texts, L padded length, N tokens of all texts, rounded up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from retrieval.training.block_attention import BLOCK

_STEPS = 16  # lengths of rows between a power of two and the next


class FlatRow(NamedTuple):
    """Texts behind one another, and which is which."""

    ids: Tensor  # int64 (1, N)
    segments: Tensor  # int64 (1, N), the text that a token belongs to, from 1; 0 on what fills the row up


def flat_row(ids: Tensor, mask: Tensor, fill: int = 0) -> FlatRow:
    """Put padded texts into one row.

    Args:
        ids: int64 (B, L)
        mask: 1 where ids is no padding, (B, L)
        fill: the token at the end of the row
    """
    keep = mask.bool()
    numbers = torch.arange(1, len(ids) + 1, device=ids.device)[:, None].expand_as(ids)
    return FlatRow(rounded(ids[keep], fill), rounded(numbers[keep], 0))


def rounded(tokens: Tensor, fill: int) -> Tensor:
    """Return tokens (n,) as a row (1, N) of one of few lengths, so that kernels and compiled layers see few shapes."""
    return pad(tokens, (0, rounded_length(len(tokens)) - len(tokens)), value=fill)[None]


def rounded_length(num_tokens: int) -> int:
    """Return the next length that rows have: a multiple of a block, and at most a 16th longer where rows are long.

    >>> [rounded_length(n) for n in (1, 129, 2_300, 40_000, 65_536)]
    [128, 256, 2304, 40960, 65536]
    """
    step = max(BLOCK, 2 ** (max(1, num_tokens) - 1).bit_length() // (2 * _STEPS))
    return -(-max(1, num_tokens) // step) * step
