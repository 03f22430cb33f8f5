"""Best-first search over proof states, and searches that differ from it by what comes first."""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable

from generator.environments.base import ProofState
from generator.search.base import Search
from generator.search.options import SearchOptions
from generator.search.tree import Node


class BestFirstSearch(Search):
    """Tries the open state of the highest score first, each state once; of equal scores that which was found first.

    The score is the log-probability of the state's likeliest way from the root, divided by its length to the power of
    `length_penalty`. breadth_first puts depth before score.

    Sources: ReProver (arXiv:2306.15626); BFS-Prover for the power.
    """

    def __init__(self, state: ProofState, options: SearchOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """See `Search`."""
        super().__init__(state, options, clock)
        self._heap: list[tuple[float, float, int, Node[ProofState]]] = []  # depth or 0, -score, number
        self._num_tried = Counter[int]()  # by depth
        self._num_left_out = 0
        self._found(self.tree.root)

    def score(self, node: Node[ProofState]) -> float:
        """How promising a state is; higher is better."""
        return node.log_prob / float(max(node.depth, 1) ** self.options.length_penalty)

    def _found(self, node: Node[ProofState]) -> None:
        if not node.is_taken:
            first = node.depth if self.options.algorithm == "breadth_first" else 0
            heapq.heappush(self._heap, (first, -self.score(node), node.number, node))

    def _choose(self, at_most: int) -> list[Node[ProofState]]:
        goals: list[Node[ProofState]] = []
        while self._heap and len(goals) < at_most:
            *_, node = heapq.heappop(self._heap)
            if node.is_taken:  # it was found again by a likelier way, and tried then
                continue
            if not self._is_within_limits(node):
                self._num_left_out += 1
                continue
            self._take(node)
            self._num_tried[node.depth] += 1
            goals.append(node)
        return goals

    def _is_within_limits(self, node: Node[ProofState]) -> bool:
        max_depth, max_breadth = self.options.max_depth, self.options.max_breadth
        return (max_depth is None or node.depth < max_depth) and (
            max_breadth is None or self._num_tried[node.depth] < max_breadth
        )

    def _nothing_left(self) -> str:
        if self.status == "failed":
            return super()._nothing_left()
        return f"no tactic is left to try within max_depth and max_breadth, which left out {self._num_left_out} states"
