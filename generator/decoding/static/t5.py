"""One decoding step of a T5-family model over buffers that never change their shapes; see `t5_decoder`.

What a step reads, ByT5-small in bfloat16 with 64 beams of 2,300 bytes: 154 MB of weights, 14 MB of keys and values of
the input, 25 MB of those of 64 written tokens, which it copies once: 0.07 ms at 3.3 TB/s; and 20 GFLOP, 0.03 ms. So the
launches of its kernels (some 190, several us each) are what a captured step saves. All of it counted, not measured.

Shapes: B states, R rows a state, N = B * R rows, S input tokens and T output tokens that there is room for, L layers,
H heads, K d_kv.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from generator.decoding.static.buffers import Buffers, empty
from generator.decoding.t5_encoder import T5Encoder
from generator.decoding.t5_stack import T5Stack


class T5Memory(Buffers):
    """Keys and values of the inputs, (2, L, B, H, S, K), and what to add to their scores, 0 or -inf (B, 1, 1, S)."""

    def __init__(self, stack: T5Stack, num_states: int, capacity: int, dtype: torch.dtype) -> None:
        device, size = stack.embedding.device, (num_states, stack.num_heads, capacity, stack.head_size)
        self.held = empty((2, len(stack.layers), *size), dtype, device)
        self.mask = empty((num_states, 1, 1, capacity), dtype, device)

    def read(self, stack: T5Stack, encoded: Sequence[Tensor]) -> None:
        """Projects the encoder's output (S', D) of each state; further states read one token of zeros."""
        num_states, capacity = len(encoded), self.held.shape[-2]
        hidden = pad_sequence(list(encoded), batch_first=True)
        self.held.zero_()  # beyond the inputs too: a NaN of an earlier search would come through a weight of 0
        for number, layer in enumerate(stack.layers):
            for held, project in zip(self.held, (layer.cross_key, layer.cross_value), strict=True):
                heads = project(hidden.flatten(0, 1)).reshape(*hidden.shape[:2], *held.shape[-3::2])
                held[number, :num_states, :, : hidden.shape[1]] = heads.transpose(1, 2)
        lengths = torch.ones(len(self.mask), dtype=torch.long)
        lengths[:num_states] = torch.tensor([len(states) for states in encoded])
        is_padding = torch.arange(capacity) >= lengths.unsqueeze(1)
        self.mask.copy_(torch.zeros(is_padding.shape).masked_fill(is_padding, -torch.inf)[:, None, None])


class StaticT5(Buffers):
    """The step of all rows, with room for `capacity` tokens of each."""

    def __init__(self, stack: T5Stack, memory: T5Memory, num_rows: int, capacity: int) -> None:
        """Takes the memory.

        Args:
            stack: the decoder's weights.
            memory: of the inputs, which networks of other capacities may share.
            num_rows: R.
            capacity: T.
        """
        self.stack, self.memory, self.capacity = stack, memory, capacity
        device, dtype = stack.embedding.device, memory.held.dtype
        self.num_states, self.num_rows = memory.held.shape[2], num_rows
        num_heads, head_size = stack.num_heads, stack.head_size
        shape = (capacity, len(stack.layers), 2, self.num_states * num_rows, num_heads * head_size)
        # rows that continue others are gathered from one into the other, and back at the next step
        self.caches = [empty(shape, dtype, device) for _ in range(1 if num_rows == 1 else 2)]
        self.position = torch.zeros(1, dtype=torch.long, device=device)
        self.places = torch.arange(capacity, device=device)
        self.first_rows = torch.arange(self.num_states, device=device).unsqueeze(1) * num_rows
        # (H, T) a layer, ending with distance 0
        self.tables = [table.to(dtype, copy=True) for table in stack.biases(capacity)]

    def refresh(self) -> None:
        """Reads the table of distances anew."""
        for table, fresh in zip(self.tables, self.stack.biases(self.capacity), strict=True):
            table.copy_(fresh)

    def reset(self) -> None:
        """Begins with nothing written."""
        self.position.zero_()
        for cache in self.caches:
            cache.zero_()

    def adopt(self, other: StaticT5) -> None:
        """Goes on where a network of less capacity, over the same memory, stands between two chunks."""
        self.reset()
        self.position.copy_(other.position)
        self.caches[0][: other.capacity] = other.caches[0]

    def forward(self, tokens: Tensor, parity: int) -> Tensor:
        """Feeds each row a token.

        Args:
            tokens: (B, R).
            parity: which cache holds what the rows have written.

        Returns:
            Logits of the next token, (B, R, V) float32.
        """
        cache = self.caches[parity % len(self.caches)]
        distance = self.places - self.position
        index, is_later = (distance + self.capacity - 1).clamp(max=self.capacity - 1), distance > 0
        masks: dict[int, Tensor] = {}

        def attend_output(number: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
            held = cache[:, number]
            held.index_copy_(0, self.position, torch.stack([key.flatten(1), value.flatten(1)])[None].to(held.dtype))
            table = self.tables[number]
            if number == 0 or self.stack.layers[number].attention.has_relative_attention_bias:
                masks[0] = table.index_select(1, index).masked_fill(is_later, -torch.inf).to(query.dtype)[None, :, None]
            keys, values = held.unflatten(-1, key.shape[1:]).permute(1, 2, 3, 0, 4)
            attended = F.scaled_dot_product_attention(query.unsqueeze(2), keys, values, attn_mask=masks[0], scale=1.0)
            return attended.flatten(1)

        def attend_input(number: int, query: Tensor) -> Tensor:
            keys, values = self.memory.held[:, number]
            queries = query.unflatten(0, (self.num_states, self.num_rows)).transpose(1, 2)
            attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask=self.memory.mask, scale=1.0)
            return attended.transpose(1, 2).flatten(0, 1).flatten(1)

        with torch.autocast(tokens.device.type, enabled=False):
            logits = self.stack.logits(tokens, attend_output, attend_input)
        self.position.add_(1)
        return logits

    def reorder(self, rows: Tensor, parity: int) -> None:
        """Lets rows continue others of their state, given by number (B, R), in the other cache."""
        if self.num_rows > 1:
            old, new = (self.caches[(parity + turn) % 2].flatten(0, 2) for turn in (0, 1))
            torch.index_select(old, 1, (self.first_rows + rows).flatten(), out=new)


def encoded_states(model: Any, dtype: torch.dtype | None, states: Sequence[Tensor]) -> list[Tensor]:
    """The encoder's output (S, D) of each state, given longest first."""
    with torch.autocast(states[0].device.type, enabled=False):
        return T5Encoder(model, dtype)(states)
