"""What the tree of a search promises, and that what it hands on step by step is what a look at the whole gives."""

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.search.tree import Node, Tree

NUM_STATES = 8
RESULTS = [*range(NUM_STATES)] * 4 + ["error", "error", "finished"]


def result_of(number: int) -> tuple[int | str, float]:
    """What a tactic gave, and its log-probability; sums of quarters are exact."""
    quarters, kind = divmod(number, len(RESULTS))
    return RESULTS[kind], -quarters / 4


RESULT = st.integers(0, len(RESULTS) * 9 - 1).map(result_of)
EXPANSION = st.tuples(st.integers(0, NUM_STATES), st.lists(RESULT, min_size=1, max_size=4), st.integers(0, 5))
EVENTS = st.lists(EXPANSION, min_size=NUM_STATES, max_size=3 * NUM_STATES)


def play(events):
    """The tree after each event: one of its open nodes gets results, and mostly is closed then."""
    tree = Tree("s0")
    yield tree
    for i, (place, results, goes_on) in enumerate(events):
        open_nodes = [node for node in tree if not node.is_closed]
        if not open_nodes:
            return
        node = open_nodes[place % len(open_nodes)]
        for j, (result, log_prob) in enumerate(results):
            if result == "error":
                tree.record_error(node, "error")
            elif result == "finished":
                tree.record_finished(node, f"t{i}.{j}", log_prob)
            else:
                tree.record(node, f"t{i}.{j}", log_prob, f"s{result}")
            yield tree
        if goes_on:
            tree.close(node)
        yield tree


def brute_force(tree):
    """Log-probability, depth, distance and whether it has failed, of each state, by rounds over all edges."""
    edges = [edge for node in tree for edge in node.edges]
    best = {node: (-math.inf, -math.inf) for node in tree} | {tree.root: (0.0, 0)}
    distance = {node: math.inf for node in tree}
    leads_on = {node: not node.is_closed for node in tree}
    for _ in range(len(tree) + 1):
        for edge in edges:
            if edge.target is None:
                distance[edge.source] = 1
                continue
            log_prob, depth = best[edge.source]
            best[edge.target] = max(best[edge.target], (log_prob + edge.log_prob, depth - 1))
            distance[edge.source] = min(distance[edge.source], distance[edge.target] + 1)
            leads_on[edge.source] = leads_on[edge.source] or leads_on[edge.target]
    return {
        node.state: (
            best[node][0],
            -best[node][1],
            distance[node],
            "proved" if distance[node] < math.inf else "open" if leads_on[node] else "failed",
        )
        for node in tree
    }


def facts_of(tree):
    return {node.state: (node.log_prob, node.depth, node.distance, node.status) for node in tree}


@settings(max_examples=60, deadline=None)
@given(EVENTS)
def test_every_step_leaves_what_brute_force_over_the_whole_tree_gives(events):
    for tree in play(events):
        tree.check_invariants()
        assert facts_of(tree) == brute_force(tree)


@settings(max_examples=20, deadline=None)
@given(EVENTS)
def test_proved_stays_proved_and_failed_stays_failed(events):
    before = {}
    for tree in play(events):
        for node in tree:
            assert before.get(node, "open") in ("open", node.status)
            before[node] = node.status


@settings(max_examples=20, deadline=None)
@given(EVENTS)
def test_the_proof_is_a_way_from_the_root_that_ends_and_no_way_is_shorter(events):
    for tree in play(events):
        proof = tree.proof()
        if proof is None:
            assert tree.root.distance == math.inf
            continue
        assert proof[0].source is tree.root and proof[-1].target is None
        assert all(edge.target is following.source for edge, following in zip(proof, proof[1:], strict=False))
        assert len(proof) == tree.root.distance


