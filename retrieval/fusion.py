"""Joining the rankings of several retrievers by reciprocal ranks, and finding how much each should count.

Shape legend: M contexts, K premises of a ranking, P rankings of each context.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from retrieval.embedding_index import top_k
from retrieval.metrics import score_contexts

RANK_OFFSET = 60.0  # the constant of Cormack et al.
_OFFSETS = (0.0, 1.0, 3.0, 10.0, 30.0, 60.0)
_FACTORS = (0.7, 1.4, 0.5, 2.0, 0.25, 4.0, 0.125, 8.0)  # of equally good ones the first is taken
_ROUNDS = 2


def fuse(
    rankings: Sequence[Tensor], k: int, weights: Sequence[float] | None = None, rank_offset: float = RANK_OFFSET
) -> tuple[Tensor, Tensor]:
    """Join rankings of each context: a premise scores the sum of weight / (offset + rank).

    Args:
        rankings: P of them, each the numbers of different premises, best first, integer (M, K), -1 behind the last;
            K may differ
        k: premises to keep
        weights: of each; 1 if not given
        rank_offset: the greater, the less the first ranks stand out

    Returns:
        Scores, float32 (M, k), and premise numbers, int64 (M, k); -inf and -1 behind the last. Of equal
        scores the lower number comes first.

    Source: Cormack, Clarke and Büttcher (SIGIR 2009).
    """
    numbers = torch.cat(list(rankings), dim=1).long()
    weights = [1.0] * len(rankings) if weights is None else weights
    parts = [
        weight / (rank_offset + torch.arange(1, each.shape[1] + 1, device=numbers.device).float())
        for each, weight in zip(rankings, weights, strict=True)
    ]
    numbers, order = numbers.sort(dim=1, stable=True)
    scores = torch.cat(parts).expand(numbers.shape).gather(1, order)
    is_first = pad(numbers[:, 1:] != numbers[:, :-1], (1, 0), value=True)
    groups = is_first.cumsum(dim=1) - 1
    sums = torch.zeros_like(scores).scatter_add_(1, groups, scores).gather(1, groups)
    scores, places = top_k(sums.masked_fill_(~is_first | (numbers < 0), -torch.inf), k)
    return scores, numbers.gather(1, places.clamp(min=0)).masked_fill_(places < 0, -1)


def fit_fusion(rankings: Sequence[Tensor], positives: Tensor, k: int) -> tuple[list[float], float]:
    """Return the weights, whose sum is 1, and the offset with the greatest Recall@k; of equal ones the greatest MRR.

    For each offset one weight after the other is multiplied by factors from 1/8 to 8, twice round: a few hundred
    fusions, half a minute for a thousand contexts and three rankings.

    Args:
        rankings: see `fuse`
        positives: premises that each context cites, integer (M, Q), -1 behind the last
        k: of Recall@k
    """
    found = [_fit_weights(rankings, positives, k, offset) for offset in _OFFSETS]
    _, weights, offset = max(found, key=lambda each: each[0])  # the first of equal ones
    return [weight / sum(weights) for weight in weights], offset


_Goodness = tuple[float, float]  # Recall@k and MRR


def _fit_weights(
    rankings: Sequence[Tensor], positives: Tensor, k: int, offset: float
) -> tuple[_Goodness, list[float], float]:
    weights = [1.0] * len(rankings)
    best = goodness(rankings, positives, k, weights, offset)
    for part in list(range(len(weights))) * _ROUNDS if len(weights) > 1 else []:
        before = weights
        for factor in _FACTORS:
            tried = [weight * (factor if i == part else 1.0) for i, weight in enumerate(before)]
            if (found := goodness(rankings, positives, k, tried, offset)) > best:
                best, weights = found, tried
    return best, weights, offset


def goodness(
    rankings: Sequence[Tensor], positives: Tensor, k: int, weights: Sequence[float], rank_offset: float
) -> _Goodness:
    """Return Recall@k and MRR of a fusion, both rounded so that the order of additions decides nothing."""
    width = max(each.shape[1] for each in rankings)
    recall, reciprocal = score_contexts(fuse(rankings, width, weights, rank_offset)[1], positives)
    if not len(recall):
        return 0.0, 0.0
    return round(recall[:, min(k, width) - 1].mean().item(), 6), round(reciprocal.mean().item(), 6)
