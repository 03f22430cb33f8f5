"""Search by drawing whole proofs, tactic by tactic, until one of them is right."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from common import Candidate
from generator.environments.base import ProofState, TacticResult
from generator.search.base import Search
from generator.search.options import SearchOptions
from generator.search.tree import Edge, Node

MAX_DEPTH = 100  # of a drawn proof, where no limit is given
MAX_IDLE = 1_000  # drawn proofs in a row that ran no tactic that is new


class _Choices:
    """The tactics of a state, and what those that were run gave: an edge, or None where they failed."""

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self.candidates = candidates
        self.edges: dict[str, Edge[ProofState] | None] = {}


@dataclass(eq=False)
class _Draw:
    """A proof that is being drawn: the states on its way, and the tactic that is to be run in the last of them."""

    path: list[Node[ProofState]]
    tactic: str | None = None
    has_news: bool = False  # whether it ran a tactic that had not been run before


class Rollouts(Search):
    """Draws whole proofs: in each state one of the candidates, with their probabilities to the power 1 / temperature.

    A drawn proof ends at a tactic that fails, and another one begins at the root. What was run once is not run again:
    its result is looked up, and tactics that are known to lead nowhere, or back to where the proof came from, are not
    drawn.

    Attributes:
        num_rollouts: proofs that were drawn or begun

    Source: Rango, which draws each tactic from the model itself.
    """

    def __init__(self, state: ProofState, options: SearchOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """See `Search`."""
        super().__init__(state, options, clock)
        self.num_rollouts = 0
        self._rng = random.Random(options.seed)
        self._choices: dict[Node[ProofState], _Choices] = {}
        self._draws: list[_Draw] = []
        self._num_idle = 0

    def candidates_of(self, node: Node[ProofState]) -> Sequence[Candidate] | None:
        """See `Search.candidates_of`."""
        choices = self._choices.get(node)
        return None if choices is None else choices.candidates

    def select(self, node: Node[ProofState], candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return what has been drawn in a state, and not been run."""
        choices = self._choices.get(node)
        if choices is None:
            choices = self._choices[node] = _Choices(super().select(node, candidates))
            for draw in self._standing_at(node):
                draw.tactic = self._drawn(draw, choices)
        wanted = {draw.tactic for draw in self._standing_at(node)}
        return [each for each in choices.candidates if each[0] in wanted and each[0] not in choices.edges]

    def record(self, node: Node[ProofState], tactic: str, log_prob: float, result: TacticResult) -> None:
        """See `Search.record`; drawn proofs that wait for the result go on with it or end."""
        num_edges = len(node.edges)
        super().record(node, tactic, log_prob, result)
        edge = node.edges[-1] if len(node.edges) > num_edges else None
        self._choices[node].edges[tactic] = edge
        for draw in self._standing_at(node):
            if draw.tactic == tactic:
                draw.has_news = True
                self._follow(draw, edge)

    def close(self, node: Node[ProofState]) -> None:
        """A state is done with when all its candidates have been run."""
        choices = self._choices[node]
        if len(choices.edges) == len(choices.candidates):
            super().close(node)

    def _found(self, node: Node[ProofState]) -> None:
        """Nothing: a drawn proof goes from state to state by itself."""

    def _choose(self, at_most: int) -> list[Node[ProofState]]:
        waiting = [draw for draw in self._draws if self._is_waiting(draw)]
        while len(waiting) < self.options.batch_size and self._may_begin():
            draw = _Draw([self.tree.root])
            self._draws.append(draw)
            self.num_rollouts += 1
            if self._is_waiting(draw):
                waiting.append(draw)
        goals = dict.fromkeys(draw.path[-1] for draw in waiting)
        new = [node for node in goals if not node.is_taken]
        for node in new[:at_most]:
            self._take(node)
        return [node for node in goals if node.is_taken]

    def _may_begin(self) -> bool:
        limit = self.options.num_rollouts
        return (limit is None or self.num_rollouts < limit) and self._num_idle < MAX_IDLE and self.status == "open"

    def _is_waiting(self, draw: _Draw) -> bool:
        """Let a drawn proof go as far as results are known; whether it then needs the model or the prover."""
        while draw in self._draws:
            choices = self._choices.get(draw.path[-1])
            if choices is None:
                return True
            if draw.tactic is None:
                draw.tactic = self._drawn(draw, choices)
            if draw.tactic is None:
                self._follow(draw, None)
            elif draw.tactic in choices.edges:
                self._follow(draw, choices.edges[draw.tactic])
            else:
                return True
        return False

    def _follow(self, draw: _Draw, edge: Edge[ProofState] | None) -> None:
        """Let a drawn proof go on where a tactic led, or end."""
        if edge is not None and edge.target is not None and len(draw.path) < (self.options.max_depth or MAX_DEPTH):
            draw.path.append(edge.target)
            draw.tactic = None
        else:
            self._draws.remove(draw)
            self._num_idle = 0 if draw.has_news else self._num_idle + 1

    def _standing_at(self, node: Node[ProofState]) -> list[_Draw]:
        return [draw for draw in self._draws if draw.path[-1] is node]

    def _drawn(self, draw: _Draw, choices: _Choices) -> str | None:
        """Draw a tactic of the state in which a proof stands; None if none is left."""
        left = [each for each in choices.candidates if self._may_lead_on(draw, choices, each[0])]
        if not left:
            return None
        best = max(log_prob for _, log_prob in left)
        temperature = self.options.temperature
        if temperature == 0 or best == -math.inf:
            return next(tactic for tactic, log_prob in left if log_prob == best)
        weights = [math.exp((log_prob - best) / temperature) for _, log_prob in left]
        return self._rng.choices([tactic for tactic, _ in left], weights)[0]

    def _may_lead_on(self, draw: _Draw, choices: _Choices, tactic: str) -> bool:
        if tactic not in choices.edges:
            return True
        edge = choices.edges[tactic]
        if edge is None or edge.target is None:
            return edge is not None
        return not edge.target.is_failed and edge.target not in draw.path

    def _nothing_left(self) -> str:
        if self.status == "failed":
            return super()._nothing_left()
        if self._num_idle >= MAX_IDLE:
            return f"the last {MAX_IDLE:,} drawn proofs tried nothing new"
        return f"num_rollouts {self.options.num_rollouts} reached"
