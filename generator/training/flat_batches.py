"""Batches whose texts stand behind one another in one row, with what training on them needs to know.

Laid out on the CPU, where lengths are known: nothing of a step then waits for the GPU to tell one.

Shape legend: B examples, S tokens of all sources, T of all targets, N of all texts, each rounded up; n trained tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from common import IGNORE_INDEX
from retrieval.training.flat_rows import flat_row, rounded


def flat_steps(batch: Mapping[str, Any], given: Tensor) -> dict[str, Any]:
    """Return a batch for an encoder-decoder with its sources in one row, and its targets in another.

    `state_ids` and `state_segments` are (1, S), `given_ids`, what the decoder reads, and `tactic_segments` (1, T),
    `targets`, what it should write, the first n of T, (n,).

    Args:
        batch: see GeneratorBatch
        given: what the decoder reads of each target, int64 (B, longest target)
    """
    source = flat_row(batch["state_ids"], batch["state_mask"])
    is_target = batch["tactic_ids"] != IGNORE_INDEX
    target = flat_row(given, is_target)
    targets = batch["tactic_ids"][is_target]
    left_out = ("state_mask", "tactic_ids", "tactic_mask")
    return {
        **{name: value for name, value in batch.items() if name not in left_out},
        "state_ids": source.ids,
        "state_segments": source.segments,
        "given_ids": target.ids,
        "tactic_segments": target.segments,
        "targets": targets,
        "num_targets": len(targets),
    }


def flat_instructions(batch: Mapping[str, Any], pad_id: int) -> dict[str, Any]:
    """Return a batch for a decoder-only model with its examples in one row.

    `input_ids`, `position_ids` and `segment_ids` are (1, N); `trained_at` are the places of tokens whose next one is
    trained, and `targets` these next ones, both (n,).

    Args:
        batch: see InstructBatch; or PackedBatch, whose rows are parted into their examples
        pad_id: what fills the row up
    """
    keep = batch["attention_mask"].bool()
    is_read = pad(batch["labels"][:, 1:] != IGNORE_INDEX, (0, 1))  # each position predicts the next token of its row
    places = torch.arange(keep.shape[1]).expand_as(keep)
    positions = batch.get("position_ids", places)[keep]
    targets = pad(batch["labels"][:, 1:], (0, 1))[is_read]
    return {
        **{name: value for name, value in batch.items() if name not in ("attention_mask", "labels")},
        "input_ids": rounded(batch["input_ids"][keep], pad_id),
        "position_ids": rounded(positions, 0),
        "segment_ids": rounded((positions == 0).cumsum(0), 0),
        "trained_at": is_read[keep].nonzero()[:, 0],
        "targets": targets,
        "num_targets": len(targets),
    }
