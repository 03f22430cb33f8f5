"""Keys and values of a decoder-only model while many candidates continue each prompt.

A prompt is stored once, whatever the number of candidates. Behind it stand the tokens of all candidates: nodes of
a tree, in the order in which they were written. Which of them a candidate sees is a matter of the attention mask
(`generator.decoding.causal_decoder`), so candidates that swap places move nothing here.

Shapes: B states, S tokens of the longest prompt, N nodes so far, R new nodes of a step, H key heads, K head size.
"""

import weakref
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer


class TreeCache(Cache):
    """The cache that a model of transformers fills while it reads prompts and then writes nodes.

    Before each forward pass `read` or `write` says what is coming; the layers then store it without moving what
    they hold.
    """

    def __init__(self, num_layers: int, num_states: int, prompt_length: int, capacity: int) -> None:
        """Holds nothing yet; memory is taken by the first forward pass.

        Args:
            num_layers: layers of the model.
            num_states: B.
            prompt_length: S.
            capacity: nodes of each state that there is room for.
        """
        self.trees = [_TreeLayer(self) for _ in range(num_layers)]
        super().__init__(layers=list(self.trees))
        self.num_states, self.prompt_length, self.capacity = num_states, prompt_length, capacity
        self.num_nodes = 0
        self.num_new = 0
        self.reading: Tensor | None = None  # the states whose prompts are being read

    @property
    def length(self) -> int:
        """Positions in use, S + N."""
        return self.prompt_length + self.num_nodes

    def read(self, states: Tensor) -> None:
        """The next forward pass reads the prompts of these states, padded on the right."""
        self.reading = states

    def write(self, num_new: int) -> None:
        """The next forward pass writes `num_new` nodes of each state, for which there must be room."""
        assert self.num_nodes + num_new <= self.capacity
        self.reading, self.num_new = None, num_new
        self.num_nodes += num_new

    def store(self, held: Sequence[Tensor], new: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Puts what a layer computed, keys and values, to what it holds.

        Returns:
            What its queries may attend to.
        """
        if self.reading is not None:
            for one, states in zip(held, new, strict=True):
                one[self.reading.to(one.device), :, : states.shape[2]] = states
            keys, values = new
            return keys, values
        for one, states in zip(held, new, strict=True):
            one[:, :, self.length - self.num_new : self.length] = states
        keys, values = (one[:, :, : self.length] for one in held)
        return keys, values

    def keep(self, states: Tensor) -> None:
        """Forgets every state but these."""
        for tree in self.trees:  # layer by layer, so that little exists twice
            tree.held = [held[states.to(held.device)] for held in tree.held]
        self.num_states = len(states)

    def compact(self, nodes: Tensor, capacity: int) -> None:
        """Keeps these nodes (B, N') of each state, in this order, with room for at least `capacity`.

        The prompts are copied only where the room grows.
        """
        self.capacity = max(capacity, self.capacity)
        for tree in self.trees:
            tree.held = [self._compacted(held, nodes.to(held.device)) for held in tree.held]
        self.num_nodes = nodes.shape[1]

    def _compacted(self, held: Tensor, nodes: Tensor) -> Tensor:
        first, size = self.prompt_length, self.prompt_length + self.capacity
        index = (first + nodes)[:, None, :, None].expand(-1, held.shape[1], -1, held.shape[-1])
        kept = held.gather(2, index)
        if held.shape[2] < size:
            prompts = held[:, :, :first]
            held = held.new_zeros((*held.shape[:2], size, held.shape[-1]))
            held[:, :, :first] = prompts
        held[:, :, first : first + nodes.shape[1]] = kept
        return held


class _TreeLayer(DynamicLayer):
    """What one layer holds: keys and values, each (B, H, S + capacity, K)."""

    def __init__(self, cache: TreeCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # a plain reference would be a cycle, and keep keys and values until Python looks for such
        self.cache: TreeCache = weakref.proxy(cache)
        self.held: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Stores what the model computed; returns what its queries may attend to."""
        cache, both = self.cache, (key_states, value_states)
        if not self.held:
            size = cache.prompt_length + cache.capacity
            # zeros, because a weight of 0 does not silence a NaN on a masked position
            self.held = [new.new_zeros((cache.num_states, new.shape[1], size, new.shape[-1])) for new in both]
        return cache.store(self.held, both)

    def get_seq_length(self) -> int:
        """Positions before those of this forward pass."""
        return 0 if self.cache.reading is not None else self.cache.length - self.cache.num_new

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Number and offset of the positions that the queries attend to."""
        return self.get_seq_length() + query_length, 0


def padded(prompts: Sequence[Tensor]) -> Tensor:
    """Prompts (S,) as one batch, padded on the right with their own last tokens.

    Nothing looks at these, and there is no mask for them; of pad tokens without a mask transformers warns.
    """
    longest = max(map(len, prompts))
    return torch.stack([torch.cat([prompt, prompt[-1:].expand(longest - len(prompt))]) for prompt in prompts])
