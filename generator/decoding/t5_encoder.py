"""The encoder over states of different lengths, with no padding at all.

Tokens of all states lie one after another: every layer but attention sees one matrix of tokens, and attention
runs state by state. Dropout is never applied. Shapes: N tokens of all states, S tokens of one, D d_model,
H heads, K d_kv.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from generator.decoding.grouping import limits_of, similar_lengths
from generator.decoding.t5_layers import FeedForward, Norm, Projection, relative_bias, residual, split_heads


class T5Encoder:
    """The encoder of a T5-family model."""

    def __init__(self, model: Any, dtype: torch.dtype | None) -> None:
        """Reads the model's weights, which stay shared.

        Args:
            model: a T5-family model with `.encoder` and `.config`.
            dtype: the type of matrix products (under autocast), or None for the weights' own.
        """
        stack, config = model.encoder, model.config
        self.num_heads = int(config.num_heads)
        self.embedding: Tensor = stack.embed_tokens.weight
        self.layers = [_EncoderLayer(block, config, dtype) for block in stack.block]
        self.final_norm = Norm(stack.final_layer_norm, config.layer_norm_epsilon)

    def __call__(self, states: Sequence[Tensor]) -> list[Tensor]:
        """Encodes each state.

        Args:
            states: token ids (S,) of each state, without padding, longest first.

        Returns:
            The last hidden states (S, D), in the order of `states`.
        """
        encoded: list[Tensor] = []
        max_tokens = limits_of(self.embedding.device).max_packed_tokens
        for group in similar_lengths([len(state) for state in states], max_tokens=max_tokens, is_padded=False):
            lengths = [len(states[number]) for number in group]
            encoded.extend(self._encode(torch.cat([states[number] for number in group]), lengths).split(lengths))
        return encoded

    def _encode(self, token_ids: Tensor, lengths: list[int]) -> Tensor:
        hidden = F.embedding(token_ids, self.embedding)
        longest = max(lengths)
        bias: Tensor | None = None
        for layer in self.layers:
            if layer.has_bias:
                bias = relative_bias(layer.attention, 1 - longest, longest - 1, bidirectional=True)
            assert bias is not None  # the first layer of every T5 has one
            hidden = layer(hidden, lengths, bias, self.num_heads)
        return self.final_norm(hidden)


class _EncoderLayer:
    def __init__(self, block: Any, config: Any, dtype: torch.dtype | None) -> None:
        eps = config.layer_norm_epsilon
        self.attention = block.layer[0].SelfAttention
        self.has_bias = bool(self.attention.has_relative_attention_bias)
        self.norm = Norm(block.layer[0].layer_norm, eps)
        # three products: fusing them copies 80 MB of ByT5-small's encoder and is no faster
        self.query = Projection([self.attention.q], dtype)
        self.key = Projection([self.attention.k], dtype)
        self.value = Projection([self.attention.v], dtype)
        self.out = Projection([self.attention.o], dtype)
        self.feed_forward = FeedForward(block.layer[-1], eps, dtype)

    def __call__(self, hidden: Tensor, lengths: list[int], bias: Tensor, num_heads: int) -> Tensor:
        normed = self.norm(hidden)
        query, key, value = (split_heads(project(normed), num_heads) for project in (self.query, self.key, self.value))
        bias = bias.to(query.dtype)
        attended = [
            attend_bidirectional(*qkv, bias)
            for qkv in zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
        ]
        hidden = residual(hidden, self.out(torch.cat(attended)))
        return self.feed_forward(hidden)


def attend_bidirectional(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    """Attention within one state.

    The S x S bias is a window sliding over the 2S - 1 distances. Taken in reverse query order it is a view of
    them, so that 2,300 bytes with 6 heads need 28 KB of bias instead of 127 MB.

    Args:
        query: (S, H, K); `key` and `value` likewise.
        key: see `query`.
        value: see `query`.
        bias: (H, 2L - 1) for the distances 1 - L to L - 1, with L >= S.

    Returns:
        (S, H * K).
    """
    length, surplus = len(query), (bias.shape[-1] + 1) // 2 - len(query)
    window = bias[:, surplus : bias.shape[-1] - surplus].unfold(-1, length, 1)
    if window.device.type != "cpu":
        window = window.contiguous()  # the GPU kernels ask for aligned rows
    query, key, value = (part.transpose(0, 1)[None] for part in (query.flip(0), key, value))
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=window[None], scale=1.0)
    return attended[0].transpose(0, 1).flip(0).reshape(length, -1)