@settings(max_examples=20, deadline=None)
@given(EVENTS)
def test_the_script_of_a_node_runs_through_the_states_in_which_each_was_found_first(events):
    *_, tree = play(events)
    for node in tree:
        at = tree.root
        for state, tactic in tree.way_to(node):
            assert state is at.state
            (edge,) = [edge for edge in at.edges if edge.tactic == tactic]
            assert edge.target.parents[0] is edge
            at = edge.target
        assert at is node


@settings(max_examples=20, deadline=None)
@given(EVENTS)
def test_recording_returns_the_open_nodes_that_are_new_or_likelier_now(events):
    tree = Tree("s0")
    for i, (place, results, _) in enumerate(events):
        open_nodes = [node for node in tree if not node.is_closed]
        source = open_nodes[place % len(open_nodes)]
        for j, (result, log_prob) in enumerate(results):
            before = {node: (node.log_prob, -node.depth) for node in tree}
            found = tree.record(source, f"t{i}.{j}", log_prob, f"s{result}")
            after = {node: (node.log_prob, -node.depth) for node in tree}
            expected = {node for node in tree if not node.is_closed and after[node] > before.get(node, (-math.inf, 0))}
            assert set(found) == expected and len(found) == len(expected)
        if len(open_nodes) > 1:
            tree.close(source)


def closed(tree: Tree[str], node: Node[str], *targets: str) -> list[Node[str]]:
    """Record states, a tactic each, and close."""
    for target in targets:
        tree.record(node, f"to {target}", -1.0, target)
    tree.close(node)
    return [tree.nodes[target] for target in targets]


def test_equal_states_of_different_ways_are_one_node_with_two_parents():
    tree = Tree("root")
    a, b = closed(tree, tree.root, "a", "b")
    (shared,) = closed(tree, a, "shared")
    closed(tree, b, "shared")
    assert len(tree) == 4
    assert [edge.source for edge in shared.parents] == [a, b]
    assert shared.state == "shared" and shared.number == 3


def test_a_proof_found_below_a_shared_state_is_one_of_all_that_lead_to_it():
    tree = Tree("root")
    a, b = closed(tree, tree.root, "a", "b")
    (shared,) = closed(tree, a, "shared")
    tree.record_finished(shared, "done", -0.5)
    assert [node.distance for node in (tree.root, a, b, shared)] == [3, 2, math.inf, 1]
    tree.record(b, "late", -1.0, "shared")
    assert b.status == "proved" and b.distance == 2
    assert [edge.tactic for edge in tree.proof()] == ["to a", "to shared", "done"]


def test_a_circle_without_a_way_out_has_failed_when_its_last_state_is_closed():
    tree = Tree("root")
    (a,) = closed(tree, tree.root, "a")
    (b,) = closed(tree, a, "b")
    assert tree.root.status == "open"
    closed(tree, b, "a", "root")
    assert [node.status for node in tree] == ["failed"] * 3
    tree.check_invariants()


def test_a_state_whose_way_out_leads_through_its_own_ancestor_stays_open():
    tree = Tree("root")
    (a,) = closed(tree, tree.root, "a")
    b, other = closed(tree, a, "b", "other")
    closed(tree, b, "root")  # from the root by a to the other state, which is open
    assert [node.status for node in tree] == ["open"] * 4
    tree.close(other)
    assert [node.status for node in tree] == ["failed"] * 4


def test_a_dead_end_leaves_open_what_has_another_way():
    tree = Tree("root")
    a, b = closed(tree, tree.root, "a", "b")
    tree.close(a)
    assert (tree.root.status, a.status, b.status) == ("open", "failed", "open")
    tree.close(b)
    assert tree.root.status == "failed"


def test_a_likelier_way_is_handed_on_to_all_below_it_through_circles_too():
    tree = Tree("root")
    tree.record(tree.root, "dear", -8.0, "a")
    tree.record(tree.root, "cheap", -1.0, "b")
    a, b = tree.nodes["a"], tree.nodes["b"]
    (below,) = closed(tree, a, "below")
    tree.record(below, "back", 0.0, "a")
    assert below.log_prob == -9.0
    assert tree.record(b, "short cut", -1.0, "a") == [below]  # a itself is closed
    assert (a.log_prob, a.depth) == (-2.0, 2)
    assert (below.log_prob, below.depth) == (-3.0, 3)


