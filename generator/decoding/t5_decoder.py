"""One decoding step of a T5-family model for many continuations of the same state.

The continuations (rows: beams or samples) of a state differ in what they have written, never in what they have
read. So the keys and values of the input exist once per state, and the rows are the query positions of
attention over them: nothing the size of the input is copied, and it is read once a step instead of once a row.
Only the short keys and values of the output belong to rows. A step is not compiled: 84 to 93% of it are products of
matrices and attention already (tests/benchmarks/decoding.py --profile).

Shapes: B states, R rows a state, N = B * R rows, S input tokens, T output tokens so far, V vocabulary, D d_model,
H heads, K d_kv.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from generator.decoding.autocast import autocast_dtype
from generator.decoding.protocol import SpecialTokens
from generator.decoding.t5_cache import InputMemory, RowCache
from generator.decoding.t5_encoder import T5Encoder
from generator.decoding.t5_layers import FeedForward, Norm, Projection, relative_bias, residual, split_heads

MODEL_TYPES = ("t5", "mt5", "umt5")


class T5Decoder:
    """An encoded batch of states, and the rows being written for each.

    Weights are the model's own, read at each step. States stand longest first, so that neighbours, which are of
    similar length, share one attention call.
    """

    def __init__(self, model: Any, states: Sequence[Tensor], max_positions: int) -> None:
        """Encodes the states and starts with one empty row for each.

        Args:
            model: a T5-family encoder-decoder (see `check_model`).
            states: token ids (S,) of each state, without padding, longest first, where the model's embedding is.
            max_positions: the most tokens that will be decoded.
        """
        stack, config = model.decoder, model.config
        dtype = autocast_dtype(stack.embed_tokens.weight.device)
        self.special = SpecialTokens.of(model)
        self.num_heads = int(config.num_heads)
        self.embedding: Tensor = stack.embed_tokens.weight
        self.layers = [_DecoderLayer(block, config, dtype) for block in stack.block]
        self.final_norm = Norm(stack.final_layer_norm, config.layer_norm_epsilon)
        self.head = Projection([model.lm_head], dtype)
        self.output_scale = output_scale(config)
        with torch.autocast(self.embedding.device.type, enabled=False):
            self.biases = self._biases(max_positions)
            encoded = T5Encoder(model, dtype)(states)
            projections = [(layer.cross_key, layer.cross_value) for layer in self.layers]
            self.memory = InputMemory(encoded, projections, self.num_heads)
        self.cache = RowCache(len(self.layers), len(states), max_positions)
        self.num_states, self.num_rows = len(states), 1

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        with torch.autocast(tokens.device.type, enabled=False):
            hidden = F.embedding(tokens.flatten(), self.embedding)
            self.cache.advance()
            for number, layer in enumerate(self.layers):
                hidden = residual(hidden, layer.self_out(self._attend_output(number, hidden)))
                hidden = residual(hidden, layer.cross_out(self._attend_input(number, hidden)))
                hidden = layer.feed_forward(hidden)
            hidden = self.final_norm(hidden)
            if self.output_scale != 1.0:
                hidden = hidden * self.output_scale
            return self.head(hidden).float().contiguous().view(*tokens.shape, -1)

    def select(self, rows: Tensor, states: Sequence[int] | None = None) -> None:
        """See `Decoder.select`."""
        if states is not None and len(states) < self.num_states:
            self.memory.keep(states)
            kept = torch.tensor(states, device=rows.device)
        elif self.num_rows == rows.shape[1] == 1:
            return  # a single row continues itself
        else:
            kept = torch.arange(self.num_states, device=rows.device)
        self.cache.select((kept.unsqueeze(1) * self.num_rows + rows).flatten())
        self.num_states, self.num_rows = rows.shape

    def _attend_output(self, number: int, hidden: Tensor) -> Tensor:
        """Attention of each row over its own output: (N, D) to (N, H * K)."""
        layer, bias = self.layers[number], self.biases[number]
        query_key_value = split_heads(layer.qkv(layer.self_norm(hidden)), 3 * self.num_heads)
        query, key, value = query_key_value.chunk(3, dim=1)
        keys, values = self.cache.append(number, key, value)
        # the bias table ends with distance 0, so its tail covers the positions so far
        recent = bias[:, bias.shape[-1] - self.cache.length :].to(query.dtype)[None, :, None]
        attended = F.scaled_dot_product_attention(query.unsqueeze(2), keys, values, attn_mask=recent, scale=1.0)
        return attended.flatten(1)

    def _attend_input(self, number: int, hidden: Tensor) -> Tensor:
        """Attention of the rows of each state over its input: (N, D) to (N, H * K)."""
        layer = self.layers[number]
        query = split_heads(layer.cross_query(layer.cross_norm(hidden)), self.num_heads)
        return self.memory.attend(number, query.unflatten(0, (self.num_states, self.num_rows)))

    def _biases(self, max_positions: int) -> list[Tensor]:
        """For each layer the bias (H, max_positions) of the distances 1 - max_positions to 0.

        T5 has one table for all layers, UMT5 one for each.
        """
        biases: list[Tensor] = []
        for layer in self.layers:
            if layer.attention.has_relative_attention_bias:
                bias = relative_bias(layer.attention, 1 - max_positions, 0, bidirectional=False)
            biases.append(bias)
        return biases


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


def check_model(model: Any) -> None:
    """Refuses a model that this decoder does not know.

    Raises:
        TypeError: unless `model` is a T5-family encoder-decoder with a language-modelling head.
    """
    config: Any = getattr(model, "config", None)
    parts = ("encoder", "decoder", "lm_head")
    if getattr(config, "model_type", None) not in MODEL_TYPES or not all(hasattr(model, part) for part in parts):
        raise TypeError(
            f"{type(model).__name__} is not a T5-family encoder-decoder with a language-modelling head (one of "
            f"{', '.join(MODEL_TYPES)}: T5ForConditionalGeneration or its relatives). For another encoder-decoder use "
            "its own generate()."
        )


def output_scale(config: Any) -> float:
    """The factor on the last hidden states before the head: d_model ** -0.5 where the model was trained so."""
    if config.model_type == "mt5":
        return 1.0
    scaled = config.tie_word_embeddings
    if config.model_type == "t5":
        scaled = getattr(config, "scale_decoder_outputs", scaled)
    return float(config.d_model) ** -0.5 if scaled else 1.0
