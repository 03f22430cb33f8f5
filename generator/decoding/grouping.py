"""Which inputs are computed together: a few of similar length at a time, so that padding and memory stay small."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GroupLimits:
    """What pays in decoding on one kind of device.

    Attributes:
        min_length_share: inputs share a padded attention call while the shortest has at least this share of the
            longest's length
        max_read_tokens: padded tokens of one forward pass of a decoder-only model over prompts
        max_packed_tokens: tokens of one pass of the T5 encoder, which pads nothing
    """

    min_length_share: float
    max_read_tokens: int
    max_packed_tokens: int


# On a CPU a call costs little and padding much; on a GPU it is the other way round.
LIMITS = {
    "cpu": GroupLimits(min_length_share=0.8, max_read_tokens=2048, max_packed_tokens=4096),
    "cuda": GroupLimits(min_length_share=0.4, max_read_tokens=16384, max_packed_tokens=65536),
}


def limits_of(device: torch.device) -> GroupLimits:
    """The limits of a device; of an unknown kind those of a CPU."""
    return LIMITS.get(device.type, LIMITS["cpu"])


def similar_lengths(
    lengths: Sequence[int], *, max_tokens: float = math.inf, min_share: float = 0.0, is_padded: bool = True
) -> list[list[int]]:
    """Groups inputs, longest first, so that the lengths of a group differ little.

    Args:
        lengths: tokens of each input.
        max_tokens: the most tokens of a group; a single input may have more.
        min_share: the shortest of a group has at least this share of the longest's length.
        is_padded: whether every input counts as many tokens as the longest of its group, or its own only.

    Returns:
        The numbers of the inputs of each group. Of lengths that never rise, each group is a run of neighbours, in
        their order.
    """
    groups: list[list[int]] = []
    longest = size = 0
    for number in longest_first(lengths):
        size += longest if is_padded else lengths[number]
        if groups and size <= max_tokens and lengths[number] >= min_share * longest:
            groups[-1].append(number)
        else:
            groups.append([number])
            longest = size = lengths[number]
    return groups


def longest_first(lengths: Sequence[int]) -> list[int]:
    """The numbers of the inputs by falling length, and as they stand where they are equally long."""
    return sorted(range(len(lengths)), key=lambda number: -lengths[number])
