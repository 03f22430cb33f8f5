"""Attention over rows that hold several examples: what keeps them apart; the model's half of packing.

Shape legend: B rows, L padded length.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from common import ConfigError
from generator.architectures.traits import attention_windows, reason_against_masks, unwrapped
from retrieval.training.block_attention import MIN_HEAD, attend, block_mask


def check_packing(model: Any) -> None:
    """Raise ConfigError unless a mask keeps the examples of a row apart in a model of transformers."""
    reason = reason_against_masks(unwrapped(model))
    if reason is not None:
        name = type(unwrapped(model)).__name__
        raise ConfigError(f"packing: {name} {reason}, so examples of one row would see each other; leave out packing")


def reason_against_blocks(model: Any) -> str | None:
    """Why a model cannot take masks of blocks, such as "it is of type mamba"; None if it can."""
    model = unwrapped(model)
    reason = reason_against_masks(model)
    if reason is None and model.config._attn_implementation != "sdpa":
        reason = f"runs attention {model.config._attn_implementation!r}"
    if reason is None and not getattr(model, "_supports_flex_attn", False):
        reason = "has no attention that transformers lets us replace"
    if reason is None and any(hasattr(part, "sinks") for part in model.modules()):
        reason = "has attention sinks"
    config = model.config.get_text_config(decoder=True)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads if not reason else 0
    if reason is None and size < MIN_HEAD:
        reason = f"has heads of size {size}, less than {MIN_HEAD}"
    return reason and f"{type(model).__name__} {reason}"


def take_block_masks() -> None:
    """Let transformers' attention sdpa understand masks of blocks, in all models; with others it does what it did."""
    AttentionInterface.register("sdpa", _sdpa_or_blocks)


def _sdpa_or_blocks(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """See transformers' sdpa_attention_forward; dropout of weights is left out with blocks."""
    if not isinstance(attention_mask, BlockMask):
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    scale = query.shape[-1] ** -0.5 if options.get("scaling") is None else options["scaling"]
    found = attend(query, key, value, attention_mask, scale=scale)
    return found.transpose(1, 2).contiguous(), None


def packed_blocks(model: Any, segment_ids: Tensor) -> BlockMask | dict[str, BlockMask]:
    """Return what `packed_masks` does, as blocks."""
    windows = attention_windows(unwrapped(model).config, segment_ids.shape[1])
    masks = {kind: block_mask(segment_ids, segment_ids, causal=True, window=window) for kind, window in windows.items()}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def packed_masks(model: Any, segment_ids: Tensor) -> Tensor | dict[str, Tensor]:
    """Return what a model takes as `attention_mask` of packed rows: one mask, or one for each type of its layers.

    Args:
        model: of transformers, see `check_packing`
        segment_ids: see `block_diagonal_mask`
    """
    dtype = next(model.parameters()).dtype
    windows = attention_windows(unwrapped(model).config, segment_ids.shape[1])
    masks = {kind: block_diagonal_mask(segment_ids, dtype, window) for kind, window in windows.items()}
    return masks if len(masks) > 1 else next(iter(masks.values()))


def block_diagonal_mask(segment_ids: Tensor, dtype: torch.dtype = torch.float32, window: int | None = None) -> Tensor:
    """Return the additive attention mask under which each example of a row sees itself alone.

    A token sees those of its own segment up to itself; padding, which is a segment too, sees padding, so that no row
    of the softmax is empty.

    Args:
        segment_ids: the number of the example that each token belongs to, 0 on padding, int64 (B, L)
        dtype: of the model's activations
        window: tokens that a token sees, itself included; None is all

    Returns:
        0 where attention is allowed, else the lowest number, (B, 1, L, L); models of transformers take it as
        `attention_mask` with the attention implementations sdpa and eager.
    """
    length = segment_ids.shape[1]
    same = segment_ids[:, None, :, None] == segment_ids[:, None, None, :]
    causal = torch.ones(length, length, dtype=torch.bool, device=segment_ids.device).tril()
    if window is not None:
        causal &= ~torch.ones_like(causal).tril(-window)
    mask = torch.zeros(same.shape, dtype=dtype, device=segment_ids.device)
    return mask.masked_fill(~(same & causal), torch.finfo(dtype).min)
