"""Attention between the tokens of one text, where a row holds several: by blocks, of which most are never computed.

On a CUDA device it is torch's flex_attention, compiled; elsewhere the same written out, for tests and small models.

Shape legend: B rows, H heads, Q queries, K keys, D size of a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import pad

BLOCK = 128  # tokens; what flex_attention skips, and what lengths of rows are multiples of
MIN_HEAD = 16  # size of a head that flex_attention takes on CUDA, at least
_OUTSIDE = 2**30  # the text that queries of padding belong to; keys of padding belong to the next one
_NUM_FORMS = 64  # of attention, that is compiled apart: encoder, decoder, across; with gradient or without; dtypes

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]


def block_mask(queries: Tensor, keys: Tensor, *, causal: bool = False, window: int | None = None) -> BlockMask:
    """Return which keys each query sees: those of its own text.

    Built from the first and last text of each block, so that no (Q, K) mask ever exists and the device is never waited
    for: a row of 65,536 tokens makes 512 x 512 blocks.

    Args:
        queries: the text of each query, numbered upwards from 1 in a row, 0 on padding; int64 (B, Q)
        keys: likewise of each key, (B, K)
        causal: a query sees no later key; queries and keys are then the same tokens
        window: tokens that a causal query sees, itself included; None is all
    """
    of_query = torch.where(queries > 0, queries, _OUTSIDE).int()
    of_key = torch.where(keys > 0, keys, _OUTSIDE + 1).int()

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return of_query[b, q] == of_key[b, k]

    def sees_back(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (of_query[b, q] == of_key[b, k]) & (k <= q)

    def sees_near(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        assert window is not None
        return (of_query[b, q] == of_key[b, k]) & (k <= q) & (q - k < window)

    (first_q, last_q), (first_k, last_k) = _bounds(of_query, _OUTSIDE), _bounds(of_key, _OUTSIDE + 1)
    first_q, last_q = first_q[:, :, None], last_q[:, :, None]
    first_k, last_k = first_k[:, None], last_k[:, None]
    some = (first_q <= last_k) & (first_k <= last_q)  # (B, blocks of queries, blocks of keys)
    full = (first_q == last_q) & (first_k == last_k) & (first_q == first_k)
    if causal:
        rows = torch.arange(some.shape[1], device=some.device)[:, None]
        columns = torch.arange(some.shape[2], device=some.device)
        some, full = some & (columns <= rows), full & (columns < rows)
        if window is not None:
            nearest, farthest = (rows - columns - 1) * BLOCK + 1, (rows - columns + 1) * BLOCK - 1
            some, full = some & (nearest < window), full & (farthest < window)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~full),
        *_listed(full),
        BLOCK_SIZE=BLOCK,
        mask_mod=(sees_near if window is not None else sees_back) if causal else sees,
        seq_lengths=(queries.shape[1], keys.shape[1]),
    )


def _bounds(texts: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    """The lowest and the highest text of each block, (B, blocks)."""
    blocks = pad(texts, (0, -texts.shape[1] % BLOCK), value=outside).unflatten(1, (-1, BLOCK))
    return blocks.amin(-1), blocks.amax(-1)


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys are chosen for each block of queries, (B, 1, Q); and all, chosen ones first."""
    numbers = chosen.int().argsort(dim=-1, descending=True, stable=True)
    return chosen.sum(-1, dtype=torch.int32)[:, None], numbers.int()[:, None]


def attend(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, score_mod: ScoreMod | None = None, scale: float = 1.0
) -> Tensor:
    """Return what queries read of the keys that they see; 0 for those that see none.

    Args:
        query: (B, H, Q, D)
        key: (B, H, K, D), or fewer heads, each for several of the queries'
        value: likewise
        mask: of `block_mask`
        score_mod: changes scores, see torch's flex_attention; tensors that it reads get their gradient
        scale: of scores

    Returns:
        (B, H, Q, D)
    """
    # under autocast, turned queries and keys are float32, as the rotation is
    query, key = query.to(value.dtype), key.to(value.dtype)
    if query.device.type != "cuda":
        return _written_out(query, key, value, mask, score_mod, scale)
    flex: Any = flex_attention if torch.compiler.is_compiling() else _compiled()
    found: Tensor = flex(
        query,
        key,
        value,
        score_mod=score_mod,
        block_mask=mask,
        scale=scale,
        enable_gqa=query.shape[1] != key.shape[1],
        kernel_options=_kernel_options(query.dtype),
    )
    return found


def _kernel_options(dtype: torch.dtype) -> dict[str, Any]:
    """Blocks of the kernels. torch's own take more shared memory than an H100 has, with the table of distances."""
    size = 64 if dtype.itemsize <= 2 else 32
    return {name: size for name in ("BLOCK_M", "BLOCK_N", "BLOCK_M1", "BLOCK_N1", "BLOCK_M2", "BLOCK_N2")}


@functools.cache
def _compiled() -> Any:
    """flex_attention as a kernel: as it is, it would write all scores out. Lengths become symbols at the second one."""
    allow_forms()
    return torch.compile(flex_attention)


def allow_forms() -> None:
    """Let torch.compile keep as many forms of one function as there are of attention; it would fall back after 8."""
    config: Any = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, _NUM_FORMS)


def _written_out(
    query: Tensor, key: Tensor, value: Tensor, mask: BlockMask, score_mod: ScoreMod | None, scale: float
) -> Tensor:
    repeats = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeats, 1), value.repeat_interleave(repeats, 1)
    scores = query @ key.mT * scale
    sizes = enumerate(scores.shape)
    places = [torch.arange(n, device=scores.device).view([-1 if i == d else 1 for i in range(4)]) for d, n in sizes]
    if score_mod is not None:
        scores = score_mod(scores, *places)
    is_seen = mask.mask_mod(*places)
    # not minus infinity: a row that sees nothing would have no gradient but NaN
    weights = scores.masked_fill(~is_seen, torch.finfo(scores.dtype).min).softmax(-1) * is_seen
    return weights.to(value.dtype) @ value
