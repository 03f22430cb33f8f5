"""The most probable strings of independent bits, and samples of them.

Shape legend: n bits of a string.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt
import torch

from common import Candidate
from generator.decoding.settings import Sampling

_MAX_COST = 1e6  # nats, instead of infinitely many


def best_strings(log_probs: npt.NDArray[np.float64], num: int) -> list[Candidate]:
    """Return the most probable strings, best first, each once, with their log-probabilities: exactly, without a search.

    Each place is decided on its own, so the best string has the likelier bit everywhere, and every other one pays for
    the places where it has not. Places are sorted by what they cost; a heap then brings the sets of places in the order
    of their sums, in O(num log num) beside the sorting.

    Args:
        log_probs: of 0 and of 1 at each place, (n, 2)
        num: strings, at most; there are 2 ** n
    """
    likelier = log_probs.argmax(axis=1)
    best = float(log_probs.max(axis=1).sum())
    costs = np.minimum(np.abs(log_probs[:, 0] - log_probs[:, 1]), _MAX_COST)
    order = np.argsort(costs, kind="stable")
    found: list[Candidate] = []
    heap: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]  # cost, and which places of `order` have the other bit
    while heap and len(found) < num:
        cost, flipped = heapq.heappop(heap)
        bits = likelier.copy()
        bits[order[list(flipped)]] ^= 1
        found.append(("".join(map(str, bits.tolist())), best - cost))
        last = flipped[-1] if flipped else -1
        if last + 1 < len(order):  # one more place, or the next one instead of the last: each set comes once
            step = float(costs[order[last + 1]])
            heapq.heappush(heap, (cost + step, (*flipped, last + 1)))
            if flipped:
                heapq.heappush(heap, (cost + step - float(costs[order[last]]), (*flipped[:-1], last + 1)))
    return sorted(found, key=lambda candidate: -candidate[1])  # sums are rounded


def sampled_strings(log_probs: npt.NDArray[np.float64], num: int, sampling: Sampling, seed: int) -> list[Candidate]:
    """Return independent strings, best first, with repetitions.

    Args:
        log_probs: of 0 and of 1 at each place, (n, 2)
        num: strings
        sampling: from which part of each place's distribution
        seed: of the draws

    Returns:
        strings, with their log-probabilities by `log_probs`, whatever they were drawn from
    """
    share = _share_of_one(log_probs, sampling)
    rng = np.random.default_rng(seed)
    bits = (rng.random((num, len(log_probs))) < share).astype(np.int64)
    sums = np.take_along_axis(log_probs[None], bits[:, :, None], axis=2).sum(axis=(1, 2))
    texts = ["".join(map(str, row)) for row in bits.tolist()]
    return sorted(zip(texts, sums.tolist(), strict=True), key=lambda candidate: -candidate[1])


def _share_of_one(log_probs: npt.NDArray[np.float64], sampling: Sampling) -> npt.NDArray[np.float64]:
    """How probable 1 is at each place, (n,), of the part of the distribution that is drawn from."""
    scaled = log_probs / sampling.temperature
    share: npt.NDArray[np.float64] = 1 / (1 + np.exp(np.clip(scaled[:, 0] - scaled[:, 1], -700, 700)))
    is_certain = np.maximum(share, 1 - share) >= (0.0 if sampling.top_k == 1 else sampling.top_p)
    return np.where(is_certain, share >= 0.5, share)


def log_probs_of(logits: torch.Tensor) -> npt.NDArray[np.float64]:
    """Return log-probabilities, float64, of logits of any type."""
    found: npt.NDArray[np.float64] = logits.double().log_softmax(dim=-1).cpu().numpy()
    return found
