"""One theorem's search: joins a search to a generator of tactics and to a prover."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from common import Candidate, ConfigError, DataError
from generator.environments.base import (
    BrokenEnvironmentError,
    CannotStartError,
    Environment,
    ProofFinished,
    ProofState,
    Statement,
    TacticError,
    TacticResult,
    Theorem,
)
from generator.interface.tactic_generator import TacticGenerator
from generator.search.base import Search
from generator.search.best_first import BestFirstSearch
from generator.search.options import SearchOptions
from generator.search.rollouts import Rollouts
from generator.search.tree import Node
from retrieval.training.shown import shown

Outcome: TypeAlias = Literal["proved", "failed", "open", "discarded"]
Clock: TypeAlias = Callable[[], float]
MAX_ROUNDING = 1e-3  # above 0, of a log-probability that a model computed in few digits


@dataclass(frozen=True)
class SearchResult:
    """What came of one theorem's search.

    Attributes:
        theorem: what was to be proved
        status: "proved", and the prover has accepted the whole proof from nothing; "failed": nothing is left to try;
            "open": a limit ended the search; "discarded": it could not be searched
        reason: why the search ended
        proof: its tactics, if it is proved
        proof_states: the state before each of them, as the search saw it
        num_expansions: states whose tactics were asked for
        num_calls: tactics that the prover ran
        num_states: different states found, the first one included
        num_cache_hits: expansions that the generator answered from memory, as far as it counts them
        model_s: seconds spent waiting for the generator
        environment_s: seconds spent in the prover, its start and the check of the whole proof included
        total_s: seconds in all
        start_s: of these, seconds in which the prover came to stand at the theorem
        check_s: of these, seconds in which it accepted the whole proof from nothing
        errors: tactics that failed, by kind
    """

    theorem: Theorem | Statement
    status: Outcome
    reason: str = ""
    proof: tuple[str, ...] | None = None
    proof_states: tuple[str, ...] = ()
    num_expansions: int = 0
    num_calls: int = 0
    num_states: int = 0
    num_cache_hits: int = 0
    model_s: float = 0.0
    environment_s: float = 0.0
    total_s: float = 0.0
    start_s: float = 0.0
    check_s: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def search_s(self) -> float:
        """Seconds of the search itself, which `max_seconds` limits: to the proof, or to its end without one."""
        return self.total_s - self.start_s - self.check_s


def prove(
    theorem: Theorem | Statement,
    environment: Environment,
    generator: TacticGenerator,
    options: SearchOptions | None = None,
    *,
    observer: Callable[[Search], None] | None = None,
    clock: Clock = time.monotonic,
) -> SearchResult:
    """Search a proof of a theorem. A proof counts when the prover accepts it as a whole, started from nothing.

    A theorem that cannot be searched is discarded with the reason: the prover does not start it or breaks, or the
    generator refuses it with a DataError. Other errors of the generator are raised.

    Args:
        theorem: what is to be proved
        environment: a prover, used by nobody else at the time
        generator: proposes tactics
        options: order and limits
        observer: is called after each round of tactics, and at the end; its `tree` may be drawn
        clock: seconds
    """
    return _Proving(theorem, environment, generator, options or SearchOptions(), observer, clock).run()


class _Proving:
    """A search under way, and what it has taken."""

    def __init__(
        self,
        theorem: Theorem | Statement,
        environment: Environment,
        generator: TacticGenerator,
        options: SearchOptions,
        observer: Callable[[Search], None] | None,
        clock: Clock,
    ) -> None:
        self._theorem, self._environment, self._generator = theorem, environment, generator
        self._options, self._observer, self._clock = options, observer, clock
        self._search: Search | None = None
        self._proof: tuple[str, ...] | None = None
        self._proof_states: tuple[str, ...] = ()
        self._start_s = self._check_s = 0.0
        self._refusals: list[str] = []
        self._errors = Counter[str]()
        self._seconds = Counter[str]()

    def run(self) -> SearchResult:
        start, hits = self._clock(), _num_hits(self._generator)
        try:
            status, reason = self._run()
        except (CannotStartError, BrokenEnvironmentError, DataError) as error:
            status, reason = "discarded", str(error) or type(error).__name__
        search = self._search
        return SearchResult(
            self._theorem,
            status,
            reason,
            self._proof if status == "proved" else None,
            self._proof_states if status == "proved" else (),
            num_expansions=search.num_expansions if search else 0,
            num_calls=search.num_calls if search else 0,
            num_states=len(search.tree) if search else 0,
            num_cache_hits=_num_hits(self._generator) - hits,
            model_s=self._seconds["model"],
            environment_s=self._seconds["environment"],
            total_s=self._clock() - start,
            start_s=self._start_s,
            check_s=self._check_s,
            errors=dict(self._errors),
        )

    def _run(self) -> tuple[Outcome, str]:
        begin = self._clock()
        with self._timed("environment"):
            state = self._environment.start(self._theorem)
        self._start_s = self._clock() - begin
        search = self._search = new_search(state, self._options, self._clock)
        while goals := search.next_goals():
            new = [goal for goal in goals if search.candidates_of(goal) is None]
            asked = dict(zip(new, self._ask([goal.state.pp for goal in new]) if new else [], strict=True))
            for goal in goals:
                known = search.candidates_of(goal)
                self._expand(search, goal, asked[goal] if known is None else known)
            self._observe(search)
        self._observe(search)
        reason = search.reason
        if self._refusals:
            reason += f"; {len(self._refusals)} found but refused as a whole, the first: {self._refusals[0]}"
        return search.status, reason

    def _ask(self, states: Sequence[str]) -> list[list[Candidate]]:
        """Candidates of each state, asked for as provers do."""
        file_path, name, position = _place(self._theorem)
        number = len(states)
        with self._timed("model"):
            found = self._generator.batch_generate(
                states, [file_path] * number, [name] * number, [position] * number, self._options.num_candidates
            )
        return [[(tactic, self._checked_log_prob(tactic, log_prob)) for tactic, log_prob in row] for row in found]

    def _checked_log_prob(self, tactic: str, log_prob: float) -> float:
        if not log_prob <= MAX_ROUNDING:
            raise ConfigError(
                f"{type(self._generator).__name__} gives the tactic {shown(tactic)!r} the log-probability {log_prob}; "
                "search needs one that is at most 0"
            )
        return min(log_prob, 0.0)

    def _expand(self, search: Search, node: Node[ProofState], candidates: Sequence[Candidate]) -> None:
        for tactic, log_prob in search.select(node, candidates):
            if not search.may_run():
                return
            with self._timed("environment"):
                result = self._environment.run_tactic(node.state, tactic)
                if isinstance(result, ProofFinished):
                    result = self._checked([*search.tree.way_to(node), (node.state, tactic)], result)
            if isinstance(result, TacticError):
                self._errors[result.kind] += 1
            search.record(node, tactic, log_prob, result)
        search.close(node)

    def _checked(self, steps: Sequence[tuple[ProofState, str]], finished: ProofFinished) -> TacticResult:
        """The finished proof if the prover accepts the whole of it from nothing, else an error of its last tactic."""
        script, begin = tuple(tactic for _, tactic in steps), self._clock()
        verdict = self._environment.check(self._theorem, script)
        if verdict.accepted:
            self._proof, self._proof_states = script, tuple(state.pp for state, _ in steps)
            self._check_s = self._clock() - begin
            return finished
        self._refusals.append(verdict.message)
        return TacticError(verdict.message, "refused")

    def _observe(self, search: Search) -> None:
        if self._observer is not None:
            self._observer(search)

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = self._clock()
        try:
            yield
        finally:
            self._seconds[what] += self._clock() - start  # type: ignore[assignment]


def new_search(state: ProofState, options: SearchOptions, clock: Clock = time.monotonic) -> Search:
    """Return the search that the options name."""
    kind = Rollouts if options.algorithm == "rollouts" else BestFirstSearch
    return kind(state, options, clock)


def _place(theorem: Theorem | Statement) -> tuple[str, str, Any]:
    """File, name and position by which generators that retrieve know what may be cited."""
    if isinstance(theorem, Statement):
        return "", theorem.name, None
    return theorem.file_path, theorem.full_name, theorem.start


def _num_hits(generator: TacticGenerator) -> int:
    """Requests that the generator has answered from memory."""
    return int(getattr(generator, "hits", 0))
