"""A mixture is the weighted sum of its parts, and passes on what provers ask of a generator."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from common import Candidate, ConfigError, Context
from generator.interface.mixture import MixedTacticGenerator, fit_weights, mixed
from generator.interface.tactic_generator import TacticGenerator
from generator.interface.wrappers import FixedTacticGenerator

ONE = FixedTacticGenerator([("a", math.log(0.6)), ("b", math.log(0.3)), ("c", math.log(0.1))])
TWO = FixedTacticGenerator([("b", math.log(0.5)), ("d", math.log(0.5))])


class Noting(TacticGenerator):
    """Notes what it is asked, and has a retriever."""

    def __init__(self, retriever: Any = None) -> None:
        self.calls: list[Any] = []
        self.retriever = retriever

    def initialize(self) -> None:
        self.calls.append("initialize")

    def eval(self) -> Noting:
        self.calls.append("eval")
        return self

    def propose(self, contexts: Sequence[Context], num_candidates: int) -> list[list[Candidate]]:
        self.calls.append((len(contexts), num_candidates))
        return [[(context.state, -1.0)][:num_candidates] for context in contexts]


def probabilities(generator: TacticGenerator, num: int = 8) -> dict[str, float]:
    found = generator.generate("⊢ p", "A.v", "t", (1, 1), num)
    assert [p for _, p in found] == sorted((p for _, p in found), reverse=True)
    return {tactic: round(math.exp(p), 6) for tactic, p in found}


def test_probabilities_are_the_weighted_sums_of_those_of_the_parts() -> None:
    found = probabilities(MixedTacticGenerator([ONE, TWO], [0.75, 0.25]))
    assert found == {"a": 0.45, "b": 0.35, "d": 0.125, "c": 0.075}
    assert sum(found.values()) == pytest.approx(1)
    assert probabilities(MixedTacticGenerator([ONE, TWO], [3, 1])) == found
    assert list(probabilities(MixedTacticGenerator([ONE, TWO]))) == ["b", "a", "d", "c"]  # equal weights
    assert probabilities(MixedTacticGenerator([ONE, ONE])) == probabilities(ONE)


def test_as_many_candidates_are_returned_as_asked_for_and_parts_are_asked_for_more() -> None:
    noting = Noting()
    mixture = MixedTacticGenerator([noting, ONE], num_asked=5)
    assert len(mixture.generate("x", "A.v", "t", (1, 1), 2)) == 2
    mixture.generate("x", "A.v", "t", (1, 1), 9)
    assert noting.calls == [(1, 5), (1, 9)]


def test_a_tactic_that_is_second_in_both_parts_may_be_first() -> None:
    parts = [FixedTacticGenerator([(first, math.log(0.4)), ("both", math.log(0.3))]) for first in "ab"]
    assert MixedTacticGenerator(parts, num_asked=2).generate("x", "A.v", "t", (1, 1), 1)[0][0] == "both"


def test_it_passes_on_initialize_eval_retriever_and_whether_the_theorem_matters() -> None:
    noting, retriever = Noting("a retriever"), "a retriever"
    mixture = MixedTacticGenerator([ONE, noting])
    mixture.initialize()
    assert mixture.eval() is mixture and noting.calls == ["initialize", "eval"]
    assert mixture.retriever == retriever and MixedTacticGenerator([ONE, TWO]).retriever is None
    assert mixture.reads_theorem and not MixedTacticGenerator([ONE, TWO]).reads_theorem


def test_batches_go_to_each_part_as_one_and_can_be_awaited() -> None:
    noting = Noting()
    mixture = MixedTacticGenerator([noting, TWO])
    rows = (["x", "y"], ["A.v"] * 2, ["t"] * 2, [(1, 1)] * 2, 3)
    found = mixture.batch_generate(*rows)
    assert noting.calls == [(2, 3)] and [{t for t, _ in each} for each in found] == [{"x", "b", "d"}, {"y", "b", "d"}]

    async def awaited() -> Any:
        return await mixture.as_async().batch_generate(*rows)

    assert asyncio.run(awaited()) == found
    assert mixture.propose([], 3) == []


@pytest.mark.parametrize("weights", [[1.0], [0.5, 0.0], [0.5, -1.0], [0.5, math.nan], [math.inf, 1.0]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ConfigError, match="weight"):
        MixedTacticGenerator([ONE, TWO], weights)


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="0 generators"):
        MixedTacticGenerator([])
    assert mixed([[], []], [0.5, 0.5]) == []


def test_fitted_weights_are_the_most_likely_ones() -> None:
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.random((200, 3)) * [1.0, 0.6, 0.2])
    log_probs[rng.random((200, 3)) < 0.3] = -np.inf
    weights = fit_weights(log_probs)

    def likelihood(found: Sequence[float]) -> float:
        rows = log_probs[np.isfinite(log_probs).any(axis=1)]
        return float(np.log(np.exp(rows) @ np.array(found)).sum())

    assert sum(weights) == pytest.approx(1)
    for part in range(3):
        for change in (-0.01, 0.01):
            moved = np.array(weights)
            moved[part] = max(moved[part] + change, 1e-6)
            assert likelihood(moved / moved.sum()) <= likelihood(weights) + 1e-6


def test_a_part_that_is_never_right_keeps_a_little_and_no_right_tactic_at_all_is_refused() -> None:
    weights = fit_weights([[-1.0, -np.inf], [-2.0, -np.inf]])
    assert 0 < weights[1] < 1e-5
    with pytest.raises(ConfigError, match="no part proposes"):
        fit_weights([[-np.inf, -np.inf]])
