"""The states that a search has found, what leads from one to another, and what is known of each."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, Literal, TypeAlias, TypeVar

Status: TypeAlias = Literal["open", "proved", "failed"]
S = TypeVar("S", bound=Hashable)


class Edge(Generic[S]):
    """A tactic that worked.

    Attributes:
        source: where it was run
        tactic: its text
        log_prob: of the tactic alone
        target: the state that it gave; None where it finished the proof
    """

    __slots__ = ("source", "tactic", "log_prob", "target")

    def __init__(self, source: Node[S], tactic: str, log_prob: float, target: Node[S] | None) -> None:
        self.source, self.tactic, self.log_prob, self.target = source, tactic, log_prob, target


class Node(Generic[S]):
    """A state, once, however many ways lead to it.

    Attributes:
        state: as it was found first
        number: in the order in which nodes were found, from 0
        log_prob: sum of the tactics' log-probabilities on the likeliest way from the root
        depth: tactics on that way; the shortest of equally likely ones
        distance: tactics of the shortest known proof of this state; inf without one
        edges: tactics that worked here
        parents: tactics that led here; the first one found it
        errors: tactics that failed here, by kind; None before the first
        is_taken: whether a search has asked for its tactics
        is_closed: whether all its tactics have been recorded
        is_failed: whether it is unproved, and no node that can be reached from it is open
    """

    __slots__ = (
        "state",
        "number",
        "log_prob",
        "depth",
        "distance",
        "edges",
        "parents",
        "errors",
        "is_taken",
        "is_closed",
        "is_failed",
        "_support",
    )

    def __init__(self, state: S, number: int, log_prob: float, depth: int) -> None:
        self.state, self.number, self.log_prob, self.depth = state, number, log_prob, depth
        self.distance = math.inf
        self.edges: list[Edge[S]] = []
        self.parents: list[Edge[S]] = []
        self.errors: dict[str, int] | None = None
        self.is_taken = self.is_closed = self.is_failed = False
        self._support: Node[S] | None = None  # of a closed, undecided node: a child that leads to an open node

    @property
    def status(self) -> Status:
        """Whether it is proved, failed, or neither."""
        return "proved" if self.distance < math.inf else "failed" if self.is_failed else "open"


class Tree(Generic[S]):
    """Nodes by state, from a root. States that are equal are one node, and so cycles may come about.

    Attributes:
        root: where the proof begins
        nodes: by state, in the order in which they were found
        num_finished: tactics that finished the proof
    """

    def __init__(self, state: S) -> None:
        self.root: Node[S] = Node(state, 0, 0.0, 0)
        self.nodes: dict[S, Node[S]] = {state: self.root}
        self.num_finished = 0

    def __len__(self) -> int:
        return len(self.nodes)

    def __iter__(self) -> Iterator[Node[S]]:
        return iter(self.nodes.values())

    def record(self, source: Node[S], tactic: str, log_prob: float, state: S) -> list[Node[S]]:
        """Add a tactic that gave a state.

        Args:
            source: where it was run; not closed yet
            tactic: its text
            log_prob: its log-probability, at most 0
            state: what it gave

        Returns:
            The nodes that are not closed and are new, or now have a likelier way from the root.
        """
        _check(source, log_prob)
        number = len(self.nodes)
        target = Node(state, number, source.log_prob + log_prob, source.depth + 1)
        target = self.nodes.setdefault(state, target)  # hashed once
        edge = Edge(source, tactic, log_prob, target)
        source.edges.append(edge)
        target.parents.append(edge)
        if target.number == number:
            return [target]
        if target.distance < math.inf:
            self._shorten(source, target.distance + 1)
        return self._improve(edge)

    def record_finished(self, source: Node[S], tactic: str, log_prob: float) -> None:
        """Add a tactic that finished the proof; see `record`."""
        _check(source, log_prob)
        source.edges.append(Edge(source, tactic, log_prob, None))
        self.num_finished += 1
        self._shorten(source, 1)

    def record_error(self, source: Node[S], kind: str) -> None:
        """Count a tactic that failed."""
        _check(source, 0.0)
        if source.errors is None:
            source.errors = {}
        source.errors[kind] = source.errors.get(kind, 0) + 1

    def close(self, node: Node[S]) -> None:
        """Say that all tactics of a node have been recorded; it, and what hung on it alone, may now have failed."""
        if node.is_closed:
            return
        node.is_taken = node.is_closed = True
        if node.distance == math.inf:
            self._fail_without_support(node)

    def way_to(self, node: Node[S]) -> list[tuple[S, str]]:
        """Return states and tactics by which the very state of a node was found, which may be run again so."""
        way = []
        while node.parents and node is not self.root:
            edge = node.parents[0]
            way.append((edge.source.state, edge.tactic))
            node = edge.source
        return way[::-1]

    def proof(self) -> list[Edge[S]] | None:
        """Return the shortest known way from the root to the end of the proof; None without one."""
        if self.root.distance == math.inf:
            return None
        path, node = list[Edge[S]](), self.root
        while True:
            path.append(min(node.edges, key=_distance_by))
            following = path[-1].target
            if following is None:
                return path
            node = following

    def _improve(self, edge: Edge[S]) -> list[Node[S]]:
        """Hand a likelier way on to all that can be reached by it; return the nodes that are not closed."""
        improved = dict[Node[S], None]()
        edges = deque([edge])
        while edges:
            edge = edges.popleft()
            source, target = edge.source, edge.target
            if target is None or target is self.root:
                continue
            log_prob, depth = source.log_prob + edge.log_prob, source.depth + 1
            if log_prob > target.log_prob or (log_prob == target.log_prob and depth < target.depth):
                target.log_prob, target.depth = log_prob, depth
                edges.extend(target.edges)
                if not target.is_closed:
                    improved[target] = None
        return list(improved)

    def _shorten(self, node: Node[S], distance: float) -> None:
        """Hand a shorter proof of a node on to all that lead to it."""
        nodes = deque([(node, distance)])
        while nodes:
            node, distance = nodes.popleft()
            if distance < node.distance:
                node.distance = distance
                nodes.extend((edge.source, distance + 1) for edge in node.parents)

    def _fail_without_support(self, node: Node[S]) -> None:
        """Find each node another way to an open one, of those that lost theirs when `node` was closed, or fail it.

        A node keeps one child that leads to an open node, so that a dead end is known to concern those alone that
        counted on it: usually its parent, which has another child.
        """
        unsupported, queue = {node: None}, deque([node])
        while queue:
            node = queue.popleft()
            if node not in unsupported:
                continue
            parents = [edge.source for edge in node.parents]
            node._support = _find_support(node, unsupported)
            if node._support is not None:
                del unsupported[node]
                queue.extend(unsupported)  # any may lead to it, by what counts on it
                continue
            for parent in parents:
                if parent._support is node and parent.distance == math.inf and parent not in unsupported:
                    unsupported[parent] = None
                    queue.append(parent)
        for node in unsupported:
            node.is_failed = True

    def check_invariants(self) -> None:
        """Raise AssertionError unless all that is handed on step by step is what a look at the whole tree gives."""
        nodes = list(self)
        assert [node.number for node in nodes] == list(range(len(nodes))), "nodes are numbered as they were found"
        for node in nodes:
            assert self.nodes[node.state] is node, "a state has one node"
            assert all(e.source is node and (e.target is None or e in e.target.parents) for e in node.edges)
            assert node is self.root or node.parents, "each node but the root was found by a tactic"
            assert all(edge in edge.source.edges for edge in node.parents)
            ways = [(e.source.log_prob + e.log_prob, -e.source.depth - 1) for e in node.parents]
            log_prob, depth = (0.0, 0) if node is self.root else max(ways)
            assert node.log_prob == log_prob, "the way from the root is the likeliest"
            assert node.depth <= -depth, "of the likeliest ways the shortest, but for what rounding makes equal"
        distances = _distances(nodes)
        alive = _reaching_open(nodes)
        for node in nodes:
            assert node.distance == distances.get(node, math.inf), "the distance is that of the shortest proof"
            assert node.is_failed == (node.distance == math.inf and node not in alive), "failed without open nodes"


def _check(source: Node[S], log_prob: float) -> None:
    if source.is_closed:
        raise ValueError("the node is closed: all its tactics have been recorded")
    if not log_prob <= 0:
        raise ValueError(f"log_prob is {log_prob}; it must be at most 0")


def _distance_by(edge: Edge[S]) -> float:
    return 0 if edge.target is None else edge.target.distance


def _find_support(node: Node[S], unsupported: dict[Node[S], None]) -> Node[S] | None:
    """A child from which a chain of supports ends at an open node and meets no unsupported one."""
    for edge in node.edges:
        child = following = edge.target
        while following is not None and following.is_closed and not following.is_failed:
            following = None if following in unsupported else following._support
        if following is not None and not following.is_failed:
            return child
    return None


def _distances(nodes: list[Node[S]]) -> dict[Node[S], int]:
    """Length of the shortest proof of each node that has one."""
    layer = [node for node in nodes if any(edge.target is None for edge in node.edges)]
    found: dict[Node[S], int] = {}
    for distance in range(1, len(nodes) + 1):
        layer = [node for node in dict.fromkeys(layer) if node not in found]
        found |= dict.fromkeys(layer, distance)
        layer = [edge.source for node in layer for edge in node.parents]
    return found


def _reaching_open(nodes: list[Node[S]]) -> set[Node[S]]:
    """The nodes from which one that is not closed can be reached."""
    stack = [node for node in nodes if not node.is_closed]
    found = set(stack)
    while stack:
        for edge in stack.pop().parents:
            if edge.source not in found:
                found.add(edge.source)
                stack.append(edge.source)
    return found
