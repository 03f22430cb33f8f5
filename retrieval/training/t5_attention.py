"""T5's attention without a bias for each pair of tokens.

T5 adds a learnt number to each score, by head and distance. transformers writes these numbers out as float32
(H, L, L), for which scaled_dot_product_attention has no fast kernel: a training step of byt5-small on 8 x 2,300 bytes
takes 333 ms and 50 GB on an H100 (bf16-mixed), with the table of distances that is read here 157 ms and 22.5 GB, and
90.5 ms and 16.2 GB where the layers are compiled (tests/benchmarks/gpu_training.py measures it).

Shape legend: B rows, H heads, L tokens of a row.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask
from torch.nn.functional import embedding
from transformers.models.mt5.modeling_mt5 import MT5Attention
from transformers.models.t5.modeling_t5 import T5Attention

from retrieval.training.block_attention import MIN_HEAD, attend

# Distances of the table, to either side: longer ones share T5's last bucket (128 on) with it. A table that ended there
# would be as exact, but in the backward pass all far pairs would add to one number of it, one after the other.
_REACH = 2048
_ATTENTION = re.compile(r"(?<!LayerSelf)(?<!LayerCross)(Attention|_M?T5)$")  # the names of classes


class _ByDistance:
    """Attends by blocks where the mask is one of `block_mask`, and as before where it is not.

    Attention dropout has no place in flex_attention, and is left out; that of activations stays.
    """

    def forward(
        self,
        hidden_states: Tensor,
        mask: Any = None,
        key_value_states: Tensor | None = None,
        position_bias: Tensor | None = None,
        past_key_values: Any = None,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """See transformers' T5Attention; `position_bias` is the table that the first layer makes, (H, distances)."""
        layer: Any = self
        if not isinstance(mask, BlockMask):
            found: tuple[Tensor, Tensor | None, Tensor | None] = super().forward(  # type: ignore[misc]
                hidden_states,
                mask=mask,
                key_value_states=key_value_states,
                position_bias=position_bias,
                past_key_values=past_key_values,
                **others,
            )
            return found
        read = hidden_states if key_value_states is None else key_value_states
        query, key, value = (
            part(states).unflatten(-1, (layer.n_heads, -1)).transpose(1, 2)
            for part, states in ((layer.q, hidden_states), (layer.k, read), (layer.v, read))
        )
        if key_value_states is not None:  # across, T5 has no distances
            attended = attend(query, key, value, mask)
            return layer.o(attended.transpose(1, 2).flatten(2)), None, None
        table = _table_of(layer) if position_bias is None else position_bias
        reach = table.shape[1] // 2

        def add_bias(score: Tensor, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
            return score + table[h, (k - q).clamp(-reach, reach) + reach]

        attended = attend(query, key, value, mask, add_bias)
        return layer.o(attended.transpose(1, 2).flatten(2)), table, None


class _T5(_ByDistance, T5Attention):
    pass


class _MT5(_ByDistance, MT5Attention):
    pass


_CLASSES: dict[type, type] = {T5Attention: _T5, MT5Attention: _MT5}


def has_t5_attention(model: Any) -> bool:
    """Whether all attention of a model is T5's own (T5, ByT5, mT5), with heads that blocks are made for."""
    layers = [part for part in model.modules() if _ATTENTION.search(type(part).__name__)]
    return bool(layers) and all(
        (type(part) in _CLASSES or isinstance(part, _ByDistance)) and part.key_value_proj_dim >= MIN_HEAD
        for part in layers
    )


def take_block_masks(model: Any) -> None:
    """Let T5's attention understand masks of `block_mask`, wherever transformers takes an attention_mask.

    With other masks it does what it did; weights and their names stay.
    """
    for part in model.modules():
        if type(part) in _CLASSES:
            part.__class__ = _CLASSES[type(part)]


def _table_of(layer: Any) -> Tensor:
    """The bias of each head at each distance from -reach to reach, (H, 2 reach + 1)."""
    reach = max(_REACH, layer.relative_attention_max_distance)
    weight = layer.relative_attention_bias.weight
    buckets = layer._relative_position_bucket(
        torch.arange(-reach, reach + 1, device=weight.device),  # of keys, seen from the query
        bidirectional=not layer.is_decoder,
        num_buckets=layer.relative_attention_num_buckets,
        max_distance=layer.relative_attention_max_distance,
    )
    return embedding(buckets, weight).T.contiguous()
