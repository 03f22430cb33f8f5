"""Premises that a context does not cite, drawn for training.

Shape legend: R runs of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common import ConfigError
from retrieval.corpus import Corpus

_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Negatives:
    """Premises that a context does not cite, for training.

    Attributes:
        num_negatives: for each training example
        num_in_file_negatives: how many of these, at most, are from the file of the premise to find
    """

    num_negatives: int = 3
    num_in_file_negatives: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.num_in_file_negatives <= self.num_negatives:
            raise ConfigError(
                f"num_in_file_negatives is {self.num_in_file_negatives} and num_negatives {self.num_negatives}; the "
                "first is a part of the second, and neither is below 0"
            )

    def draw(
        self,
        corpus: Corpus,
        place: tuple[str, object],
        target: int,
        positives: Sequence[int],
        rng: np.random.Generator,
    ) -> list[int]:
        """Draw accessible premises that the context does not cite; fewer where there are fewer.

        Some are from the file of the premise to find, which are the hardest to tell from it.

        Args:
            corpus: what the numbers refer to
            place: file and position of the theorem
            target: the premise to find
            positives: all that the context cites
            rng: all chance there is

        Source: LeanDojo (arXiv:2306.15626, section 5).
        """
        firsts, sizes = corpus.accessible_runs(*place)
        file = corpus.numbers_beside(target)
        start, stop = firsts.searchsorted([file.start, file.stop]).tolist()
        own = Runs(firsts[start:stop], sizes[start:stop], positives)
        rest_firsts, rest_sizes = (np.concatenate([runs[:start], runs[stop:]]) for runs in (firsts, sizes))
        others = Runs(rest_firsts, rest_sizes, positives)
        in_file = own.draw(min(len(own), self.num_in_file_negatives), rng)
        num_others = self.num_negatives - len(in_file)
        if len(others) >= num_others:
            outside = others.draw(num_others, rng)
        else:  # a file that imports little
            candidates = np.concatenate([others.all(), np.setdiff1d(own.all(), in_file)])
            outside = rng.choice(candidates, min(len(candidates), num_others), replace=False)
        return [*in_file.tolist(), *outside.tolist()]


class Runs:
    """Ascending numbers, in runs without a gap, of which some are left out; counted and found without a list of all."""

    def __init__(self, firsts: _Numbers, sizes: _Numbers, left_out: Sequence[int] = ()) -> None:
        """Find where the numbers that are left out would stand.

        Args:
            firsts: number that each run begins with, ascending, (R,)
            sizes: how many numbers each run has, (R,)
            left_out: numbers in any order, in runs or not
        """
        self._firsts, self._ends = firsts, sizes.cumsum()
        self._before = self._ends - sizes  # numbers in earlier runs
        ranks = []
        for number in sorted(set(left_out)):
            run = int(firsts.searchsorted(number, side="right")) - 1
            if run >= 0 and number < firsts[run] + sizes[run]:
                ranks.append(int(self._before[run] + number - firsts[run]))
        self._num = int(self._ends[-1]) - len(ranks) if len(firsts) else 0
        # how many that stay come before each that is left out
        self._skips = np.array([rank - i for i, rank in enumerate(ranks)], dtype=np.int64)

    def __len__(self) -> int:
        return self._num

    def at(self, indices: _Numbers) -> _Numbers:
        """Return the numbers at places among those that stay."""
        ranks = indices + self._skips.searchsorted(indices, side="right")
        runs = self._ends.searchsorted(ranks, side="right")
        numbers: _Numbers = self._firsts[runs] + ranks - self._before[runs]
        return numbers

    def all(self) -> _Numbers:
        """Return all numbers that stay."""
        return self.at(np.arange(len(self)))

    def draw(self, num: int, rng: np.random.Generator) -> _Numbers:
        """Return so many different numbers, the same that `rng.choice` draws from `all()`."""
        return self.at(rng.choice(len(self), num, replace=False))
