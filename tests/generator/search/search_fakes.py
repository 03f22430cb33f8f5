"""A prover and a generator that are one graph of states, and a clock that a test moves."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from common import NO_GOALS
from generator.environments.base import ProofState, TacticError, Theorem
from generator.environments.scripted import ScriptedEnvironment
from generator.interface.wrappers import FixedTacticGenerator

THEOREM = Theorem("A.lean", "t", (3, 1))
Graph = Mapping[str, Mapping[str, tuple[float, Any]]]  # state -> tactic -> log-probability, result


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Prover(ScriptedEnvironment):
    """Plays a graph, and takes down what it is asked."""

    def __init__(self, graph: Graph, start: str = "start", on_call: Callable[[str], None] | None = None) -> None:
        tactics = {state: {tactic: result for tactic, (_, result) in row.items()} for state, row in graph.items()}
        super().__init__({"starts": {THEOREM.full_name: start}, "tactics": tactics})
        self.calls: list[tuple[str, str]] = []
        self.checks: list[tuple[str, ...]] = []
        self._on_call = on_call

    def run_tactic(self, state: ProofState, tactic: str) -> Any:
        self.calls.append((state.pp, tactic))
        if self._on_call is not None:
            self._on_call(tactic)
        return super().run_tactic(state, tactic)

    def check(self, theorem: Any, script: Any) -> Any:
        self.checks.append(tuple(script))
        num_calls = len(self.calls)
        verdict = super().check(theorem, script)
        del self.calls[num_calls:]
        return verdict


class Writer(FixedTacticGenerator):
    """Proposes the tactics of a graph, and takes down what it is asked."""

    def __init__(self, graph: Graph) -> None:
        super().__init__({state: [(tactic, each[0]) for tactic, each in row.items()] for state, row in graph.items()})
        self.asked: list[list[str]] = []
        self.contexts: list[Any] = []

    def propose(self, contexts: Any, num_candidates: int) -> Any:
        self.asked.append([context.state for context in contexts])
        self.contexts += contexts
        return super().propose(contexts, num_candidates)


def random_graph(seed: int, num_states: int = 8, num_tactics: int = 4) -> dict[str, dict[str, tuple[float, Any]]]:
    """Tactics that lead on, back, nowhere or to the end; log-probabilities are quarters, whose sums are exact."""
    rng = random.Random(seed)
    names = ["start", *(f"s{i}" for i in range(1, num_states))]
    graph: dict[str, dict[str, tuple[float, Any]]] = {}
    for name in names:
        row: dict[str, tuple[float, Any]] = {}
        for i in range(rng.randint(0, num_tactics)):
            result = rng.choices([rng.choice(names), TacticError("no"), NO_GOALS], [6, 3, 0.6])[0]
            row[f"{name}.{i}"] = (-rng.randint(0, 12) / 4, result)
        graph[name] = row
    return graph
