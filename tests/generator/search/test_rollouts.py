"""Whole proofs drawn tactic by tactic."""

import math
from collections import Counter

import pytest

from common import NO_GOALS
from generator.environments.base import ProofState, TacticError
from generator.search.loop import prove
from generator.search.options import SearchOptions
from generator.search.rollouts import MAX_IDLE, Rollouts
from tests.generator.search.search_fakes import THEOREM, Prover, Writer, random_graph


def rollouts(graph, **options):
    """The result, the prover, and the search."""
    prover, searches = Prover(graph), []
    options = {"max_expansions": 1000} | options
    result = prove(
        THEOREM, prover, Writer(graph), SearchOptions(algorithm="rollouts", **options), observer=searches.append
    )
    searches[-1].tree.check_invariants()
    return result, prover, searches[-1]


@pytest.mark.parametrize("seed", range(40))
def test_they_find_what_best_first_finds_and_know_when_nothing_is_left(seed):
    graph = random_graph(seed)
    expected = prove(THEOREM, Prover(graph), Writer(graph), SearchOptions())
    for options in ({}, {"batch_size": 3}, {"temperature": 5.0, "seed": 7}):
        result, prover, _ = rollouts(graph, **options)
        assert result.status == expected.status
        assert len(set(prover.calls)) == len(prover.calls), "what was run once is looked up"


def test_temperature_zero_draws_the_likeliest_tactic_that_is_not_known_to_fail():
    graph = {
        "start": {"good": (-0.1, "a"), "bad": (-0.5, TacticError("no"))},
        "a": {"fails": (-0.1, TacticError("no")), "works": (-9.0, NO_GOALS)},
    }
    _, prover, search = rollouts(graph, temperature=0.0)
    assert [tactic for _, tactic in prover.calls] == ["good", "fails", "works"]
    assert search.num_rollouts == 2


def test_tactics_are_drawn_with_their_probabilities_to_the_power_of_one_by_temperature():
    graph = {"start": {"a": (math.log(0.8), NO_GOALS), "b": (math.log(0.2), NO_GOALS)}}

    def share(temperature):
        proofs = Counter(rollouts(graph, seed=seed, temperature=temperature)[0].proof[0] for seed in range(200))
        return proofs["a"] / 200

    assert share(1.0) == pytest.approx(0.8, abs=0.1)
    assert share(0.5) == pytest.approx(16 / 17, abs=0.05)
    assert share(100.0) == pytest.approx(0.5, abs=0.11)


def test_the_same_seed_draws_the_same_proofs():
    graph = random_graph(3, num_states=12)
    calls = [rollouts(graph, seed=5)[1].calls for _ in range(2)]
    assert calls[0] == calls[1]
    assert any(rollouts(graph, seed=seed)[1].calls != calls[0] for seed in range(6, 12))


def test_the_number_of_drawn_proofs_is_a_limit():
    graph = {"start": {f"t{i}": (-1.0, TacticError("no")) for i in range(10)}}
    result, prover, search = rollouts(graph, num_rollouts=4)
    assert (result.status, result.reason) == ("open", "num_rollouts 4 reached")
    assert len(prover.calls) == search.num_rollouts == 4
    result, _, search = rollouts(graph, num_rollouts=10)
    assert result.status == "failed" and search.num_rollouts == 10


def test_a_drawn_proof_goes_no_deeper_than_max_depth_and_idle_draws_end_the_search():
    graph = {f"s{i}": {"on": (-1.0, f"s{i + 1}")} for i in range(50)} | {"start": {"on": (-1.0, "s0")}}
    result, prover, search = rollouts(graph, max_depth=5)
    assert len(prover.calls) == 5
    assert (result.status, result.reason) == ("open", f"the last {MAX_IDLE:,} drawn proofs tried nothing new")


def test_a_drawn_proof_does_not_go_in_circles():
    graph = {
        "start": {"on": (-0.01, "a")},
        "a": {"back": (-0.01, "start"), "stay": (-0.01, "a"), "out": (-9.0, "b")},
        "b": {"done": (-1.0, NO_GOALS)},
    }
    result, prover, _ = rollouts(graph)
    assert result.proof == ("on", "out", "done") and len(prover.calls) == 5


def test_proofs_drawn_side_by_side_ask_the_generator_together():
    graph = {
        "start": {"a": (-0.7, "a"), "b": (-0.7, "b")},
        "a": {"x": (-0.1, TacticError("no"))},
        "b": {"x": (-0.1, TacticError("no"))},
    }
    prover, writer = Prover(graph), Writer(graph)
    prove(THEOREM, prover, writer, SearchOptions(algorithm="rollouts", batch_size=16))
    assert writer.asked[0] == ["start"] and sorted(writer.asked[1]) == ["a", "b"]


def test_the_limit_of_expansions_counts_states_that_were_asked_about():
    graph = {"start": {f"t{i}": (-1.0, f"s{i}") for i in range(9)}}
    result, _, _ = rollouts(graph, max_expansions=4, batch_size=3)
    assert result.num_expansions == 4 and result.reason == "max_expansions 4 reached"


def test_impossible_tactics_are_drawn_when_nothing_else_is_left():
    graph = {"start": {"likely": (-1.0, TacticError("no")), "impossible": (-math.inf, NO_GOALS)}}
    assert rollouts(graph)[0].proof == ("impossible",)


def test_a_search_that_is_not_run_has_drawn_nothing():
    search = Rollouts(ProofState("start"), SearchOptions(algorithm="rollouts"))
    assert search.num_rollouts == 0 and search.candidates_of(search.tree.root) is None
