"""How far what a writer proposes is from the true posterior, where that is known."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from generator.domains.synthesize import Try


class Distance:
    """How far proposals are from the true posterior.

    The total variation of distributions q and p is the mean of max(0, 1 - p / q) over samples of q: exact on average,
    whatever the number of samples. That of the samples' frequencies is above it by chance.

    A text may come from several sequences of tokens (those of ByT5 that stand for no byte are not written), and a
    log-probability is that of one: the likeliest that was drawn stands for the text.
    """

    _NUM_BINS, _PER_DECADE, _DECADES = 24, 4, 6

    def __init__(self, has_all: bool) -> None:
        """Start without a problem; a search that stops at the first that holds has one fair sample, its first."""
        self.has_all = has_all
        self.distances, self.of_frequencies = list[float](), list[float]()
        # of proposals by log10 of q, from 1e-6 on: how many, and the sums of their q and p
        self.sums = np.zeros((self._NUM_BINS, 3))

    def add(self, tries: Sequence[Try], posterior: Mapping[str, float]) -> None:
        """Count the proposals of a problem."""
        fair = tries if self.has_all else tries[:1]
        if not fair:
            return
        log_probs: dict[str, float] = {}
        for each in fair:
            log_probs[each.program] = max(each.log_prob, log_probs.get(each.program, -math.inf))
        p = np.array([posterior.get(each.program, 0.0) for each in fair])
        q = np.maximum(np.exp([log_probs[each.program] for each in fair]), 1e-300)
        self.distances.append(float(np.maximum(0, 1 - p / q).mean()))
        place = np.floor(self._PER_DECADE * (np.log10(q) + self._DECADES)).clip(max=self._NUM_BINS - 1).astype(int)
        sums = np.stack([np.ones_like(q), q, p], axis=1)
        np.add.at(self.sums, place[place >= 0], sums[place >= 0])
        if self.has_all:
            counts = Counter(each.program for each in fair)
            gap = sum(abs(counts[text] / len(fair) - posterior.get(text, 0.0)) for text in {*counts, *posterior})
            self.of_frequencies.append(gap / 2)

    def metrics(self) -> dict[str, Any]:
        """Return the distances and the bins that hold something; nothing without a problem."""
        if not self.distances:
            return {}
        frequencies = sum(self.of_frequencies) / len(self.of_frequencies) if self.of_frequencies else None
        return {
            "total_variation": sum(self.distances) / len(self.distances),
            "total_variation_of_frequencies": frequencies,
            "calibration": [
                {"count": int(count), "proposed": q / count, "posterior": p / count}
                for count, q, p in self.sums.tolist()
                if count
            ],
        }
