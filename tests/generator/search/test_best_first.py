"""In which order best-first search tries states, and where its limits stop it; no model, no prover."""

import math
from collections.abc import Callable

import pytest

from common import NO_GOALS
from generator.environments.base import ProofFinished, ProofState, TacticError
from generator.search.best_first import BestFirstSearch
from generator.search.options import SearchOptions
from tests.generator.search.search_fakes import Clock, Graph, random_graph


def search_in(graph: Graph, clock: Callable[[], float] | None = None, **options) -> BestFirstSearch:
    return BestFirstSearch(ProofState("start"), SearchOptions(**options), clock or Clock())


def expand(search: BestFirstSearch, node, graph: Graph) -> None:
    row = sorted(graph[node.state.pp].items(), key=lambda item: -item[1][0])
    for tactic, log_prob in search.select(node, [(tactic, log_prob) for tactic, (log_prob, _) in row]):
        if not search.may_run():
            return
        result = graph[node.state.pp][tactic][1]
        if isinstance(result, str):
            result = ProofFinished() if result == NO_GOALS else ProofState(result)
        search.record(node, tactic, log_prob, result)
    search.close(node)


def run(graph: Graph, **options) -> tuple[BestFirstSearch, list[list[str]]]:
    """The search when it is over, and the states that were tried, round by round."""
    search, rounds = search_in(graph, **options), []
    while goals := search.next_goals():
        rounds.append([node.state.pp for node in goals])
        for node in goals:
            expand(search, node, graph)
    search.tree.check_invariants()
    return search, rounds


def likeliest(graph: Graph, tried: list[str]) -> list[str]:
    """States that may come next: of all that the tried ones lead to, those of the highest log-probability."""
    best, order = {"start": 0.0}, ["start"]
    for _ in graph:
        for state in tried:
            for log_prob, result in sorted(graph[state].values(), key=lambda pair: -pair[0]):
                if isinstance(result, str) and result != NO_GOALS:
                    best[result] = max(best.get(result, -math.inf), best[state] + log_prob)
                    if result not in order:
                        order.append(result)
    left = {state: value for state, value in best.items() if state not in tried}
    return [state for state in order if left.get(state, -math.inf) == max(left.values(), default=0)]


@pytest.mark.parametrize("seed", range(60))
def test_the_next_state_is_the_likeliest_of_all_that_are_known_as_brute_force_finds_it(seed):
    graph = random_graph(seed)
    search, rounds = run(graph)
    tried = [state for (state,) in rounds]
    assert len(set(tried)) == len(tried), "no state is tried twice"
    for i, state in enumerate(tried):
        assert state in likeliest(graph, tried[:i])
    if search.status == "failed":
        assert likeliest(graph, tried) == []


@pytest.mark.parametrize("seed", range(40))
def test_what_can_be_proved_is_proved_and_what_cannot_has_failed(seed):
    graph = random_graph(seed, num_states=10, num_tactics=3)
    reached, stack = set(), ["start"]
    while stack:
        state = stack.pop()
        if state not in reached:
            reached.add(state)
            stack += [r for _, r in graph[state].values() if isinstance(r, str) and r != NO_GOALS]
    provable = any(result == NO_GOALS for state in reached for _, result in graph[state].values())
    for options in ({}, {"batch_size": 3}, {"length_penalty": 0.7}, {"algorithm": "breadth_first"}):
        search, _ = run(graph, **options)
        assert search.status == ("proved" if provable else "failed")
        assert search.reason == ("proved" if provable else search._nothing_left())


CHAIN = {
    "start": {"a": (-1.0, "a"), "b": (-2.0, "b"), "c": (-3.0, "c")},
    "a": {"x": (-3.0, "a2")},
    "b": {"x": (-0.5, "b2")},
    "c": {"x": (-0.25, "c2")},
    **{name: {} for name in ("a2", "b2", "c2")},
}


def test_a_batch_holds_the_best_open_states_of_the_moment():
    _, rounds = run(CHAIN, batch_size=2)
    assert rounds == [["start"], ["a", "b"], ["b2", "c"], ["c2", "a2"]]


def test_the_length_penalty_favours_states_that_are_deep():
    _, rounds = run(CHAIN)
    assert [state for (state,) in rounds] == ["start", "a", "b", "b2", "c", "c2", "a2"]
    _, rounds = run(CHAIN, length_penalty=2.0)  # a2 is worth -4/4, b -2
    assert [state for (state,) in rounds] == ["start", "a", "a2", "b", "b2", "c", "c2"]
    search = search_in(CHAIN, length_penalty=0.5)
    search.record(search.tree.root, "a", -3.0, ProofState("a"))
    search.record(search.tree.nodes[ProofState("a")], "b", -1.0, ProofState("b"))
    assert search.score(search.tree.nodes[ProofState("b")]) == pytest.approx(-4 / math.sqrt(2))


