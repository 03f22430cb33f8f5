"""How good retrieval is: Recall@k and MRR, exactly as ReProver's evaluate.py defines them.

Only contexts with at least one positive premise count. Recall@k of a context is the share of its positive
premises among the k best, its reciprocal rank is 1 / rank of the first positive one, 0 where none was
retrieved; both are averaged over contexts.

Shape legend: B contexts, K premises retrieved for each, P positive premises of each.

Source: LeanDojo (arXiv:2306.15626, section 6.1) and its repository.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence
from torchmetrics import Metric


def pad_numbers(rows: Sequence[Sequence[int]]) -> Tensor:
    """Write lists of premise numbers as one tensor, int64 (B, longest), -1 behind the last one."""
    if not rows:
        return torch.zeros(0, 0, dtype=torch.int64)
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=-1)


def is_positive(premise_numbers: Tensor, positives: Tensor) -> Tensor:
    """Mark the premises that are among the positive ones of their row.

    Args:
        premise_numbers: integer (B, K), or (1, K) where all contexts share them; -1 is no premise
        positives: positive premises of each context, integer (B, P), -1 behind the last

    Returns:
        bool (B, K)
    """
    found = (premise_numbers[:, :, None] == positives[:, None, :]).any(dim=-1)
    return found & (premise_numbers >= 0)


def score_contexts(retrieved: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Compute Recall@1..K and the reciprocal rank of each context that has a positive premise.

    Args:
        retrieved: distinct premise numbers, best first, integer (B, K), -1 behind the last
        positives: positive premises, integer (B, P), -1 behind the last; one named twice counts once

    Returns:
        Recall@1..K, float32 (B', K), and reciprocal ranks, float32 (B',), of the B' contexts that have a
        positive premise.
    """
    num_positives = _count_distinct(positives)
    counts = num_positives > 0
    hits = is_positive(retrieved, positives)[counts].float()
    recall = hits.cumsum(dim=1) / num_positives[counts, None]
    ranks = torch.arange(1, retrieved.shape[1] + 1, device=retrieved.device)
    reciprocal_ranks = (hits / ranks).amax(dim=1) if retrieved.shape[1] else hits.sum(dim=1)
    return recall, reciprocal_ranks


def first_hits(retrieved: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Return where the first positive premise stands, and how many there are, both int64 (B,).

    Args:
        retrieved: distinct premise numbers, best first, integer (B, K), -1 behind the last
        positives: positive premises, integer (B, P), -1 behind the last; one named twice counts once

    Returns:
        ranks from 0, K where none was retrieved; distinct positive premises
    """
    hits = is_positive(retrieved, positives)
    before = (hits.cumsum(dim=1) == 0).sum(dim=1)
    return before, _count_distinct(positives)


def _count_distinct(positives: Tensor) -> Tensor:
    """How many premises each row names, int64 (B,)."""
    ordered = positives.sort(dim=1).values
    is_new = ordered != pad(ordered[:, :-1], (1, 0), value=-1)
    return is_new.sum(dim=1)


class RetrievalMetrics(Metric):
    """Recall@1..K and MRR over all batches and ranks, as `{"recall": (K,), "mrr": ()}`.

    Both are fractions (ReProver prints recall in percent), NaN where no context had a positive premise.
    Recall at every cut-off comes from one pass over the data.
    """

    full_state_update = False
    higher_is_better = True
    recall_sum: Tensor
    reciprocal_rank_sum: Tensor
    num_contexts: Tensor

    def __init__(self, num_retrieved: int, **kwargs: Any) -> None:
        """Start at zero.

        Args:
            num_retrieved: K, the most premises that are retrieved for a context
            kwargs: what every `torchmetrics.Metric` takes
        """
        super().__init__(**kwargs)
        self.num_retrieved = num_retrieved
        self.add_state("recall_sum", torch.zeros(num_retrieved), dist_reduce_fx="sum")
        self.add_state("reciprocal_rank_sum", torch.zeros(()), dist_reduce_fx="sum")
        self.add_state("num_contexts", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, retrieved: Tensor, positives: Tensor) -> None:
        """Add a batch.

        Args:
            retrieved: best first, integer (B, K) or narrower, -1 behind the last
            positives: integer (B, P), -1 behind the last
        """
        recall, reciprocal_rank = score_contexts(self._widened(retrieved), positives)
        # not in place: after `trainer.validate` the sums are inference tensors, which fit may not change
        self.recall_sum = self.recall_sum + recall.sum(dim=0)
        self.reciprocal_rank_sum = self.reciprocal_rank_sum + reciprocal_rank.sum()
        self.num_contexts = self.num_contexts + len(recall)

    def _widened(self, retrieved: Tensor) -> Tensor:
        lacking = self.num_retrieved - retrieved.shape[1]
        if lacking < 0:
            raise ValueError(f"{retrieved.shape[1]} premises retrieved, but num_retrieved is {self.num_retrieved}")
        return pad(retrieved, (0, lacking), value=-1)

    def compute(self) -> dict[str, Tensor]:
        """Return the averages over all contexts with a positive premise."""
        return {
            "recall": self.recall_sum / self.num_contexts,
            "mrr": self.reciprocal_rank_sum / self.num_contexts,
        }
