"""What finds candidates for a bit task: no search is needed, as the bits of an answer are independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from common import Candidate, check_positive
from generator.decoding.settings import Decoding
from generator.domains.bits.proposals import best_strings, sampled_strings
from generator.engines.engine import Engine, input_seed

_MAX_SYMBOLS = 65_536  # read together


class BitEngine(Engine):
    """Exact candidates, or independent samples; specifications of one length are read together."""

    name: ClassVar[str] = "native"
    is_live: ClassVar[bool] = True

    def __init__(self, read: Callable[[Sequence[str]], npt.NDArray[np.float64]]) -> None:
        """Keep the model.

        Args:
            read: log-probabilities of 0 and of 1 at each place, (B, n, 2), for specifications of one length
        """
        self._read = read

    def propose(self, inputs: Sequence[str], num_candidates: int, decoding: Decoding) -> list[list[Candidate]]:
        """See `Engine.propose`; there is no EOS, and nothing is longer or shorter than the answer."""
        check_positive(num_candidates=num_candidates)
        results: list[list[Candidate]] = [[] for _ in inputs]
        for group in _groups(inputs):
            for place, log_probs in zip(group, self._read([inputs[i] for i in group]), strict=True):
                if decoding.sampling is None:
                    results[place] = best_strings(log_probs, num_candidates)
                else:
                    seed = input_seed(decoding.sampling.seed, inputs[place])
                    results[place] = sampled_strings(log_probs, num_candidates, decoding.sampling, seed)
        return results


def _groups(inputs: Sequence[str]) -> list[list[int]]:
    """Places of inputs with equally many strings of one length, few enough to be read together."""
    by_shape: dict[tuple[int, int], list[int]] = {}
    for place, text in enumerate(inputs):
        by_shape.setdefault((len(text), text.count(" ")), []).append(place)
    groups = list[list[int]]()
    for (length, _), places in by_shape.items():
        size = max(1, _MAX_SYMBOLS // max(1, length))
        groups += [places[start : start + size] for start in range(0, len(places), size)]
    return groups
