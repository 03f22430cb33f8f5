"""How many states are decoded at once: as many as memory holds, fewer where it turns out that it holds less."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from generator.architectures.traits import is_encoder_decoder

SHARE = 0.4  # of free memory that the estimate of a chunk may fill
_BYTES_PER_LOGIT = 16  # float32 logits, their sums, and room to sort them

logger = logging.getLogger(__name__)
_said: set[str] = set()

Answer = TypeVar("Answer")


def bytes_of_state(model: Any, length: int, num_rows: int, max_new_tokens: int) -> int:
    """About how much memory a state takes while it is decoded.

    Args:
        model: of either family.
        length: tokens of the input.
        num_rows: beams or samples.
        max_new_tokens: the most tokens written.
    """
    config = model.config
    size = int(model.get_input_embeddings().weight.element_size())
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    logits = num_rows * vocabulary * _BYTES_PER_LOGIT
    if is_encoder_decoder(model):
        layers = int(getattr(config, "num_decoder_layers", None) or config.num_layers)
        position = 2 * layers * int(config.num_heads) * int(config.d_kv) * size
        reading = length * (8 * int(config.d_model) + 4 * int(config.d_ff)) * size
        return position * (length + 2 * num_rows * max_new_tokens) + reading + logits
    text: Any = config.get_text_config(decoder=True)
    heads = int(text.num_attention_heads)
    head_size = int(getattr(text, "head_dim", None) or text.hidden_size // heads)
    key_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    nodes = num_rows * max_new_tokens
    position = 2 * int(text.num_hidden_layers) * key_heads * head_size * size
    return position * (length + nodes) + num_rows * (length + nodes) * (size + 4) + logits


def free_bytes(device: torch.device) -> float:
    """Memory that could be taken, what torch keeps for later use included; without limit but on a GPU."""
    if device.type != "cuda":
        return math.inf
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)


def as_many(count: int) -> int:
    """A group has room for those that are in it, and no more."""
    return count


def chunks(sizes: Sequence[int], budget: float, room: Callable[[int], int] = as_many) -> list[list[int]]:
    """Groups neighbours, each counted as the largest of its group, so that a group keeps the budget.

    Args:
        sizes: bytes of each.
        budget: bytes of a group; a single one may need more.
        room: for how many a group of so many takes memory.

    Returns:
        The numbers of each group, in their order.
    """
    groups: list[list[int]] = []
    largest = 0
    for number, size in enumerate(sizes):
        largest = max(largest, size)
        if groups and largest * room(len(groups[-1]) + 1) <= budget:
            groups[-1].append(number)
        else:
            groups.append([number])
            largest = size
    return groups


def in_chunks(
    sizes: Sequence[int],
    budget: float,
    answer: Callable[[list[int]], Answer],
    give_back: Callable[[], None],
    room: Callable[[int], int] = as_many,
) -> list[tuple[list[int], Answer]]:
    """Answers groups within a budget, and where memory runs out, halves of them and of all that follow.

    Args:
        sizes: bytes of each.
        budget: bytes of a group.
        answer: what answers a group, given by numbers.
        give_back: lets go what is kept between groups, before a group is tried again.
        room: see `chunks`.

    Returns:
        The groups with their answers, in order.

    Raises:
        torch.OutOfMemoryError: where a single one is too large.
    """
    waiting, answered = chunks(sizes, budget, room), list[tuple[list[int], Answer]]()
    most = len(sizes)
    while waiting:
        group = waiting.pop(0)
        if len(group) > most:
            waiting[:0] = [group[:most], group[most:]]
            continue
        try:
            answered.append((group, answer(group)))
            continue
        except torch.OutOfMemoryError:
            if len(group) == 1:
                raise
        # outside of the except block, whose traceback holds on to tensors
        most = len(group) // 2
        say_once(f"memory ran out with {len(group)} states at once: {most} are decoded at a time instead")
        give_back()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        waiting.insert(0, group)
    return answered


def say_once(text: str) -> None:
    """Warns of something once in a process."""
    if text not in _said:
        _said.add(text)
        logger.warning(text)
