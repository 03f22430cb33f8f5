"""One decoding step of any decoder-only model of transformers for many continuations of the same prompt.

The live rows (beams or samples) of a state are the query positions of one forward call: a row of the model's batch
is a state, not a candidate. Their tokens join the prompt's keys and values as nodes of a tree (see
`generator.decoding.causal_cache`), and a mask lets each row see the prompt and its own ancestors. So a prompt is
encoded and stored once, and a step reads it once for all rows. What it costs: a row's attention passes over the other
rows' nodes too, so nodes that no row descends from are dropped as they come to outnumber the others.

Tree attention as in SpecInfer (arXiv:2305.09781, section 4), here with the beams of a search as branches.

Shapes: B states, R rows a state, S tokens of the longest prompt, N nodes so far, V vocabulary.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from generator.architectures.traits import attention_windows, num_layers, reason_against_masks, token_ids
from generator.decoding.beams import take_rows
from generator.decoding.causal_cache import TreeCache, padded
from generator.decoding.grouping import limits_of, similar_lengths
from generator.decoding.protocol import SpecialTokens

STEPS_PER_GROWTH = 16  # that the cache gets room for at once: growing copies what it holds


class CausalDecoder:
    """A batch of prompts, encoded once each, and the rows being written for each; see `protocol.Decoder`.

    The model is called as it is: its dtype, devices, adapters and the caller's autocast apply.
    """

    def __init__(self, model: Any, prompts: Sequence[Tensor], num_rows: int, max_new_tokens: int) -> None:
        """Reads the prompts.

        Args:
            model: a decoder-only model in evaluation mode (see `check_model`).
            prompts: token ids (S,) of each state, without padding, at least one, where the model's embedding is.
            num_rows: the most rows of a state that there will be.
            max_new_tokens: the most tokens that will be written.
        """
        self.model, self.special = model, special_tokens(model)
        self.embedding: Tensor = model.get_input_embeddings().weight
        device, lengths = self.embedding.device, [len(prompt) for prompt in prompts]
        self.num_states, self.max_nodes = len(prompts), num_rows * max_new_tokens
        self.lengths = torch.tensor(lengths, device=device)
        # of every key the place in its text (B, S + N), of every node whether it is an ancestor of a row (B, R, N)
        self.places = torch.arange(max(lengths), device=device).expand(len(lengths), -1)
        self.visible = torch.ones((len(prompts), 1, 0), dtype=torch.bool, device=device)
        self.is_prompt = self.places < self.lengths.unsqueeze(1)
        self.windows = attention_windows(model.config, max(lengths) + max_new_tokens)
        self.num_steps = 0
        capacity = min(STEPS_PER_GROWTH * num_rows, self.max_nodes)
        self.cache = TreeCache(num_layers(model.config), self.num_states, max(lengths), capacity)
        self.first_logits: Tensor | None = read_prompts(model, self.cache, prompts)

    def step(self, tokens: Tensor) -> Tensor:
        """See `Decoder.step`; the first call returns what the prompts predict, and its tokens are not used."""
        if self.first_logits is not None:
            logits, self.first_logits = self.first_logits, None
            return logits
        num_rows = tokens.shape[1]
        if self.cache.num_nodes + num_rows > self.cache.capacity:
            self._make_room(num_rows)
        places = (self.lengths + self.num_steps).unsqueeze(1).expand(-1, num_rows)
        itself = torch.eye(num_rows, dtype=torch.bool, device=tokens.device).expand(self.num_states, -1, -1)
        self.visible = torch.cat([self.visible, itself], -1)
        self.places = torch.cat([self.places, places], 1)
        self.num_steps += 1
        self.cache.write(num_rows)
        return called(self.model, self.cache, tokens, places, attention_mask=self._masks()).float()

    def select(self, rows: Tensor, states: Sequence[int] | None = None) -> None:
        """See `Decoder.select`."""
        if states is not None and len(states) < self.num_states:
            kept = torch.tensor(states, device=rows.device)
            self.lengths, self.is_prompt, self.places = self.lengths[kept], self.is_prompt[kept], self.places[kept]
            self.visible, self.num_states = self.visible[kept], len(states)
            self.cache.keep(kept)
        self.visible = take_rows(self.visible, rows)

    def _masks(self) -> Tensor | dict[str, Tensor]:
        """What to add to the attention scores of the newest nodes, (B, 1, R, S + N): 0 or -inf.

        One mask, or one for each type of layer of a model where some layers see a window only.
        """
        num_rows = self.visible.shape[1]
        visible = torch.cat([self.is_prompt.unsqueeze(1).expand(-1, num_rows, -1), self.visible], -1)
        distance = self.places[:, -1:, None] - self.places.unsqueeze(1)  # all rows stand at the same place
        return additive_masks(visible, distance, self.windows, self.cache.trees[0].held[0].dtype)

    def _make_room(self, num_rows: int) -> None:
        """Drops the nodes that no row descends from, and grows where more than half stay."""
        is_alive = self.visible.any(1)
        num_alive = int(is_alive.sum(1).max())
        # states with fewer keep some dead nodes, which no row sees
        nodes = is_alive.byte().argsort(dim=1, descending=True, stable=True)[:, :num_alive]
        capacity = self.cache.capacity
        if 2 * num_alive + num_rows > capacity:
            capacity = min(2 * num_alive + STEPS_PER_GROWTH * num_rows, self.max_nodes)
        prompt_places, node_places = self.places.tensor_split([self.cache.prompt_length], dim=1)
        self.places = torch.cat([prompt_places, node_places.gather(1, nodes)], 1)
        self.visible = self.visible.gather(2, nodes.unsqueeze(1).expand(-1, self.visible.shape[1], -1))
        self.cache.compact(nodes, capacity)


def read_prompts(model: Any, cache: TreeCache, prompts: Sequence[Tensor]) -> Tensor:
    """Encodes prompts (S,) into a cache; returns the logits behind the last token of each, (B, 1, V) float32."""
    device, lengths = prompts[0].device, [len(prompt) for prompt in prompts]
    limits, last = limits_of(device), torch.tensor(lengths, device=device) - 1
    logits: list[Tensor] = [last] * len(prompts)
    for group in similar_lengths(lengths, max_tokens=limits.max_read_tokens, min_share=limits.min_length_share):
        input_ids = padded([prompts[state] for state in group])
        states = torch.tensor(group, device=device)
        ends, which = torch.unique(last[states], return_inverse=True)
        cache.read(states)
        # causal attention never reaches the padding behind a prompt, so no mask is needed
        places = torch.arange(input_ids.shape[1], device=device).expand(len(group), -1)
        found = called(model, cache, input_ids, places, logits_to_keep=ends)
        for number, state in enumerate(group):
            logits[state] = found[number, which[number] : which[number] + 1].float()
    return torch.stack(logits)


def called(model: Any, cache: TreeCache, input_ids: Tensor, places: Tensor, **options: Any) -> Tensor:
    """The logits of one forward pass, where the tokens are."""
    output = model(input_ids=input_ids, position_ids=places, past_key_values=cache, use_cache=True, **options)
    logits: Tensor = output.logits.to(input_ids.device)
    return logits


def additive_masks(
    visible: Tensor, distance: Tensor, windows: Mapping[str, int | None], dtype: torch.dtype
) -> Tensor | dict[str, Tensor]:
    """What to add to attention scores: 0 or -inf, one mask, or one for each type of layer where some see a window only.

    Args:
        visible: which keys each row may see, bool (B, R, S + N).
        distance: how far back they stand, broadcasting with it.
        windows: of `attention_windows`.
        dtype: of keys.

    Returns:
        (B, 1, R, S + N).
    """
    masks = {}
    for kind, window in windows.items():
        seen = visible if window is None else visible & (distance < window)
        mask = torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)
        masks[kind] = mask.unsqueeze(1)
    return masks if len(masks) > 1 else next(iter(masks.values()))


def check_model(model: Any) -> None:
    """Refuses a model that cannot be called as this decoder does.

    Raises:
        TypeError: unless `model` is a decoder-only model of transformers with a language-modelling head, whose
            attention takes a mask for each query and whose positions are given with each token.
    """
    name = type(model).__name__
    if not (hasattr(model, "can_generate") and model.can_generate()):
        raise TypeError(
            f"{name} has no language-modelling head: load it with AutoModelForSeq2SeqLM or AutoModelForCausalLM."
        )
    if reason := reason_against_masks(model):
        raise TypeError(
            f"{name} (model_type {model.config.model_type!r}) {reason}, so its candidates cannot share a prompt here: "
            "use the transformers engine."
        )


def special_tokens(model: Any) -> SpecialTokens:
    """The tokens that end and fill up. The start token is a placeholder, as the prompt stands in its place."""
    eos = token_ids(model, "eos_token_id")
    pad = (token_ids(model, "pad_token_id") or eos or [0])[0]
    return SpecialTokens(pad, tuple(eos), pad)
