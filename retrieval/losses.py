"""What a premise retriever is trained on: pure functions of embeddings.

Shape legend: B contexts, P premises of the batch (positive and negative ones), D dimension.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from common import check_positive


def similarity_mse(contexts: Tensor, premises: Tensor, positives: Tensor) -> Tensor:
    """Mean squared error of all cosine similarities against 1 for positive premises and 0 for others.

    >>> vectors = torch.eye(2)
    >>> similarity_mse(vectors, vectors, positives=torch.tensor([[True, False], [False, True]])).item()
    0.0

    Args:
        contexts: unit vectors, float (B, D)
        premises: unit vectors, float (P, D)
        positives: True where premise p is a positive one of context b, bool (B, P)

    Source: LeanDojo (arXiv:2306.15626, section 5), where P holds a positive and some negatives for each
    context, and those of the others serve as further negatives.
    """
    similarities = contexts @ premises.T  # (B, P)
    return mse_loss(similarities, positives.to(similarities.dtype))


def info_nce(
    contexts: Tensor, premises: Tensor, targets: Tensor, positives: Tensor, temperature: float = 0.05
) -> Tensor:
    """Cross entropy of picking its target premise for each context among all premises of the batch.

    Other positive premises of a context would be punished as negatives, so they are left out of its sum.

    >>> vectors, positives = torch.eye(2), torch.tensor([[True, False], [True, True]])
    >>> f"{info_nce(vectors, vectors, torch.tensor([0, 1]), positives, temperature=0.5).item():.4f}"
    '0.0635'

    Args:
        contexts: unit vectors, float (B, D)
        premises: unit vectors, float (P, D)
        targets: the positive premise of each context that is to be picked, int64 (B,), within 0..P-1
        positives: True where premise p is a positive one of context b, bool (B, P)
        temperature: what similarities are divided by

    Raises:
        ConfigError: if temperature is not greater than 0

    Source: van den Oord et al. (arXiv:1807.03748, equation 4); Karpukhin et al. (arXiv:2004.04906, section
    3.2) for in-batch negatives.
    """
    check_positive(temperature=temperature)
    logits = (contexts @ premises.T).float() / temperature  # (B, P); bf16 is too coarse for a softmax
    is_target = torch.zeros_like(positives, dtype=torch.bool).scatter_(1, targets[:, None], True)
    return cross_entropy(logits.masked_fill(positives & ~is_target, -torch.inf), targets)
