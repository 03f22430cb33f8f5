"""The writers of the primer's series for rectangles, each as a distribution over the 2401 programs.

So a writer samples, says how probable each proposal was, and how probable it is to be right, exactly.

Shape legend: 2401 programs, 72 features (row, column, label), 7 digits.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from common import Candidate, DataError
from generator.domains.base import MakeWriter, Problem
from generator.domains.logistic import LogisticRegression
from generator.domains.rectangle_dsl import (
    DIGITS,
    NUM_PROGRAMS,
    NUMBER_OF,
    SIZE,
    TEXTS,
    Spec,
    consistent,
    posterior,
    prior,
    read_program,
    read_spec,
)
from generator.domains.writers import BlockWriter, Writer

Probabilities: TypeAlias = npt.NDArray[np.float64]
_COORDINATES = range(4)  # T, D, L, R


class RectangleWriter(BlockWriter):
    """Samples programs from a distribution that a specification decides."""

    def __init__(self, name: str, distribution: Callable[[Spec], Probabilities], seed: int = 0) -> None:
        """Keep the distribution.

        Args:
            name: in results
            distribution: the probabilities of all programs, (2401,), for a specification
            seed: of the draws
        """
        super().__init__(name, seed)
        self.distribution = distribution
        self._table = lru_cache(1024)(self._compute)

    def _compute(self, spec: str) -> tuple[Probabilities, Probabilities, float]:
        """Probabilities, their cumulative sum, and the share of them that holds."""
        value = read_spec(spec)
        probabilities = self.distribution(value)
        return probabilities, probabilities.cumsum(), float(probabilities[consistent(value)].sum())

    def draw(self, spec: str, block: int) -> list[Candidate]:
        """See `BlockWriter.draw`."""
        probabilities, cumulative, _ = self._table(spec)
        noise = np.random.default_rng(self.seed_of(spec, block)).random(self.block_size)
        chosen = np.searchsorted(cumulative, noise * cumulative[-1], side="right").clip(max=NUM_PROGRAMS - 1)
        log_probs: list[float] = np.log(probabilities[chosen]).tolist()
        return [(TEXTS[k], log_prob) for k, log_prob in zip(chosen.tolist(), log_probs, strict=True)]

    def success_probability(self, spec: str) -> float:
        """See `Writer.success_probability`."""
        share: float = self._table(spec)[2]
        return min(1.0, share)

    def log_prob(self, spec: str, program: str) -> float:
        """See `Writer.log_prob`."""
        number = NUMBER_OF.get(program)
        probability = 0.0 if number is None else float(self._table(spec)[0][number])
        return math.log(probability) if probability > 0 else -math.inf


class AllStrings(BlockWriter):
    """Nine characters, each any of the 100 that Python calls printable."""

    _LENGTH, _ALPHABET = 9, string.printable

    def draw(self, spec: str, block: int) -> list[Candidate]:
        """See `BlockWriter.draw`."""
        rng = np.random.default_rng(self.seed_of(spec, block))
        rows = rng.integers(len(self._ALPHABET), size=(self.block_size, self._LENGTH)).tolist()
        log_prob = -self._LENGTH * math.log(len(self._ALPHABET))
        return [("".join(self._ALPHABET[k] for k in row), log_prob) for row in rows]

    def success_probability(self, spec: str) -> float:
        """See `Writer.success_probability`."""
        return float(consistent(read_spec(spec)).sum()) * float(len(self._ALPHABET)) ** -self._LENGTH

    def log_prob(self, spec: str, program: str) -> float:
        """See `Writer.log_prob`."""
        is_possible = len(program) == self._LENGTH and all(character in self._ALPHABET for character in program)
        return -self._LENGTH * math.log(len(self._ALPHABET)) if is_possible else -math.inf


# ------------------------------------------------------------------------------------------------
# Distributions


def any_program(spec: Spec) -> Probabilities:
    """Four digits, each of 0..6, whatever the specification."""
    return np.full(NUM_PROGRAMS, 1 / NUM_PROGRAMS)


def tight(spec: Spec) -> Probabilities:
    """The prior that problems are drawn from."""
    return prior()


def manual(fall_back: Callable[[Spec], Probabilities]) -> Callable[[Spec], Probabilities]:
    """T and D are rows of cells that are inside, L and R columns, each drawn by itself; without any, the fall-back."""

    def distribution(spec: Spec) -> Probabilities:
        cells = [(each.row, each.column) for each in spec if each.is_inside]
        if not cells:
            return fall_back(spec)
        rows, columns = (np.bincount(axis, minlength=DIGITS) / len(cells) for axis in zip(*cells, strict=True))
        return product_of([rows, rows, columns, columns])

    return distribution


def product_of(coordinates: Sequence[Probabilities]) -> Probabilities:
    """Return the distribution of programs of which each coordinate is drawn by itself, four of (7,) to (2401,)."""
    top, down, left, right = coordinates
    joint: Probabilities = np.einsum("a,b,c,d->abcd", top, down, left, right).reshape(-1)
    return joint


def features_of(specs: Sequence[Spec]) -> npt.NDArray[np.float64]:
    """Return which cells are there with which label, 0 or 1, (N, 72)."""
    features = np.zeros((len(specs), SIZE, SIZE, 2))
    for number, spec in enumerate(specs):
        for row, column, inside in spec:
            features[number, row, column, int(inside)] = 1
    return features.reshape(len(specs), -1)


class Unigram:
    """T, D, L and R each by a logistic regression of its own."""

    def __init__(self, problems: Sequence[Problem], *, as_published: bool = False) -> None:
        """Learn.

        Args:
            problems: to learn from
            as_published: take the column of a probability for the label, as the post's code does. D and R are never 0
                in training, so all that are proposed are one too small
        """
        specs, programs = _values(problems)
        features = features_of(specs)
        self.models = [LogisticRegression(features, programs[:, k]) for k in _COORDINATES]
        self.as_published = as_published

    def __call__(self, spec: Spec) -> Probabilities:
        """Return the distribution for a specification, (2401,)."""
        features = features_of([spec])
        return product_of(
            [_spread(model, model.probabilities(features)[0], self.as_published) for model in self.models]
        )


class Bigram:
    """Each coordinate by a logistic regression that sees the one before it, too: T, then D, L and R."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        """Learn from problems."""
        specs, programs = _values(problems)
        features = features_of(specs)
        self.models = [
            LogisticRegression(np.hstack([features, _one_hot(programs[:, k - 1])]) if k else features, programs[:, k])
            for k in _COORDINATES
        ]

    def __call__(self, spec: Spec) -> Probabilities:
        """Return the distribution for a specification, (2401,)."""
        features = features_of([spec])
        first = _spread(self.models[0], self.models[0].probabilities(features)[0])
        after = np.hstack([features.repeat(DIGITS, axis=0), _one_hot(np.arange(DIGITS))])  # each digit before
        down, left, right = (
            np.stack([_spread(model, row) for row in model.probabilities(after)]) for model in self.models[1:]
        )
        joint: Probabilities = np.einsum("a,ab,bc,cd->abcd", first, down, left, right).reshape(-1)
        return joint


def _values(problems: Sequence[Problem]) -> tuple[list[Spec], npt.NDArray[np.int64]]:
    """Specifications, and programs (N, 4)."""
    if not problems:
        raise DataError("there are no problems to learn from; give at least one")
    specs = [read_spec(problem.spec) for problem in problems]
    return specs, np.array([read_program(problem.program) for problem in problems])


def _one_hot(digits: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    return np.eye(DIGITS)[digits]


def _spread(model: LogisticRegression, probabilities: Probabilities, as_published: bool = False) -> Probabilities:
    """Probabilities of classes as those of the digits 0..6."""
    spread = np.zeros(DIGITS)
    spread[np.arange(len(model.classes)) if as_published else model.classes] = probabilities
    return spread


# ------------------------------------------------------------------------------------------------
# By name

Learn = Callable[[], Sequence[Problem]]


def _fixed(name: str, distribution: Callable[[Spec], Probabilities]) -> MakeWriter:
    return lambda seed, learn: RectangleWriter(name, distribution, seed)


def _learnt(name: str, kind: Callable[[Sequence[Problem]], Callable[[Spec], Probabilities]]) -> MakeWriter:
    return lambda seed, learn: RectangleWriter(name, kind(learn()), seed)


def _all_strings(seed: int, learn: Learn) -> Writer:
    return AllStrings("all_strings", seed)


BASELINES: Mapping[str, MakeWriter] = {
    "all_strings": _all_strings,
    "dsl": _fixed("dsl", any_program),
    "tight": _fixed("tight", tight),
    "manual": _fixed("manual", manual(tight)),
    "manual_raw": _fixed("manual_raw", manual(any_program)),
    "unigram": _learnt("unigram", Unigram),
    "unigram_as_published": _learnt("unigram_as_published", lambda problems: Unigram(problems, as_published=True)),
    "bigram": _learnt("bigram", Bigram),
    "posterior": _fixed("posterior", posterior),
}
