"""Batches for a decoder-only generator: rows of tokens that hold one example each, or several.

Shape legend: B rows, E examples (B unless packed), L padded length.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from common import IGNORE_INDEX
from retrieval.leandojo.provenance import ProvenanceLists, StepExample, provenance_lists


@dataclass(frozen=True, eq=False, kw_only=True)
class InstructExample(StepExample):
    """What a model reads and writes for one step of a proof.

    `state` is the model's input, the whole prompt; it is "" in evaluation where no prompt can hold the goal.

    Attributes:
        tactic: what the completion says
        proof_state: the state that the prompt was written from; "" where that is not known
        input_ids: tokens of prompt, completion and EOS
        num_prompt_tokens: how many of them are the prompt
    """

    tactic: str
    proof_state: str
    input_ids: list[int]
    num_prompt_tokens: int


class InstructBatch(ProvenanceLists):
    """Rows of tokens, padded on the right; texts and provenance are lists of length E, row by row."""

    input_ids: Tensor  # int64 (B, L)
    attention_mask: Tensor  # int64 (B, L), 0 on padding
    labels: Tensor  # int64 (B, L), -100 except on completions and their EOS
    state: list[str]
    proof_state: list[str]
    tactic: list[str]
    index: list[int]


class PackedBatch(InstructBatch):
    """Rows of several examples each, and what keeps these apart."""

    position_ids: Tensor  # int64 (B, L), from 0 in each example
    segment_ids: Tensor  # int64 (B, L), 1, 2, ... in a row and 0 on padding


def collate_rows(rows: Sequence[Sequence[InstructExample]], pad_id: int) -> InstructBatch:
    """Put the examples of each row one behind the other, and pad the rows."""
    examples = [example for row in rows for example in row]
    ids = [[token for example in row for token in example.input_ids] for row in rows]
    labels = [[label for example in row for label in _labels(example)] for row in rows]
    return InstructBatch(
        input_ids=padded(ids, pad_id),
        attention_mask=padded([[1] * len(row) for row in ids], 0),
        labels=padded(labels, IGNORE_INDEX),
        state=[example.state for example in examples],
        proof_state=[example.proof_state for example in examples],
        tactic=[example.tactic for example in examples],
        **provenance_lists([example.provenance for example in examples]),
        index=[example.index for example in examples],
    )


def _labels(example: InstructExample) -> Iterator[int]:
    yield from [IGNORE_INDEX] * example.num_prompt_tokens
    yield from example.input_ids[example.num_prompt_tokens :]


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Pad rows on the right, int64 (rows, longest)."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), fill, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)
