"""One decoding step of a decoder-only model over buffers that never change their shapes; see `causal_decoder`.

What a step reads, a Llama of 135 million parameters in bfloat16 with 32 candidates of a 1,500-token prompt: 270 MB of
weights and, as candidates share what they have read, 34 MB of keys and values of the prompt and 12 to 24 MB of nodes:
0.1 ms at 3.3 TB/s. The launches of its kernels, some 1,200, are what a captured step saves. All counted, not measured.

Shapes: B states, R rows a state, S tokens of prompts and N nodes that there is room for, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from generator.architectures.traits import attention_windows, num_layers
from generator.decoding.beams import take_rows
from generator.decoding.causal_cache import TreeCache
from generator.decoding.causal_decoder import additive_masks, called, read_prompts
from generator.decoding.static.buffers import Buffers


class StaticTree(TreeCache):
    """A cache of a fixed size: nodes are written where `where` says, and all of it is attended to, behind a mask."""

    where: Tensor | None = None  # of the newest nodes among all positions, (R,); None while prompts are read

    def read(self, states: Tensor) -> None:
        """See `TreeCache.read`."""
        self.where = None
        super().read(states)

    def write_at(self, where: Tensor) -> None:
        """The next forward pass writes nodes there."""
        self.reading, self.where, self.num_new = None, where, len(where)
        self.num_nodes = self.capacity  # as far as any caller is to know

    def store(self, held: Sequence[Tensor], new: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """See `TreeCache.store`."""
        if self.where is None:
            return super().store(held, new)
        for one, states in zip(held, new, strict=True):
            one.index_copy_(2, self.where.to(one.device), states.to(one.dtype))
        keys, values = held
        return keys, values


class StaticCausal(Buffers):
    """The step of all rows, with room for `capacity` nodes of each state."""

    def __init__(
        self, model: Any, num_states: int, num_rows: int, prompt_length: int, capacity: int, max_new_tokens: int
    ) -> None:
        """Takes the memory but that of keys and values, which `read` or `adopt` takes.

        Args:
            model: in evaluation mode.
            num_states: B.
            num_rows: R.
            prompt_length: S.
            capacity: N, a multiple of R.
            max_new_tokens: the most tokens that will be written.
        """
        self.model = model  # whose weights are no buffers of this one
        device = model.get_input_embeddings().weight.device
        self.num_states, self.num_rows, self.capacity = num_states, num_rows, capacity
        self.prompt_length, self.max_new_tokens = prompt_length, max_new_tokens
        self.windows = attention_windows(model.config, prompt_length + max_new_tokens)
        self.cache = StaticTree(num_layers(model.config), num_states, prompt_length, capacity)
        size = prompt_length + capacity
        self.lengths = torch.ones(num_states, dtype=torch.long, device=device)
        self.num_fed = torch.zeros(1, dtype=torch.long, device=device)
        self.num_nodes = torch.zeros(1, dtype=torch.long, device=device)
        self.places = torch.zeros((num_states, size), dtype=torch.long, device=device)
        self.is_prompt = torch.zeros((num_states, prompt_length), dtype=torch.bool, device=device)
        self.visible = torch.zeros((num_states, num_rows, capacity), dtype=torch.bool, device=device)
        self.itself = torch.eye(num_rows, dtype=torch.bool, device=device).expand(num_states, -1, -1)
        self.numbers = torch.arange(num_rows, device=device)

    @property
    def held(self) -> list[Tensor]:
        """Keys and values of all layers."""
        return [held for tree in self.cache.trees for held in tree.held]

    @property
    def num_bytes(self) -> int:
        return super().num_bytes + sum(held.untyped_storage().nbytes() for held in self.held)

    def read(self, prompts: Sequence[Tensor]) -> Tensor:
        """Encodes the prompts; returns the logits behind each, (B', 1, V) float32. Further states read one token."""
        for held in self.held:
            held.zero_()
        logits = read_prompts(self.model, self.cache, prompts)
        self.lengths.fill_(1)
        self.lengths[: len(prompts)] = torch.tensor([len(prompt) for prompt in prompts], device=self.lengths.device)
        positions = torch.arange(self.prompt_length, device=self.lengths.device)
        self.is_prompt.copy_(positions < self.lengths.unsqueeze(1))
        self.places.zero_()
        self.places[:, : self.prompt_length] = positions
        return logits

    def reset(self) -> None:
        """Begins with nothing written behind the prompts."""
        self.num_fed.zero_()
        self.num_nodes.zero_()
        self.visible.zero_()
        for held in self.held:
            held[:, :, self.prompt_length :] = 0

    def allocate(self, other: StaticCausal) -> None:
        """Takes the memory of keys and values in the types of another network."""
        size = self.prompt_length + self.capacity
        for mine, theirs in zip(self.cache.trees, other.cache.trees, strict=True):
            mine.held = [held.new_zeros((*held.shape[:2], size, held.shape[-1])) for held in theirs.held]

    def adopt(self, other: StaticCausal) -> None:
        """Goes on where a network of the same prompts and less capacity stands, which may be this one.

        Nodes that no row descends from are left behind.
        """
        is_alive = other.visible.any(1)
        num_alive = int(is_alive.sum(1).max())
        # states with fewer keep some dead nodes, which no row sees
        nodes = is_alive.byte().argsort(dim=1, descending=True, stable=True)[:, :num_alive]
        visible = other.visible.gather(2, nodes.unsqueeze(1).expand(-1, self.num_rows, -1))
        prompt_places, node_places = other.places.tensor_split([self.prompt_length], dim=1)
        places = node_places.gather(1, nodes)
        kept = [_nodes_of(held, nodes.to(held.device), self.prompt_length) for held in other.held]
        end = self.prompt_length + num_alive
        self.visible.zero_()
        self.visible[..., :num_alive] = visible
        self.places[:, : self.prompt_length] = prompt_places.clone()
        self.places[:, self.prompt_length : end] = places
        for mine, theirs, those in zip(self.held, other.held, kept, strict=True):
            if mine is not theirs:
                mine[:, :, : self.prompt_length] = theirs[:, :, : self.prompt_length]
            mine[:, :, self.prompt_length : end] = those
        self.num_nodes.fill_(num_alive)
        for name in ("lengths", "num_fed", "is_prompt"):
            getattr(self, name).copy_(getattr(other, name).clone())

    def num_alive(self) -> int:
        """Nodes that a row descends from, of the state with the most."""
        return int(self.visible.any(1).sum(1).max())

    def forward(self, tokens: Tensor, parity: int) -> Tensor:
        """Feeds each row a token; see `StaticT5.forward`."""
        nodes = self.num_nodes + self.numbers
        where = self.prompt_length + nodes
        # beyond the last token that counts, of steps that only fill up a chunk, there may be no positions
        place = self.lengths.unsqueeze(1) + self.num_fed.clamp(max=max(0, self.max_new_tokens - 2))
        places = place.expand(-1, self.num_rows)
        self.visible.index_copy_(2, nodes, self.itself)
        self.places.index_copy_(1, where, places)
        self.cache.write_at(where)
        is_prompt = self.is_prompt.unsqueeze(1).expand(-1, self.num_rows, -1)
        visible, distance = torch.cat([is_prompt, self.visible], -1), (place - self.places).unsqueeze(1)
        masks = additive_masks(visible, distance, self.windows, self.held[0].dtype)
        logits = called(self.model, self.cache, tokens, places, attention_mask=masks).float()
        self.num_fed.add_(1)
        self.num_nodes.add_(self.num_rows)
        return logits

    def reorder(self, rows: Tensor, parity: int) -> None:
        """Lets rows continue others of their state: they see what those saw."""
        self.visible.copy_(take_rows(self.visible, rows))


def _nodes_of(held: Tensor, nodes: Tensor, first: int) -> Tensor:
    """Those nodes (B, N') of keys or values (B, H, S + N, K), which stand from `first` on."""
    index = (first + nodes)[:, None, :, None].expand(-1, held.shape[1], -1, held.shape[-1])
    return held.gather(2, index)