def test_of_equally_likely_ways_the_shortest_counts():
    tree = Tree("root")
    (a,) = closed(tree, tree.root, "a")
    (b,) = closed(tree, a, "b")
    tree.record(b, "on", 0.0, "c")
    assert tree.nodes["c"].depth == 3
    assert tree.record(b, "straight", 0.0, "c") == []
    other = Tree("root")
    other.record(other.root, "one", -1.0, "a")
    other.record(other.root, "two", -1.0, "b")
    other.record(other.nodes["a"], "free", 0.0, "b")
    assert other.nodes["b"].depth == 1


def test_a_tactic_that_changes_nothing_leads_from_a_state_to_itself():
    tree = Tree("root")
    assert tree.record(tree.root, "skip", 0.0, "root") == []
    tree.close(tree.root)
    assert tree.root.status == "failed" and tree.root.depth == 0
    tree.check_invariants()


def test_errors_are_counted_by_kind():
    tree = Tree("root")
    assert tree.root.errors is None
    for kind in ("error", "timeout", "error"):
        tree.record_error(tree.root, kind)
    assert tree.root.errors == {"error": 2, "timeout": 1}


def test_impossible_tactics_are_handed_on_as_such():
    tree = Tree("root")
    tree.record(tree.root, "impossible", -math.inf, "a")
    tree.record(tree.nodes["a"], "on", -1.0, "b")
    assert tree.nodes["b"].log_prob == -math.inf
    tree.check_invariants()


@pytest.mark.parametrize("log_prob", [0.5, math.nan, math.inf])
def test_a_log_probability_above_zero_is_refused(log_prob):
    tree = Tree("root")
    for record in (
        lambda: tree.record(tree.root, "t", log_prob, "a"),
        lambda: tree.record_finished(tree.root, "t", log_prob),
    ):
        with pytest.raises(ValueError, match="at most 0"):
            record()
    assert len(tree) == 1 and not tree.root.edges


def test_nothing_is_recorded_for_a_closed_node():
    tree = Tree("root")
    tree.close(tree.root)
    with pytest.raises(ValueError, match="closed"):
        tree.record(tree.root, "late", -1.0, "a")
    with pytest.raises(ValueError, match="closed"):
        tree.record_error(tree.root, "error")


def test_ways_of_many_steps_need_no_deep_recursion():
    tree, node = Tree(0), None
    node = tree.root
    for i in range(1, 5_000):
        tree.record(node, "on", -1.0, i)
        tree.close(node)
        node = tree.nodes[i]
    tree.record(tree.root if not tree.root.is_closed else node, "round", -1.0, 0)
    tree.close(node)
    assert tree.root.status == "failed"
    tree.check_invariants()


DAMAGE = {
    "log_prob": lambda node: setattr(node, "log_prob", -0.25),
    "distance": lambda node: setattr(node, "distance", 7),
    "is_failed": lambda node: setattr(node, "is_failed", not node.is_failed),
    "number": lambda node: setattr(node, "number", 77),
    "parents": lambda node: node.parents.clear(),
    "edges": lambda node: node.parents[0].source.edges.clear(),
    "state": lambda node: setattr(node, "state", "other"),
    "depth": lambda node: setattr(node, "depth", 9),
}


@pytest.mark.parametrize(("damage", "is_finished"), list(product(DAMAGE, [False, True])))
def test_the_check_of_invariants_notices_every_field_that_is_wrong(damage, is_finished):
    tree = Tree("root")
    a, _ = closed(tree, tree.root, "a", "b")
    if is_finished:
        tree.record_finished(a, "done", -1.0)
    tree.check_invariants()
    DAMAGE[damage](a)
    with pytest.raises((AssertionError, KeyError)):
        tree.check_invariants()
