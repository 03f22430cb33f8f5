"""Premises that a context does not cite, drawn for training.

Shape legend: R runs of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from common import ConfigError, check_positive
from retrieval.corpus import Corpus

_Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Negatives:
    """Premises that a context does not cite, for training.

    Attributes:
        num_negatives: for each training example
        num_in_file_negatives: how many of these, at most, are from the file of the premise to find
        num_hard_negatives: how many, at most, are those that a retriever took for good ones
        hard_negatives_path: folders of its predictions for train, or of several retrievers, such as BM25 and the model
            as it was trained before
        max_hard_rank: of the predictions for a context this many are drawn from, the best
    """

    num_negatives: int = 3
    num_in_file_negatives: int = 1
    num_hard_negatives: int = 0
    hard_negatives_path: list[str] = field(default_factory=list)
    max_hard_rank: int = 30

    def __post_init__(self) -> None:
        check_positive(max_hard_rank=self.max_hard_rank)
        folders: object = self.hard_negatives_path
        if isinstance(folders, str):  # each of its letters would be a folder
            raise ConfigError(f"hard_negatives_path is {folders!r}; give a list of folders")
        if self.num_hard_negatives < 0 or bool(self.num_hard_negatives) != bool(self.hard_negatives_path):
            raise ConfigError(
                f"num_hard_negatives is {self.num_hard_negatives} and hard_negatives_path "
                f"{self.hard_negatives_path}; give both, a number from 1 and folders of predictions, or neither"
            )
        if not 0 <= self.num_in_file_negatives <= self.num_negatives:
            raise ConfigError(
                f"num_in_file_negatives is {self.num_in_file_negatives} and num_negatives {self.num_negatives}; the "
                "first is a part of the second, and neither is below 0"
            )
        if self.num_hard_negatives + self.num_in_file_negatives > self.num_negatives:
            raise ConfigError(
                f"num_hard_negatives is {self.num_hard_negatives} and num_in_file_negatives "
                f"{self.num_in_file_negatives}, which are more than the {self.num_negatives} of num_negatives; "
                "give a larger num_negatives"
            )

    def draw(
        self,
        corpus: Corpus,
        place: tuple[str, object],
        target: int,
        positives: Sequence[int],
        rng: np.random.Generator,
        retrieved: Sequence[int] = (),
    ) -> list[int]:
        """Draw accessible premises that the context does not cite; fewer where there are fewer.

        Some are from the file of the premise to find, and some are what a retriever found, which are the hardest to
        tell from it.

        Args:
            corpus: what the numbers refer to
            place: file and position of the theorem
            target: the premise to find
            positives: all that the context cites
            rng: all chance there is
            retrieved: what a retriever found for the context, all of it accessible, each once; see `RetrievedNegatives`

        Source: LeanDojo (arXiv:2306.15626, section 5); Karpukhin et al. (arXiv:2004.04906, section 3.2) for those of
        BM25, Xiong et al. (arXiv:2007.00808) for those of the model itself.
        """
        firsts, sizes = corpus.accessible_runs(*place)
        file = corpus.numbers_beside(target)
        start, stop = firsts.searchsorted([file.start, file.stop]).tolist()
        own = Runs(firsts[start:stop], sizes[start:stop], positives)
        in_file = own.draw(min(len(own), self.num_in_file_negatives), rng)
        hard = self._draw_hard(retrieved, {*positives, *in_file.tolist()}, rng)
        rest_firsts, rest_sizes = (np.concatenate([runs[:start], runs[stop:]]) for runs in (firsts, sizes))
        others = Runs(rest_firsts, rest_sizes, [*positives, *hard])
        num_others = self.num_negatives - len(in_file) - len(hard)
        if len(others) >= num_others:
            outside = others.draw(num_others, rng)
        else:  # a file that imports little
            candidates = np.concatenate([others.all(), np.setdiff1d(own.all(), [*in_file, *hard])])
            outside = rng.choice(candidates, min(len(candidates), num_others), replace=False)
        return [*in_file.tolist(), *hard, *outside.tolist()]

    def _draw_hard(self, retrieved: Sequence[int], left_out: set[int], rng: np.random.Generator) -> list[int]:
        """Some of what was retrieved; without hard negatives the generator of chance stays as it is."""
        candidates = [number for number in retrieved if number not in left_out]
        num = min(len(candidates), self.num_hard_negatives)
        return rng.choice(candidates, num, replace=False).tolist() if num else []


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
