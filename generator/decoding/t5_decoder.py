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
from generator.decoding.t5_cache import InputMemory, RowCache
from generator.decoding.t5_encoder import T5Encoder
from generator.decoding.t5_stack import T5Stack

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
        dtype = autocast_dtype(model.decoder.embed_tokens.weight.device)
        self.stack = T5Stack(model, dtype)
        self.special, self.embedding = self.stack.special, self.stack.embedding
        with torch.autocast(self.embedding.device.type, enabled=False):
            self.biases = self.stack.biases(max_positions)
            encoded = T5Encoder(model, dtype)(states)
            projections = [(layer.cross_key, layer.cross_value) for layer in self.stack.layers]
            self.memory = InputMemory(encoded, projections, self.stack.num_heads)
        self.cache = RowCache(len(self.stack.layers), len(states), max_positions)
        self.num_states, self.num_rows = len(states), 1

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`."""
        with torch.autocast(tokens.device.type, enabled=False):
            self.cache.advance()
            return self.stack.logits(tokens, self._attend_output, self._attend_input)

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

    def _attend_output(self, number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attention of each row over its own output: (N, H, K) each to (N, H * K)."""
        bias = self.biases[number]
        keys, values = self.cache.append(number, key, value)
        # the bias table ends with distance 0, so its tail covers the positions so far
        recent = bias[:, bias.shape[-1] - self.cache.length :].to(query.dtype)[None, :, None]
        attended = F.scaled_dot_product_attention(query.unsqueeze(2), keys, values, attn_mask=recent, scale=1.0)
        return attended.flatten(1)

    def _attend_input(self, number: int, query: Tensor) -> Tensor:
        """Attention of the rows of each state over its input: (N, H, K) to (N, H * K)."""
        return self.memory.attend(number, query.unflatten(0, (self.num_states, self.num_rows)))


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
