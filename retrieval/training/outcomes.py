"""What figures need to know of an evaluation, counted as it goes on: tables of fixed size that add up over ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torchmetrics import Metric

from retrieval.training.charts import Bins

_UNIT = 2**20  # scores add up as whole numbers of 1 / this: in any order, and over ranks, to the same sum


@dataclass(frozen=True)
class Counts:
    """What was counted, over all ranks.

    Attributes:
        num_at_rank: at ranks 1..k, and, at last, not found
        by_group: the same for each group of each grouping
        num_scored: things by the bin of their score
        num_right: those of them at rank 1
        score_sums: of their scores
    """

    num_at_rank: list[int]
    by_group: dict[str, list[list[int]]]
    num_scored: list[int]
    num_right: list[int]
    score_sums: list[float]

    @property
    def num(self) -> int:
        """Things counted."""
        return sum(self.num_at_rank)


class RankOutcomes(Metric):
    """Counts at which rank the right answers stand, by what kind of question they answer, and by the first one's score.

    Its size does not depend on the data, and its counts neither on the size of batches nor on how many ranks there are.
    """

    full_state_update = False
    num_at_rank: Tensor  # int64 (k + 1,), the last entry: not found
    num_scored: Tensor  # int64 (bins,)
    num_right: Tensor  # int64 (bins,)
    score_sums: Tensor  # int64 (bins,), in units of 1 / _UNIT

    def __init__(self, k: int, groupings: Mapping[str, Bins], limits: tuple[float, float], num_bins: int) -> None:
        """Start at zero.

        Args:
            k: how many ranks there are
            groupings: groups by the number of something, and its name
            limits: the least and the greatest score
            num_bins: of scores, equally wide
        """
        super().__init__()
        self.k, self.groupings, self.limits, self.num_bins = k, dict(groupings), limits, num_bins
        self._add("num_at_rank", k + 1)
        for name, bins in self.groupings.items():
            self._add(f"by_{name}", len(bins), k + 1)
        for name in ("num_scored", "num_right", "score_sums"):
            self._add(name, num_bins)

    def _add(self, name: str, *size: int) -> None:
        self.add_state(name, torch.zeros(*size, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, ranks: Tensor, scores: Tensor, groups: Mapping[str, Tensor]) -> None:
        """Count a batch of B things.

        Args:
            ranks: of the right answer, from 0, int64 (B,); k where it was not found
            scores: of the answer at rank 0, float (B,); NaN where there was none
            groups: for each grouping the numbers that decide the group, int64 (B,); 0 where it is not known
        """
        self._count("num_at_rank", ranks)
        for name, bins in self.groupings.items():
            numbers = groups[name]
            upper = torch.tensor(bins.upper, device=numbers.device)
            cells = torch.bucketize(numbers, upper) * (self.k + 1) + ranks
            self._count(f"by_{name}", cells[numbers > 0])
        has_score = ~scores.isnan()
        known, is_right = scores[has_score].cpu().double(), (ranks[has_score] == 0).cpu()
        low, high = self.limits
        bins_of = ((known - low) / (high - low) * self.num_bins).floor().long().clamp(0, self.num_bins - 1)
        self._count("num_scored", bins_of)
        self._count("num_right", bins_of[is_right])
        units = (known.clamp(low, high) * _UNIT).round().long()
        sums = (one_hot(bins_of, self.num_bins) * units[:, None]).sum(dim=0)
        self.score_sums = self.score_sums + sums.to(self.score_sums.device)

    def _count(self, name: str, cells: Tensor) -> None:
        """Add one to each of these cells of a table, which may be named more than once."""
        table: Tensor = getattr(self, name)
        counts = torch.bincount(cells, minlength=table.numel()).view_as(table)
        # not in place: a state that was made in inference mode must not be changed outside it
        setattr(self, name, table + counts.to(table.device))

    def compute(self) -> Tensor:
        """How many were found at each rank, and not found, int64 (k + 1,)."""
        return self.num_at_rank

    def counts(self) -> Counts:
        """Return what was counted, over all ranks of a distributed run, which have to ask together."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, distributed_available=is_distributed):
            return Counts(
                self.num_at_rank.tolist(),
                {name: self._table(name) for name in self.groupings},
                self.num_scored.tolist(),
                self.num_right.tolist(),
                [units / _UNIT for units in self.score_sums.tolist()],
            )

    def _table(self, grouping: str) -> Any:
        return getattr(self, f"by_{grouping}").tolist()


def is_distributed() -> bool:
    """Whether there are other ranks to add up with."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()
