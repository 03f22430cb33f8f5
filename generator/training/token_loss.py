"""The loss of the tokens that are trained: no logits of the others, and never those of all at once.

Shape legend: N tokens, D width of the model, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, nll_loss
from torch.utils.checkpoint import checkpoint

MAX_LOGITS = 2**25  # of one chunk: 128 MB in float32, of which the loss and its gradient hold about four
# Fewer, larger kernels: 65,536 tokens of 49,152 classes come in 24 chunks of 2.1 GB (16 B a logit). Counted by hand for
# a Llama of 135 M, 30 layers, bf16-mixed, the rest of such a step is 2.2 GB of weights, gradients and moments, and what
# layers keep: compiled 20 kB a token and layer (float32 residuals 4.6, q, k, v 3.5, what is read of them 1.2, norms
# 2.3, gate, up and their product 9.2), 39 GB; as they are about 45 kB, 88 GB, as norms and rotations keep their steps.
MAX_LOGITS_CUDA = 2**27


@dataclass(frozen=True)
class Smoothing:
    """Label smoothing: a target is its token with probability 1 - share, and any token alike with the rest.

    Source: Szegedy et al. 2016 (arXiv:1512.00567, section 7).

    Attributes:
        share: from 0 to 1
        num_written: the rest is that of the first so many classes, those that a tokenizer can write. Vocabularies are
            padded (T5's 32,100 to 32,128), and what is never written is not to be made more probable
    """

    share: float
    num_written: int


def is_one_chunk(num_tokens: int, num_classes: int, device: torch.device | None = None) -> bool:
    """Whether the logits of so many tokens are computed, and kept for the backward pass, at once."""
    return num_tokens * num_classes <= _max_logits(device)


def _max_logits(device: torch.device | None) -> int:
    return MAX_LOGITS_CUDA if device is not None and device.type == "cuda" else MAX_LOGITS


def mean_loss(
    logits_of: Callable[[Tensor], Tensor],
    states: Tensor,
    targets: Tensor,
    num_classes: int,
    smoothing: Smoothing | None = None,
) -> Tensor:
    """Return the mean cross entropy, in float32.

    Memory of a step (Xeon, float32): 2,048 tokens of which 304 are trained, 49,152 classes: 0.43 GB, where logits of
    all from the first trained position on took 1.13; 3,008 targets of 32,128 classes: 0.78 GB instead of 1.86.

    Where the logits are more than one chunk, each chunk is computed again in the backward pass: of the forward pass
    the states alone are kept. (torch's `linear_cross_entropy` does about the same for a head that is one matrix and
    nothing else, computes in the type of its weights whatever autocast says, and is not in every release that we
    support.)

    Args:
        logits_of: gives the logits (n, V) of some states (n, D)
        states: what the head reads, (N, D)
        targets: int64 (N,)
        num_classes: V
        smoothing: of the targets

    Returns:
        0 where there are no tokens.
    """
    if is_one_chunk(len(states), num_classes, states.device):
        return _summed(logits_of, states, targets, smoothing) / max(1, len(targets))
    size = max(1, _max_logits(states.device) // num_classes)
    total = states.new_zeros((), dtype=torch.float32)
    for some, their_targets in zip(states.split(size), targets.split(size), strict=True):
        total = total + checkpoint(_summed, logits_of, some, their_targets, smoothing, use_reentrant=False)
    return total / len(targets)


def _summed(
    logits_of: Callable[[Tensor], Tensor], states: Tensor, targets: Tensor, smoothing: Smoothing | None
) -> Tensor:
    logits = logits_of(states).float()
    if smoothing is None:
        return cross_entropy(logits, targets, reduction="sum")
    log_probs = logits.log_softmax(dim=-1)
    of_targets = nll_loss(log_probs, targets, reduction="sum")
    of_all = -log_probs[:, : smoothing.num_written].mean(dim=-1).sum()
    return (1 - smoothing.share) * of_targets + smoothing.share * of_all
