"""Keys and values of attention while decoding: of the input once per state, of the output once per row.

Shapes: B states, R rows a state, N = B * R rows, S input tokens, T output tokens so far, L layers, H heads, K d_kv.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from generator.decoding.grouping import limits_of, similar_lengths
from generator.decoding.t5_layers import split_heads

Project = Callable[[Tensor], Tensor]

POSITIONS_PER_GROWTH = 32  # of the output, at once: growing copies what is held


@dataclass
class _Group:
    """Consecutive states padded to a common length: (B', H, S, K) a layer; the mask is 0 or -inf."""

    keys: list[Tensor]
    values: list[Tensor]
    mask: Tensor | None

    @property
    def num_states(self) -> int:
        return len(self.keys[0])

    def keep(self, states: Tensor) -> "_Group":
        mask = None if self.mask is None else self.mask[states]
        return _Group([keys[states] for keys in self.keys], [values[states] for values in self.values], mask)


class InputMemory:
    """Keys and values of the encoded inputs, held once per state whatever the number of rows."""

    def __init__(
        self, encoded: Sequence[Tensor], projections: Sequence[tuple[Project, Project]], num_heads: int
    ) -> None:
        """Projects the encoder's output for every decoder layer.

        Args:
            encoded: last hidden states (S, D) of each state, longest first.
            projections: for each layer the maps from (S, D) to its keys and to its values, (S, H * K).
            num_heads: H.
        """
        min_share = limits_of(encoded[0].device).min_length_share
        self.groups = [
            _project([encoded[state] for state in states], projections, num_heads)
            for states in similar_lengths([len(hidden) for hidden in encoded], min_share=min_share)
        ]

    def attend(self, layer: int, query: Tensor) -> Tensor:
        """Lets the rows of each state attend to its input.

        Args:
            layer: number of the decoder layer.
            query: (B, R, H, K).

        Returns:
            (B * R, H * K).
        """
        attended = []
        sizes = [group.num_states for group in self.groups]
        for group, queries in zip(self.groups, query.split(sizes), strict=True):
            states_heads = F.scaled_dot_product_attention(
                queries.transpose(1, 2),
                group.keys[layer],
                group.values[layer],
                attn_mask=group.mask,
                scale=1.0,
            )
            attended.append(states_heads.transpose(1, 2).flatten(0, 1).flatten(1))
        return attended[0] if len(attended) == 1 else torch.cat(attended)

    def keep(self, states: Sequence[int]) -> None:
        """Forgets every state but those named (ascending)."""
        groups, first = [], 0
        for group in self.groups:
            last = first + group.num_states
            local = [state - first for state in states if first <= state < last]
            if len(local) == group.num_states:
                groups.append(group)
            elif local:
                groups.append(group.keep(torch.tensor(local, device=group.keys[0].device)))
            first = last
        self.groups = groups


def _project(encoded: Sequence[Tensor], projections: Sequence[tuple[Project, Project]], num_heads: int) -> _Group:
    def padded(project: Project) -> Tensor:
        batch = pad_sequence([split_heads(project(hidden), num_heads) for hidden in encoded], batch_first=True)
        return batch.transpose(1, 2).contiguous()  # (B', S, H, K) to (B', H, S, K)

    keys = [padded(to_keys) for to_keys, _ in projections]
    values = [padded(to_values) for _, to_values in projections]
    return _Group(keys, values, _mask([len(hidden) for hidden in encoded], keys[0]))


def _mask(lengths: Sequence[int], like: Tensor) -> Tensor | None:
    """What to add to the attention scores: -inf on padding, (B', 1, 1, S); None where there is no padding."""
    if min(lengths) == max(lengths):
        return None
    position = torch.arange(max(lengths), device=like.device)
    is_padding = position >= torch.tensor(lengths, device=like.device).unsqueeze(1)
    return like.new_zeros(is_padding.shape).masked_fill(is_padding, -torch.inf)[:, None, None]


class RowCache:
    """Keys and values of what each row has written.

    One buffer (T, L, 2, N, H * K), position first, so that letting rows continue others is one gather of the
    positions in use, for all layers at once, into a second buffer that takes its place.
    """

    def __init__(self, num_layers: int, num_rows: int, max_positions: int) -> None:
        self.num_layers = num_layers
        self.max_positions = max_positions
        self.num_rows = num_rows
        self.length = 0
        self.capacity = 0
        self.buffer: Tensor | None = None
        self.spare: Tensor | None = None

    def advance(self) -> None:
        """Opens the next position; `append` then fills it layer by layer."""
        self.length += 1

    def append(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Stores the newest position of a layer.

        Args:
            layer: number of the layer.
            key: (N, H, K); `value` likewise.
            value: see `key`.

        Returns:
            Keys and values of all positions, views (N, H, T, K).
        """
        if self.length > self.capacity:
            self._grow(key)
        assert self.buffer is not None
        written = self.buffer[self.length - 1, layer]
        written[0] = key.flatten(1)
        written[1] = value.flatten(1)
        both = self.buffer[: self.length, layer].unflatten(-1, key.shape[1:])
        keys, values = both.permute(1, 2, 3, 0, 4)
        return keys, values

    def select(self, rows: Tensor) -> None:
        """Replaces the rows by copies of old ones, given as numbers (N',) of old rows."""
        if self.buffer is not None:
            shape = (self.capacity, *self.buffer.shape[1:3], len(rows), self.buffer.shape[-1])
            target = _reuse(self.spare, shape, self.buffer)
            old, new = (part[: self.length].flatten(0, 2) for part in (self.buffer, target))
            torch.index_select(old, 1, rows, out=new)
            self.spare, self.buffer = self.buffer, target
        self.num_rows = len(rows)

    def _grow(self, like: Tensor) -> None:
        self.capacity = min(self.capacity + POSITIONS_PER_GROWTH, self.max_positions)
        grown = like.new_empty(self.capacity, self.num_layers, 2, self.num_rows, like[0].numel())
        if self.buffer is not None:
            grown[: self.length - 1] = self.buffer[: self.length - 1]
        self.buffer, self.spare = grown, None


def _reuse(spare: Tensor | None, shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A buffer of `shape` in the memory of `spare` if that is large enough."""
    needed = torch.Size(shape).numel()
    if spare is None or spare.untyped_storage().nbytes() < needed * like.element_size():
        return like.new_empty(shape)
    strides = torch.empty(shape, device="meta").stride()
    return spare.as_strided(shape, strides)
