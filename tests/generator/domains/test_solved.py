"""Pass@k without bias, solved within every budget, and how sure shares are."""

from itertools import combinations

import numpy as np
import pytest

from common import ConfigError
from generator.domains.base import Verdict
from generator.domains.solved import (
    SolvedCurve,
    all_samples,
    bootstrap_band,
    first_solved,
    pass_at_k,
    pass_curve,
    within,
)
from generator.domains.synthesize import Outcome, Try


@pytest.mark.parametrize(("num_samples", "num_right"), [(6, 0), (6, 1), (6, 3), (6, 5), (6, 6)])
def test_pass_at_k_is_the_share_of_all_choices_of_k_that_hold_a_right_one(num_samples, num_right):
    for k in range(1, num_samples + 1):
        choices = list(combinations(range(num_samples), k))
        share = sum(min(choice) < num_right for choice in choices) / len(choices)
        assert pass_at_k(num_samples, num_right, k) == pytest.approx(share)
        assert pass_curve(num_samples, num_right, num_samples)[k - 1] == pytest.approx(share)


def test_pass_at_k_of_many_samples_does_not_overflow():
    assert 0 < pass_at_k(100_000, 3, 10_000) < 1


@pytest.mark.parametrize("k", [0, 7])
def test_k_is_one_to_the_number_of_samples(k):
    with pytest.raises(ConfigError, match=f"k is {k}"):
        pass_at_k(6, 1, k)


def outcome(solved_at, budget, num_right=1):
    """Proposals of which those from `solved_at` on are right, num_right of them."""
    right = range(solved_at, solved_at + num_right) if solved_at else range(0)
    tries = [
        Try(str(i), 0.0, Verdict("verified" if i in right else "rejected"), i, False) for i in range(1, budget + 1)
    ]
    return Outcome("s", tries, solved_at or budget, "p" if solved_at else None)


def test_a_problem_is_solved_from_the_budget_on_at_which_it_was_and_failures_never():
    rows = first_solved([outcome(1, 4), outcome(3, 4), outcome(None, 4)], 4)
    assert rows.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]


def test_curves_never_fall_and_all_samples_use_all():
    rows = all_samples([outcome(3, 4), outcome(None, 4), outcome(1, 4, num_right=4)], 4)
    assert rows.tolist() == [[0.25, 0.5, 0.75, 1.0], [0, 0, 0, 0], [1, 1, 1, 1]]
    curve = SolvedCurve.of(rows)
    assert list(curve.share) == sorted(curve.share) and curve.num_problems == 3


def test_the_band_holds_the_mean_in_nineteen_of_twenty_cases():
    rng, hits = np.random.default_rng(0), 0
    for case in range(30):
        low, high = bootstrap_band((rng.random((200, 1)) < 0.3).astype(float), seed=case)
        hits += low[0] <= 0.3 <= high[0]
    assert hits >= 25


def test_one_problem_has_a_curve_without_an_error():
    curve = SolvedCurve.of(np.array([[0.0, 1.0]]))
    assert curve.share == (0.0, 1.0) and np.isnan(curve.standard_error[0])


def test_the_chance_within_a_budget():
    assert np.allclose(within([0.5, 0.0, 1.0], 2), [[0.5, 0.75], [0, 0], [1, 1]])
