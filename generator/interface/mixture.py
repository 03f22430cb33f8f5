"""Several generators as one: a weighted sum of their probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from common import Candidate, ConfigError, Context, check_positive
from generator.interface.tactic_generator import TacticGenerator

_Floats = npt.NDArray[np.float64]


class MixedTacticGenerator(TacticGenerator):
    """Proposes what any of several generators does.

    The probability of a tactic is the sum over the parts of weight times the part's probability, which is 0 where a
    part does not propose it. As the weights add up to 1, the probabilities of all tactics together are at most 1 if
    those of each part are.

    Attributes:
        generators: the parts
        weights: of each, above 0, 1 together
        num_asked: candidates that each part is asked for at least: one that is far down in two parts may be high in
            their sum
    """

    def __init__(
        self, generators: Sequence[TacticGenerator], weights: Sequence[float] | None = None, num_asked: int = 1
    ) -> None:
        """Join generators.

        Args:
            generators: one or more
            weights: of each; all the same if not given. They are divided by their sum
            num_asked: see the class

        Raises:
            ConfigError: if there is no generator, or a weight is missing or not above 0
        """
        self.generators = list(generators)
        given = [1.0] * len(self.generators) if weights is None else [float(weight) for weight in weights]
        if not self.generators or len(given) != len(self.generators):
            raise ConfigError(
                f"a mixture of {len(self.generators)} generators has {len(given)} weights; give one for each"
            )
        for weight in given:
            if not 0 < weight < math.inf:
                raise ConfigError(
                    f"the weight of a generator is {weight}; it must be above 0: leave out what counts nothing"
                )
        check_positive(num_asked=num_asked)
        self.weights, self.num_asked = [weight / sum(given) for weight in given], num_asked
        self.reads_theorem = any(generator.reads_theorem for generator in self.generators)

    @property
    def retriever(self) -> Any:
        """That of the first part that has one."""
        found = (getattr(generator, "retriever", None) for generator in self.generators)
        return next((retriever for retriever in found if retriever is not None), None)

    def initialize(self) -> None:
        """See `TacticGenerator.initialize`."""
        for generator in self.generators:
            generator.initialize()

    def eval(self) -> Self:
        """See `TacticGenerator.eval`."""
        for generator in self.generators:
            generator.eval()
        return self

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        """Return the best of what the parts propose, each of which is asked about all states together."""
        num_asked = max(num_candidates, self.num_asked)
        found = [generator.propose(contexts, num_asked) for generator in self.generators]
        return [mixed(parts, self.weights)[:num_candidates] for parts in zip(*found, strict=True)]


def mixed(parts: Sequence[Sequence[Candidate]], weights: Sequence[float]) -> list[Candidate]:
    """Return the candidates of one state, best first; of equally probable ones those of the first part first.

    >>> [(tactic, round(math.exp(p), 2)) for tactic, p in mixed([[("a", math.log(0.5))], [("b", 0.0)]], [0.5, 0.5])]
    [('b', 0.5), ('a', 0.25)]
    """
    totals: dict[str, float] = {}
    for candidates, weight in zip(parts, weights, strict=True):
        for tactic, log_prob in candidates:
            term = math.log(weight) + log_prob
            totals[tactic] = float(np.logaddexp(totals[tactic], term)) if tactic in totals else term
    return sorted(((tactic, min(log_prob, 0.0)) for tactic, log_prob in totals.items()), key=lambda pair: -pair[1])


def fit_weights(log_probs: npt.ArrayLike, num_rounds: int = 1000) -> list[float]:
    """Return the weights under which right tactics are the most probable, by expectation maximization.

    Args:
        log_probs: that each part gives the right tactic of each state, float (states, parts); -inf where it does not
            propose it. States for which no part does say nothing
        num_rounds: at most

    Raises:
        ConfigError: if no part proposes a right tactic
    """
    table = np.asarray(log_probs, dtype=np.float64)
    table = table[np.isfinite(table).any(axis=1)] if table.ndim == 2 else table
    if not table.size:
        raise ConfigError(
            "no part proposes the right tactic of any state, so that there are no weights to fit; give more states"
        )
    probs: _Floats = np.exp(table - table.max(axis=1, keepdims=True))
    weights = np.full(table.shape[1], 1 / table.shape[1])
    for _ in range(num_rounds):
        joint = probs * weights
        updated = (joint / joint.sum(axis=1, keepdims=True)).mean(axis=0)
        if np.abs(updated - weights).max() < 1e-9:
            break
        weights = updated
    floor = np.maximum(weights, 1e-6)  # a part that is never right still proposes, behind all others
    return [float(weight) for weight in floor / floor.sum()]
