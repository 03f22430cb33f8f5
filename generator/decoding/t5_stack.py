"""The decoder of a T5-family model as plain functions: what attends to what is left to who keeps keys and values.

Shapes: N rows, D d_model, H heads, K d_kv, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from generator.decoding.protocol import SpecialTokens
from generator.decoding.t5_layers import FeedForward, Norm, Projection, relative_bias, residual, split_heads


class T5Stack:
    """The layers of the decoder and its head, on the model's own weights."""

    def __init__(self, model: Any, dtype: torch.dtype | None) -> None:
        """Collects the weights.

        Args:
            model: a T5-family encoder-decoder.
            dtype: the type of matrix products (under autocast), or None for the weights' own.
        """
        stack, config = model.decoder, model.config
        self.special = SpecialTokens.of(model)
        self.num_heads, self.head_size = int(config.num_heads), int(config.d_kv)
        self.embedding: Tensor = stack.embed_tokens.weight
        self.layers = [_DecoderLayer(block, config, dtype) for block in stack.block]
        self.final_norm = Norm(stack.final_layer_norm, config.layer_norm_epsilon)
        self.head = Projection([model.lm_head], dtype)
        self.output_scale = output_scale(config)

    def logits(
        self,
        tokens: Tensor,
        attend_output: Callable[[int, Tensor, Tensor, Tensor], Tensor],
        attend_input: Callable[[int, Tensor], Tensor],
    ) -> Tensor:
        """Feeds each row a token.

        Args:
            tokens: (..., R) int64, N in all.
            attend_output: from the number of a layer and the query, key and value of each row, (N, H, K), to
                what each reads of its own output, (N, H * K).
            attend_input: from the number of a layer and the queries (N, H, K) to what they read of the input.

        Returns:
            (..., R, V) float32.
        """
        hidden = F.embedding(tokens.flatten(), self.embedding)
        for number, layer in enumerate(self.layers):
            query_key_value = split_heads(layer.qkv(layer.self_norm(hidden)), 3 * self.num_heads)
            hidden = residual(hidden, layer.self_out(attend_output(number, *query_key_value.chunk(3, dim=1))))
            query = split_heads(layer.cross_query(layer.cross_norm(hidden)), self.num_heads)
            hidden = residual(hidden, layer.cross_out(attend_input(number, query)))
            hidden = layer.feed_forward(hidden)
        hidden = self.final_norm(hidden)
        if self.output_scale != 1.0:
            hidden = hidden * self.output_scale
        return self.head(hidden).float().contiguous().view(*tokens.shape, -1)

    def biases(self, max_positions: int) -> list[Tensor]:
        """For each layer the bias (H, max_positions) of the distances 1 - max_positions to 0.

        T5 has one table for all layers, UMT5 one for each.
        """
        biases: list[Tensor] = []
        for layer in self.layers:
            if layer.attention.has_relative_attention_bias:
                bias = relative_bias(layer.attention, 1 - max_positions, 0, bidirectional=False)
            biases.append(bias)
        return biases

    def refresh(self) -> None:
        """Makes the copies that products of several layers, or of another type, read, anew from the weights."""
        for layer in self.layers:
            for projection in layer.projections:
                projection.refresh()
        self.head.refresh()


class _DecoderLayer:
    def __init__(self, block: Any, config: Any, dtype: torch.dtype | None) -> None:
        self_layer, cross_layer, eps = block.layer[0], block.layer[1], config.layer_norm_epsilon
        self.attention, cross = self_layer.SelfAttention, cross_layer.EncDecAttention
        self.self_norm = Norm(self_layer.layer_norm, eps)
        self.qkv = Projection([self.attention.q, self.attention.k, self.attention.v], dtype)
        self.self_out = Projection([self.attention.o], dtype)
        self.cross_norm = Norm(cross_layer.layer_norm, eps)
        self.cross_query = Projection([cross.q], dtype)
        self.cross_key, self.cross_value = Projection([cross.k], dtype), Projection([cross.v], dtype)
        self.cross_out = Projection([cross.o], dtype)
        self.feed_forward = FeedForward(block.layer[-1], eps, dtype)

    @property
    def projections(self) -> list[Projection]:
        own = [self.qkv, self.self_out, self.cross_query, self.cross_key, self.cross_value, self.cross_out]
        return own + self.feed_forward.projections


def output_scale(config: Any) -> float:
    """The factor on the last hidden states before the head: d_model ** -0.5 where the model was trained so."""
    if config.model_type == "mt5":
        return 1.0
    scaled = config.tie_word_embeddings
    if config.model_type == "t5":
        scaled = getattr(config, "scale_decoder_outputs", scaled)
    return float(config.d_model) ** -0.5 if scaled else 1.0
