"""The synthesizer: asks a writer for programs, and a checker of each, until one holds or a budget is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, Protocol

from common import Candidate, check_positive
from generator.domains.base import Verdict
from generator.domains.writers import RankedWriter, Writer
from generator.interface.tactic_generator import TacticGenerator

MAX_BUDGET = 1_000_000

Ending = Literal["solved", "budget", "no_more", "repeats"]


class Checker(Protocol):
    """What judges proposals: a domain, or anything with this method."""

    def check_all(self, pairs: Sequence[tuple[str, str]]) -> list[Verdict]:
        """Judge several proposals, each a specification and a program."""
        ...


@dataclass(frozen=True, slots=True)
class Try:
    """A proposal and what became of it.

    Attributes:
        program: text that was proposed
        log_prob: of proposing it
        verdict: of the checker; of a repeat that of the first time, at no cost
        num_samples: what had been charged to the budget with it
        is_repeat: whether it was proposed before
    """

    program: str
    log_prob: float
    verdict: Verdict
    num_samples: int
    is_repeat: bool


@dataclass
class Outcome:
    """How the search for one specification went.

    Attributes:
        spec: that programs were asked for
        tries: all proposals that were looked at, in their order
        num_samples: proposals that were charged, up to the first that holds; all where none does
        program: the first that holds
        ending: "solved"; "budget" is spent; "no_more": the writer has none; "repeats": it has nothing new
        seconds_writing: share of the time that the writer took
    """

    spec: str
    tries: list[Try] = field(default_factory=list)
    num_samples: int = 0
    program: str | None = None
    ending: Ending = "budget"
    seconds_writing: float = 0.0

    @property
    def is_solved(self) -> bool:
        """Whether a program holds."""
        return self.program is not None

    @property
    def solved_at(self) -> int | None:
        """The budget from which on it is solved, which counts from 1."""
        return self.num_samples if self.is_solved else None

    @property
    def seconds_checking(self) -> float:
        """Time that the checker took."""
        return sum(each.verdict.seconds for each in self.tries if not each.is_repeat)


class Synthesizer:
    """Solves specifications within a budget of proposals.

    >>> from generator.domains import make_domain
    >>> from generator.interface.wrappers import FixedTacticGenerator
    >>> writer = FixedTacticGenerator(["[9]", "[0,0,1,1]", "[0,1,0,1]"])
    >>> outcome = Synthesizer(writer, make_domain("rectangle"), budget=20)("[01+10+55-]")
    >>> outcome.program, outcome.num_samples, [each.verdict.kind for each in outcome.tries]
    ('[0,1,0,1]', 3, ['malformed', 'rejected', 'verified'])
    """

    def __init__(
        self,
        writer: Writer | TacticGenerator,
        checker: Checker,
        budget: int,
        *,
        batch_size: int = 32,
        charge_repeats: bool = True,
        stop_at_first: bool = True,
        max_repeats: int = 1000,
        group_size: int = 128,
    ) -> None:
        """Keep the settings.

        Args:
            writer: proposes; of a tactic generator its best candidates, as many as the budget allows
            checker: judges
            budget: proposals for a specification, at most
            batch_size: proposals that are asked for at a time; what is solved, and when, does not depend on it
            charge_repeats: whether a text that was proposed before counts
            stop_at_first: False looks at the whole budget, for Pass@k from all of it
            max_repeats: where they are not charged, this many in a row end a search
            group_size: specifications that are worked on together

        Raises:
            ConfigError: if a number is below 1, or the budget over a million
        """
        check_positive(MAX_BUDGET, budget=budget)
        check_positive(batch_size=batch_size, max_repeats=max_repeats, group_size=group_size)
        self.writer = writer if isinstance(writer, Writer) else RankedWriter(writer, budget)
        self.checker, self.budget = checker, budget
        self.batch_size, self.charge_repeats, self.stop_at_first = batch_size, charge_repeats, stop_at_first
        self.max_repeats, self.group_size = max_repeats, group_size

    def __call__(self, spec: str) -> Outcome:
        """Solve one specification."""
        return next(self.solve([spec]))

    def solve(self, specs: Sequence[str]) -> Iterator[Outcome]:
        """Yield the outcome of each specification, in their order."""
        starts = range(0, len(specs), self.group_size)
        return chain.from_iterable(self._group(specs[start : start + self.group_size]) for start in starts)

    def _group(self, specs: Sequence[str]) -> list[Outcome]:
        searches = [_Search(Outcome(spec), self) for spec in specs]
        first = 0
        while going := [search for search in searches if not search.is_over]:
            num_left = self.budget - first if self.charge_repeats else self.batch_size
            count = min(self.batch_size, num_left)
            start = time.perf_counter()
            found = self.writer.propose([search.outcome.spec for search in going], first, count)
            seconds = (time.perf_counter() - start) / len(going)
            for search, proposals in zip(going, found, strict=True):
                search.outcome.seconds_writing += seconds
                search.receive(proposals[:count], is_last=len(proposals) < count)
            ahead = self._judge_ahead(going)
            while pairs := [(search, program) for search in going if (program := search.next_unknown()) is not None]:
                verdicts = self._judge([(search.outcome.spec, program) for search, program in pairs], ahead)
                for (search, program), verdict in zip(pairs, verdicts, strict=True):
                    search.learn(program, verdict)
            first += count
        return [search.outcome for search in searches]

    def _judge_ahead(self, searches: Sequence[_Search]) -> dict[tuple[str, str], Verdict]:
        """Verdicts of all that waits, where the whole budget is looked at: a checker in processes is kept busy."""
        if self.stop_at_first or not self.charge_repeats:  # how much of it will be looked at is not known
            return {}
        waiting = [
            (search.outcome.spec, program)
            for search in searches
            for program, _ in search.waiting
            if program not in search.verdicts
        ]
        pairs = list(dict.fromkeys(waiting))
        return dict(zip(pairs, self.checker.check_all(pairs), strict=True))

    def _judge(self, pairs: Sequence[tuple[str, str]], ahead: Mapping[tuple[str, str], Verdict]) -> list[Verdict]:
        unknown = [pair for pair in pairs if pair not in ahead]
        found = dict(zip(unknown, self.checker.check_all(unknown), strict=True)) if unknown else {}
        return [ahead[pair] if pair in ahead else found[pair] for pair in pairs]


class _Search:
    """One specification: the proposals that wait, and the verdicts so far."""

    def __init__(self, outcome: Outcome, settings: Any) -> None:
        self.outcome, self.settings = outcome, settings
        self.verdicts: dict[str, Verdict] = {}
        self.waiting: list[Candidate] = []
        self.place, self.num_charged, self.num_repeats = 0, 0, 0
        self.is_last = self.is_over = False

    def receive(self, proposals: Sequence[Candidate], *, is_last: bool) -> None:
        """Take proposals of the writer, its last ones or not."""
        self.waiting, self.place, self.is_last = list(proposals), 0, is_last

    def next_unknown(self) -> str | None:
        """Go on to the next proposal that no verdict is known of; None at the end of the search, or of what waits."""
        while not self.is_over and self.place < len(self.waiting):
            program, log_prob = self.waiting[self.place]
            if program not in self.verdicts:
                return program
            self._record(program, log_prob, is_repeat=True)
        if not self.is_over and self.is_last:
            self._end("no_more")
        return None

    def learn(self, program: str, verdict: Verdict) -> None:
        """Take the verdict of the proposal that `next_unknown` gave."""
        self.verdicts[program] = verdict
        self._record(program, self.waiting[self.place][1], is_repeat=False)

    def _record(self, program: str, log_prob: float, *, is_repeat: bool) -> None:
        verdict, outcome = self.verdicts[program], self.outcome
        self.place += 1
        self.num_repeats = self.num_repeats + 1 if is_repeat else 0
        self.num_charged += self.settings.charge_repeats or not is_repeat
        outcome.tries.append(Try(program, log_prob, verdict, self.num_charged, is_repeat))
        if outcome.program is None:
            outcome.num_samples = self.num_charged
            if verdict.holds:
                outcome.program = program
        if outcome.is_solved and self.settings.stop_at_first:
            self._end("solved")
        elif self.num_charged >= self.settings.budget:
            self._end("budget")
        elif not self.settings.charge_repeats and self.num_repeats >= self.settings.max_repeats:
            self._end("repeats")

    def _end(self, ending: Ending) -> None:
        self.is_over = True
        self.outcome.ending = "solved" if self.outcome.is_solved else ending
