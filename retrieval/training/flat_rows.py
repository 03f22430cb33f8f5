"""The texts of a batch in one row, one behind the other: nothing is computed for padding.

Laid out on the CPU, where lengths are known: nothing of a step then waits for a GPU to tell one.

Shape legend: B texts, L padded length, N tokens of all texts, rounded up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from retrieval.training.block_attention import BLOCK

_STEPS = 16  # lengths of rows between a power of two and the next


class FlatRow(NamedTuple):
    """Texts behind one another, and which is which."""

    ids: Tensor  # int64 (1, N)
    segments: Tensor  # int64 (1, N), the text that a token belongs to, from 1; 0 on what fills the row up
    num_texts: int


def flat_row(ids: Tensor, mask: Tensor, fill: int = 0) -> FlatRow:
    """Put padded texts into one row.

    Args:
        ids: int64 (B, L)
        mask: 1 where ids is no padding, (B, L)
        fill: the token at the end of the row
    """
    return flat_rows([(ids, mask)], fill=fill)[0]


def flat_rows(texts: Sequence[tuple[Tensor, Tensor]], size: int | None = None, fill: int = 0) -> list[FlatRow]:
    """Put padded texts into rows, in their order.

    Args:
        texts: ids and mask of some, see `flat_row`, and of others that are padded to another length
        size: texts of a row; None puts all into one
        fill: the token at the end of a row
    """
    tokens = torch.cat([ids[mask.bool()] for ids, mask in texts])
    lengths = torch.cat([mask.sum(dim=1) for _, mask in texts])
    rows = []
    for some in lengths.split(size or max(1, len(lengths))):
        their, tokens = tokens[: int(some.sum())], tokens[int(some.sum()) :]
        numbers = torch.arange(1, len(some) + 1, device=some.device).repeat_interleave(some)
        rows.append(FlatRow(rounded(their, fill), rounded(numbers, 0), len(some)))
    return rows


def rounded(tokens: Tensor, fill: int) -> Tensor:
    """Return tokens (n,) as a row (1, N) of one of few lengths, so that kernels and compiled layers see few shapes."""
    return pad(tokens, (0, rounded_length(len(tokens)) - len(tokens)), value=fill)[None]


def rounded_length(num_tokens: int) -> int:
    """Return the next length that rows have: a multiple of a block, and at most a 16th longer where rows are long.

    >>> [rounded_length(n) for n in (1, 129, 2_300, 40_000, 65_536)]
    [128, 256, 2304, 40960, 65536]
    """
    step = max(BLOCK, (1 << (max(1, num_tokens) - 1).bit_length()) // (2 * _STEPS))
    return -(-max(1, num_tokens) // step) * step


def pinned(batch: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """Return a batch whose tensors a GPU copies while it computes."""
    if device.type != "cuda":
        return dict(batch)
    return {name: _pinned(value) for name, value in batch.items()}


def _pinned(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.pin_memory()
    if isinstance(value, FlatRow):
        return FlatRow(*map(_pinned, value))
    are_rows = isinstance(value, list) and all(isinstance(row, FlatRow) for row in value)
    return [_pinned(row) for row in value] if are_rows else value
