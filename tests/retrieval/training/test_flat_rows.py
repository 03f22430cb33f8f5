"""The texts of a batch stand behind one another in one row, of one of few lengths."""

from __future__ import annotations

import torch

from retrieval.training.block_attention import BLOCK
from retrieval.training.flat_rows import flat_row, rounded_length


def test_a_row_holds_all_texts_and_no_padding_between_them() -> None:
    ids, mask = torch.tensor([[5, 6, 0], [7, 0, 0], [8, 9, 4]]), torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]])
    row = flat_row(ids, mask, fill=2)
    assert row.ids.shape == row.segments.shape == (1, BLOCK)
    assert row.ids[0, :7].tolist() == [5, 6, 7, 8, 9, 4, 2]
    assert row.segments[0, :7].tolist() == [1, 1, 2, 3, 3, 3, 0]
    assert not row.segments[0, 6:].any()


def test_no_texts_make_a_row_of_padding() -> None:
    row = flat_row(torch.zeros(0, 0, dtype=torch.long), torch.zeros(0, 0, dtype=torch.long))
    assert row.ids.shape == (1, BLOCK) and not row.segments.any()


def test_lengths_are_few_blocks_long_enough_and_little_longer() -> None:
    lengths = range(1, 40_000, 37)
    found = {rounded_length(n) for n in lengths}
    assert len(found) < 100
    for n in lengths:
        assert rounded_length(n) % BLOCK == 0 and n <= rounded_length(n) < n + max(BLOCK, n / 8)
