"""What the tree of a search promises, and that what it hands on step by step is what a look at the whole gives."""

import math
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generator.search.tree import Node, Tree

KINDS = ["state", "state", "state", "known", "known", "error", "finished", "close", "close"]


def event(number: int) -> tuple[int, str, int, float]:
    """A node, what happens to it, a state, and a log-probability; sums of quarters are exact."""
    number, kind = divmod(number, len(KINDS))
    number, quarters = divmod(number, 9)
    return number // 30, KINDS[kind], number % 30, -quarters / 4


EVENTS = st.lists(st.integers(0, 9 * 9 * 30 * 30).map(event), max_size=60)


def play(events):
    """The trees after each event; events that concern no open node are left out."""
    tree = Tree("s0")
    yield tree
    for i, (place, kind, number, log_prob) in enumerate(events):
        open_nodes = [node for node in tree if not node.is_closed]
        if not open_nodes:
            return
        node = open_nodes[place % len(open_nodes)]
        if kind == "state":
            tree.record(node, f"t{i}", log_prob, f"s{number % 12}")
        elif kind == "known":
            states = list(tree.nodes)
            tree.record(node, f"t{i}", log_prob, states[number % len(states)])
        elif kind == "error":
            tree.record_error(node, "error")
        elif kind == "finished":
            tree.record_finished(node, f"t{i}", log_prob)
        else:
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


@settings(max_examples=100, deadline=None)
@given(EVENTS)
def test_every_step_leaves_what_brute_force_over_the_whole_tree_gives(events):
    for tree in play(events):
        tree.check_invariants()
        assert facts_of(tree) == brute_force(tree)


@settings(max_examples=30, deadline=None)
@given(EVENTS)
def test_proved_stays_proved_and_failed_stays_failed(events):
    before = {}
    for tree in play(events):
        for node in tree:
            assert before.get(node, "open") in ("open", node.status)
            before[node] = node.status


@settings(max_examples=30, deadline=None)
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


@settings(max_examples=30, deadline=None)
@given(EVENTS)
def test_the_script_of_a_node_runs_through_the_states_in_which_each_was_found_first(events):
    for tree in play(events):
        pass
    for node in tree:
        at = tree.root
        for tactic in tree.script_to(node):
            (edge,) = [edge for edge in at.edges if edge.tactic == tactic]
            assert edge.target.parents[0] is edge
            at = edge.target
        assert at is node


@settings(max_examples=30, deadline=None)
@given(EVENTS)
def test_recording_returns_the_open_nodes_that_are_new_or_likelier_now(events):
    tree, known = Tree("s0"), {}
    for i, (place, _, number, log_prob) in enumerate(events):
        open_nodes = [node for node in tree if not node.is_closed]
        before = {node: (node.log_prob, -node.depth) for node in tree}
        source = open_nodes[place % len(open_nodes)]
        found = tree.record(source, f"t{i}", log_prob, f"s{number % 9}")
        after = {node: (node.log_prob, -node.depth) for node in tree}
        expected = {node for node in tree if not node.is_closed and after[node] > before.get(node, (-math.inf, 0))}
        assert set(found) == expected and len(found) == len(expected)
        if number % 3 == 0 and len(open_nodes) > 1:
            tree.close(source)
        known |= after


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
