"""What every search is to the loop that runs it: goals to ask about, tactics to run, a place for what came of them."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from common import Candidate
from generator.environments.base import ProofFinished, ProofState, TacticError, TacticResult
from generator.search.options import SearchOptions
from generator.search.tree import Node, Status, Tree


class Search(ABC):
    """The order of a search and its limits. It asks no model and runs no prover.

    The loop asks for `next_goals` until there are none. For each it takes `candidates_of`, or asks the generator, runs
    those that `select` leaves while `may_run`, hands each result to `record`, and calls `close` after the last.

    Attributes:
        tree: what was found so far
        options: order and limits
        num_expansions: states whose tactics were tried
        num_calls: tactics that the prover ran
        reason: why there are no further goals; empty while there may be some
    """

    def __init__(self, state: ProofState, options: SearchOptions, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin at a state; the time limit counts from here.

        Args:
            state: in which the proof begins
            options: order and limits
            clock: seconds
        """
        self.tree: Tree[ProofState] = Tree(state)
        self.options = options
        self.num_expansions = self.num_calls = 0
        self.reason = ""
        self._clock = clock
        self._deadline = None if options.max_seconds is None else clock() + options.max_seconds

    @property
    def status(self) -> Status:
        """Whether the theorem is proved; failed: nothing is left to try; open: a limit ended the search."""
        return self.tree.root.status

    def next_goals(self) -> list[Node[ProofState]]:
        """Return the states to ask about next, together; none when the search is over."""
        if self.status == "proved":
            self.reason = "proved"
        elif not self.reason:
            self.reason = self._limit_reached()
        if self.reason:
            return []
        goals = self._choose(self._room())
        if not goals:
            self.reason = self._nothing_left()
        return goals

    def candidates_of(self, node: Node[ProofState]) -> Sequence[Candidate] | None:
        """Return a state's candidates if they were asked for before."""
        return None

    def select(self, node: Node[ProofState], candidates: Sequence[Candidate]) -> Sequence[Candidate]:
        """Return the candidates to run, in their order, each once."""
        once: dict[str, Candidate] = {}
        for candidate in candidates:
            once.setdefault(candidate[0], candidate)
        return list(once.values())

    def may_run(self) -> bool:
        """Whether the limits allow another tactic to be run, and the theorem is not proved yet."""
        max_calls = self.options.max_calls
        return (
            not self.tree.num_finished
            and (max_calls is None or self.num_calls < max_calls)
            and (self._deadline is None or self._clock() < self._deadline)
        )

    def record(self, node: Node[ProofState], tactic: str, log_prob: float, result: TacticResult) -> None:
        """Take down what a tactic gave. A proof counts whenever it comes, after the deadline too."""
        self.num_calls += 1
        if isinstance(result, TacticError):
            self.tree.record_error(node, result.kind)
        elif isinstance(result, ProofFinished):
            self.tree.record_finished(node, tactic, log_prob)
        else:
            for improved in self.tree.record(node, tactic, log_prob, result):
                self._found(improved)

    def close(self, node: Node[ProofState]) -> None:
        """Say that all tactics that were selected for a node have been recorded; not said where a limit cut in."""
        self.tree.close(node)

    @abstractmethod
    def _choose(self, at_most: int) -> list[Node[ProofState]]:
        """Return the next states, no more than a number; none when nothing is left."""

    @abstractmethod
    def _found(self, node: Node[ProofState]) -> None:
        """Hear of a state that is new, or has a likelier way from the root."""

    def _take(self, node: Node[ProofState]) -> None:
        """Count a state whose candidates are asked for."""
        node.is_taken = True
        self.num_expansions += 1

    def _room(self) -> int:
        """States that may be asked about together now."""
        limit = self.options.max_expansions
        return self.options.batch_size if limit is None else min(self.options.batch_size, limit - self.num_expansions)

    def _limit_reached(self) -> str:
        options = self.options
        if self._room() <= 0:
            return f"max_expansions {options.max_expansions} reached"
        if options.max_calls is not None and self.num_calls >= options.max_calls:
            return f"max_calls {options.max_calls} reached"
        if self._deadline is not None and self._clock() >= self._deadline:
            return f"max_seconds {options.max_seconds:g} reached"
        return ""

    def _nothing_left(self) -> str:
        """Why there are no further states."""
        return "no tactic is left to try" if self.num_calls else "the generator proposes no tactic"
