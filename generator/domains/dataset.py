"""The problems of a split as examples by (epoch, index): drawn anew in every epoch, or a list that stays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common import Pos
from generator.domains.base import Domain, Problem
from generator.domains.encodings import Encoding, Lengths
from retrieval.leandojo.provenance import Provenance
from retrieval.training.batches import KeyedDataset
from retrieval.training.datamodule import Split


class DomainDataset(KeyedDataset[Any]):
    """Problems of a split that stay the same in every epoch.

    Attributes:
        source_lengths: tokens of each input, EOS included, int64 (N,)
        target_lengths: tokens of each target, EOS included, int64 (N,)
    """

    def __init__(self, domain: Domain[Any, Any], split: Split, encoding: Encoding, problems: Sequence[Problem]) -> None:
        self.domain, self.split, self.encoding = domain, split, encoding
        self._problems: Sequence[Problem] = problems
        self.source_lengths, self.target_lengths = encoding.lengths(problems)

    def __len__(self) -> int:
        return len(self._problems)

    @property
    def num_target_tokens(self) -> int:
        """Tokens of all targets together."""
        return int(self.target_lengths.sum())

    def problem(self, epoch: int, index: int) -> Problem:
        """Return what an example is made of."""
        return self._problems[index]

    def example(self, epoch: int, index: int) -> Any:
        """See `KeyedDataset`."""
        place = Provenance(full_name=f"{self.domain.name}/{self.split}", start=Pos(1, 1), tactic_idx=index)
        return self.encoding.example(self.problem(epoch, index), place, index)

    def collate(self, examples: Sequence[Any]) -> Any:
        """Pad examples to one batch."""
        return self.encoding.collate(examples)

    def summary(self) -> str:
        """Say in one line what there is."""
        means = self.source_lengths.mean(), self.target_lengths.mean()
        return (
            f"{len(self):,} problems of domain {self.domain.name} for {self.split}{self._note}; "
            "{:,.0f} tokens in and {:,.0f} out on average".format(*means)
        )

    _note = ""


class FreshDataset(DomainDataset):
    """Problems that are drawn anew in every epoch, each from (seed, epoch, index) alone.

    The process that makes batches draws a whole epoch when it begins, to put similar lengths together; workers draw
    what they are asked for.
    """

    _note = " in every epoch, each time others"

    def __init__(
        self, domain: Domain[Any, Any], split: Split, encoding: Encoding, num_problems: int, seed: int
    ) -> None:
        """Draw the first epoch.

        Args:
            domain: to draw from
            split: to draw for
            encoding: makes examples
            num_problems: of an epoch
            seed: of the draws
        """
        self.seed, self._epoch = seed, 0
        super().__init__(domain, split, encoding, [domain.problem(seed, split, index) for index in range(num_problems)])

    def problem(self, epoch: int, index: int) -> Problem:
        """See `DomainDataset`."""
        if epoch == self._epoch:
            return self._problems[index]
        return self.domain.problem(self.seed, self.split, index, epoch)

    def lengths_of(self, epoch: int) -> Lengths:
        """Return the lengths of the inputs and targets of an epoch, which is kept until another one is asked for."""
        if epoch != self._epoch:
            problems = [self.problem(epoch, index) for index in range(len(self))]
            self.source_lengths, self.target_lengths = self.encoding.lengths(problems)
            self._problems, self._epoch = problems, epoch
        return self.source_lengths, self.target_lengths
