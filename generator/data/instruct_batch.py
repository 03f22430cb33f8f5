"""Batches for a decoder-only generator: rows of tokens that hold one example each, or several.

Shape legend: B rows, E examples (B unless packed), L padded length, P padded length of prompts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor

from common import IGNORE_INDEX, Pos


class InstructExample(TypedDict):
    """What a model reads and writes for one step of a proof, and where the step comes from."""

    state: str  # the model's input: the prompt; "" in evaluation where none can hold the goal
    tactic: str  # what the completion says
    proof_state: str  # the state that the prompt was written from; "" where it cannot be told
    input_ids: list[int]  # prompt, completion and EOS
    num_prompt_tokens: int
    url: str
    commit: str
    file_path: str
    full_name: str  # of the theorem
    start: Pos  # of the theorem; 1:1 where the data does not say
    tactic_idx: int
    index: int  # in the dataset


class InstructBatch(TypedDict):
    """Rows of tokens, padded on the right; texts and provenance are lists of length E, row by row."""

    input_ids: Tensor  # int64 (B, L)
    attention_mask: Tensor  # int64 (B, L), 0 on padding
    labels: Tensor  # int64 (B, L), -100 but on completions and their EOS
    position_ids: NotRequired[Tensor]  # int64 (B, L), from 0 in each example; packed rows only
    segment_ids: NotRequired[Tensor]  # int64 (B, L), 1, 2, ... in a row and 0 on padding; packed rows only
    prompt_ids: NotRequired[Tensor]  # int64 (B, P); evaluation only
    prompt_mask: NotRequired[Tensor]  # int64 (B, P), 0 on padding; evaluation only
    state: list[str]
    tactic: list[str]
    url: list[str]
    commit: list[str]
    file_path: list[str]
    full_name: list[str]
    start: list[tuple[int, int]]  # line, column
    tactic_idx: list[int]
    index: list[int]


def collate_rows(rows: Sequence[Sequence[InstructExample]], pad_id: int) -> InstructBatch:
    """Put the examples of each row one behind the other, and pad the rows."""
    examples = [example for row in rows for example in row]
    ids = [[token for example in row for token in example["input_ids"]] for row in rows]
    labels = [[label for example in row for label in _labels(example)] for row in rows]
    return InstructBatch(
        input_ids=padded(ids, pad_id),
        attention_mask=padded([[1] * len(row) for row in ids], 0),
        labels=padded(labels, IGNORE_INDEX),
        state=[example["state"] for example in examples],
        tactic=[example["tactic"] for example in examples],
        url=[example["url"] for example in examples],
        commit=[example["commit"] for example in examples],
        file_path=[example["file_path"] for example in examples],
        full_name=[example["full_name"] for example in examples],
        start=[(example["start"].line_nb, example["start"].column_nb) for example in examples],
        tactic_idx=[example["tactic_idx"] for example in examples],
        index=[example["index"] for example in examples],
    )


def _labels(example: InstructExample) -> Iterator[int]:
    num_prompt_tokens = example["num_prompt_tokens"]
    yield from [IGNORE_INDEX] * num_prompt_tokens
    yield from example["input_ids"][num_prompt_tokens:]


def padded(rows: Sequence[Sequence[int]], fill: int) -> Tensor:
    """Pad rows on the right, int64 (rows, longest)."""
    padded = np.full((len(rows), max(map(len, rows), default=0)), fill, dtype=np.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return torch.from_numpy(padded)
