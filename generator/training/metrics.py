"""How often the right tactic is among the first k candidates."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from common import check_positive, remove_marks
from retrieval.training.outcomes import is_distributed


class TopkAccuracy(Metric):
    """Share of states whose written tactic is, to the letter, among the first k candidates.

    Marks around premises do not count; short and full names of a premise do (as in ReProver). One pass
    fills a histogram of ranks, which gives the accuracy for every k' up to k and sums over ranks (DDP).

    >>> accuracy = TopkAccuracy(k=2)
    >>> accuracy.update(candidates=[["simp", "exact h"], ["rfl"]], tactics=["exact h", "simp"])
    >>> accuracy.curve().tolist()
    [0.0, 0.5]
    """

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    num_at_rank: Tensor  # (k + 1,): how many were found at rank 0..k-1; the last entry: not found

    def __init__(self, k: int) -> None:
        super().__init__()
        check_positive(k=k)
        self.k = k
        self.add_state("num_at_rank", torch.zeros(k + 1, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, candidates: Sequence[Sequence[str]], tactics: Sequence[str]) -> None:
        """Record a batch.

        Args:
            candidates: for each state its candidate tactics, best first; fewer than k is fine
            tactics: the tactic that each state's proof goes on with
        """
        ranks = [rank_of(proposed, tactic, self.k) for proposed, tactic in zip(candidates, tactics, strict=True)]
        counts = torch.bincount(torch.tensor(ranks, dtype=torch.long), minlength=self.k + 1)
        # not in place: a state that was made in inference mode must not be changed outside it
        self.num_at_rank = self.num_at_rank + counts.to(self.num_at_rank.device)

    def compute(self) -> Tensor:
        """Accuracy at k, a scalar; nan before the first update."""
        return self.num_at_rank[: self.k].sum() / self.num_at_rank.sum()

    def curve(self) -> Tensor:
        """Accuracy at 1..k, float (k,), over all ranks of a distributed run."""
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, distributed_available=is_distributed):
            return self.num_at_rank[: self.k].cumsum(0) / self.num_at_rank.sum()


def rank_of(candidates: Sequence[str], tactic: str, k: int) -> int:
    """Return where a tactic stands among the first k candidates, from 0; k if it is not there."""
    right = remove_marks(tactic)
    return next((i for i, proposed in enumerate(candidates[:k]) if remove_marks(proposed) == right), k)
