"""Several examples in one row: which go together, and what keeps them apart.

Shape legend: B rows, L padded length.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from generator.data.instruct_batch import InstructExample, PackedBatch, collate_rows, padded
from generator.data.instruct_dataset import InstructDataset
from retrieval.training.batches import KeyedDataset

_POOL = 16_384  # examples that are packed together


def pack(lengths: npt.NDArray[np.int64], max_len: int, seed: int) -> list[list[int]]:
    """Distribute examples over rows of at most max_len tokens.

    Examples are drawn at random into pools, so that a row holds examples from anywhere in the data. Those of a pool are
    packed longest first, each into the fullest row that has room. The result depends on the arguments alone: it is the
    same on every rank and after a resume.

    Args:
        lengths: tokens of each example, none above max_len, int64 (N,)
        max_len: tokens of a row
        seed: of the draw

    Returns:
        The numbers of the examples of each row.
    """
    rows: list[list[int]] = []
    order = np.random.default_rng([seed, len(lengths)]).permutation(len(lengths))
    for start in range(0, len(order), _POOL):
        pool = order[start : start + _POOL]
        room: list[tuple[int, int]] = []  # tokens that are left in a row, and the row; sorted
        for number in pool[np.argsort(-lengths[pool], kind="stable")].tolist():
            length = int(lengths[number])
            place = bisect_left(room, (length, 0))
            if place < len(room):
                left, row = room.pop(place)
                rows[row].append(number)
            else:
                left, row = max_len, len(rows)
                rows.append([number])
            insort(room, (left - length, row))
    return rows


class PackedDataset(KeyedDataset[list[InstructExample]]):
    """Rows of several examples each, of at most max_seq_len tokens; see `pack`.

    Attributes:
        examples: what is packed
        source_lengths: tokens of each row, int64 (number of rows,)
    """

    def __init__(self, examples: InstructDataset, seed: int) -> None:
        self.examples = examples
        self._rows = pack(examples.source_lengths, examples.max_seq_len, seed)
        self.source_lengths: npt.NDArray[np.int64] = np.array(
            [examples.source_lengths[row].sum() for row in self._rows], dtype=np.int64
        )

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def rows_id(self) -> int:
        """Tells other rows of as many examples apart; see `make_loader`."""
        return zlib.crc32(repr(self._rows).encode())

    @property
    def num_target_tokens(self) -> int:
        """See `InstructDataset`."""
        return self.examples.num_target_tokens

    def example(self, epoch: int, index: int) -> list[InstructExample]:
        """See `KeyedDataset`."""
        return [self.examples[epoch, number] for number in self._rows[index]]

    def collate(self, rows: Sequence[list[InstructExample]]) -> PackedBatch:
        """Write rows as one batch, with positions and segments that keep their examples apart."""
        lengths = [[len(example.input_ids) for example in row] for row in rows]
        positions = [[i for length in row for i in range(length)] for row in lengths]
        segments = [[number for number, length in enumerate(row, 1) for _ in range(length)] for row in lengths]
        return PackedBatch(
            **collate_rows(rows, self.examples.encoder.pad_id),
            position_ids=padded(positions, 0),
            segment_ids=padded(segments, 0),
        )

    def summary(self) -> str:
        """Say in one line what was read and how full the rows are."""
        share = self.source_lengths.sum() / max(1, len(self) * self.examples.max_seq_len)
        return (
            f"{self.examples.summary()}; packed into {len(self):,} rows of at most {self.examples.max_seq_len:,} "
            f"tokens, {share:.1%} full"
        )