def test_breadth_first_tries_a_level_before_the_next_and_of_each_no_more_than_max_breadth():
    _, rounds = run(CHAIN, algorithm="breadth_first")
    assert [state for (state,) in rounds] == ["start", "a", "b", "c", "b2", "c2", "a2"]
    search, rounds = run(CHAIN, algorithm="breadth_first", max_breadth=2)
    assert [state for (state,) in rounds] == ["start", "a", "b", "b2", "a2"]
    assert search.status == "open"
    assert search.reason == "no tactic is left to try within max_depth and max_breadth, which left out 1 states"


def test_max_depth_is_the_number_of_tactics_of_a_proof():
    proof = {"start": {"a": (-1.0, "a")}, "a": {"b": (-1.0, "b")}, "b": {"c": (-1.0, NO_GOALS)}}
    assert run(proof, max_depth=3)[0].status == "proved"
    search, rounds = run(proof, max_depth=2)
    assert search.status == "open" and "max_depth" in search.reason
    assert rounds == [["start"], ["a"]]


def test_of_equal_scores_the_state_found_first_is_tried_first():
    graph = {"start": {name: (-1.0, name) for name in "dbac"}, **{name: {} for name in "abcd"}}
    assert [state for (state,) in run(graph)[1]] == ["start", "d", "b", "a", "c"]


def test_a_state_found_again_by_a_likelier_way_moves_forward_and_is_tried_once():
    graph = {
        "start": {"dear": (-9.0, "x"), "a": (-1.0, "a"), "b": (-3.0, "b")},
        "a": {"cheap": (-1.0, "x")},
        "x": {},
        "b": {},
    }
    assert [state for (state,) in run(graph)[1]] == ["start", "a", "x", "b"]


def test_it_stops_at_the_first_proof():
    graph = {"start": {"done": (-1.0, NO_GOALS), "other": (-2.0, "a")}, "a": {}}
    search, rounds = run(graph)
    assert rounds == [["start"]] and search.num_calls == 1
    assert search.next_goals() == [] and search.reason == "proved"


def test_the_limit_of_expansions_cuts_batches_and_leaves_the_theorem_open():
    endless = {"start": {"a": (-1.0, "s1"), "b": (-1.0, "s2")}}
    endless |= {f"s{i}": {"a": (-1.0, f"s{2 * i + 1}"), "b": (-1.0, f"s{2 * i + 2}")} for i in range(1, 100)}
    search, rounds = run(endless, max_expansions=6, batch_size=4)
    assert [len(each) for each in rounds] == [1, 2, 3] and search.num_expansions == 6
    assert (search.status, search.reason) == ("open", "max_expansions 6 reached")


def test_the_limit_of_calls_stops_in_the_middle_of_a_state_which_then_stays_open():
    graph = {"start": {f"t{i}": (-1.0 - i, TacticError("no")) for i in range(5)}}
    search, _ = run(graph, max_calls=3)
    assert search.num_calls == 3
    assert (search.status, search.reason) == ("open", "max_calls 3 reached")
    search, _ = run(graph, max_calls=5)
    assert search.status == "failed" and search.num_calls == 5


def test_a_proof_that_comes_after_the_deadline_counts():
    clock = Clock()
    search = search_in({}, clock, max_seconds=10)
    (root,) = search.next_goals()
    assert search.may_run()
    clock.now += 10
    assert not search.may_run()
    search.record(root, "slow", -1.0, ProofFinished())
    assert search.next_goals() == []
    assert (search.status, search.reason) == ("proved", "proved")


def test_nothing_begins_after_the_deadline():
    clock = Clock()
    search = search_in({}, clock, max_seconds=10)
    (root,) = search.next_goals()
    search.record(root, "a", -1.0, ProofState("a"))
    search.close(root)
    clock.now += 10.5
    assert search.next_goals() == []
    assert (search.status, search.reason) == ("open", "max_seconds 10 reached")
    clock.now = 0  # the reason stands
    assert search.next_goals() == [] and search.reason == "max_seconds 10 reached"


def test_no_candidates_at_the_root_are_a_reason_of_their_own():
    search, _ = run({"start": {}})
    assert (search.status, search.reason) == ("failed", "the generator proposes no tactic")
    search, _ = run({"start": {"t": (-1.0, TacticError("no"))}})
    assert (search.status, search.reason) == ("failed", "no tactic is left to try")


def test_a_candidate_given_twice_is_run_once_with_its_first_score():
    search = search_in({})
    candidates = [("a", -1.0), ("b", -2.0), ("a", -3.0)]
    assert list(search.select(search.tree.root, candidates)) == [("a", -1.0), ("b", -2.0)]
