"""What a search is given: its order, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from common import ConfigError, check_choice, check_positive

Algorithm: TypeAlias = Literal["best_first", "breadth_first", "rollouts"]


@dataclass(frozen=True)
class SearchOptions:
    """How a proof is searched.

    Attributes:
        algorithm: best_first tries the states first whose tactics from the start are likeliest; breadth_first level by
            level, in each the likeliest first; rollouts draws whole proofs, tactic by tactic, until one is right
        num_candidates: tactics asked for in each state
        max_expansions: states whose tactics are tried, at most; null for no limit
        max_seconds: of one theorem's search, its start in the prover not counted; null for no limit
        max_calls: tactics run by the prover, at most; null for no limit
        batch_size: states whose tactics are asked for together; rollouts: proofs drawn side by side
        length_penalty: a state is worth its log-probability divided by the length of its proof so far to this power;
            0 is the plain sum, and above 0 favours long proofs (BFS-Prover)
        max_depth: tactics of a proof, at most; null for no limit
        max_breadth: states tried at each depth, at most, the first that are reached; null for no limit. With
            breadth_first this is a beam search
        temperature: of the draws of rollouts: 0 takes the likeliest tactic, high values draw each equally often
        num_rollouts: proofs drawn at most; null for no limit
        seed: of what is drawn: by rollouts, and by the command where theorems or tactics are drawn
    """

    algorithm: Algorithm = "best_first"
    num_candidates: int = 64
    max_expansions: int | None = None
    max_seconds: float | None = 600.0
    max_calls: int | None = None
    batch_size: int = 1
    length_penalty: float = 0.0
    max_depth: int | None = None
    max_breadth: int | None = None
    temperature: float = 1.0
    num_rollouts: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("algorithm", self.algorithm, get_args(Algorithm))
        check_positive(
            num_candidates=self.num_candidates,
            max_expansions=self.max_expansions,
            max_seconds=self.max_seconds,
            max_calls=self.max_calls,
            batch_size=self.batch_size,
            max_depth=self.max_depth,
            max_breadth=self.max_breadth,
            num_rollouts=self.num_rollouts,
        )
        for name in ("length_penalty", "temperature"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least 0")
        if self.max_expansions is None and self.max_seconds is None and self.max_calls is None:
            raise ConfigError("a search needs a limit: give max_expansions, max_seconds or max_calls")
