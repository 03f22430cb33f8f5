"""The figures of an evaluation, counted outcome by outcome: millions of proposals need not stay in memory.

Shape legend: N problems, B budgets 1..B.
"""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from generator.domains.base import KINDS, Domain, Problem
from generator.domains.distance import Distance
from generator.domains.solved import Curves, SolvedCurve, all_samples, first_solved, holds, within
from generator.domains.synthesize import Outcome, Synthesizer, Try
from generator.domains.writers import Writer
from retrieval.training.charts import Share

SHOWN = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)  # budgets, in metrics and tables

Metrics = dict[str, Any]


class Tally:
    """Counts outcomes one after another.

    A time-out or an error of the checker is no wrong answer: `solved@b` counts what was verified, and `at_most@b` what
    would be if everything undecided held, so that the truth is between.
    """

    def __init__(self, writer: Writer, domain: Domain[Any, Any], search: Synthesizer) -> None:
        """Start without an outcome."""
        self.writer, self.domain, self.search = writer, domain, search
        # all samples of a problem serve Pass@k, if each is drawn like the others
        self.has_all = not search.stop_at_first and search.charge_repeats and writer.is_independent
        self.shown = [b for b in SHOWN if b <= search.budget]
        self.rows: list[Curves] = []
        self.exact, self.general, self.at_most = (np.zeros(search.budget) for _ in range(3))
        self.kinds, self.endings, self.ranks = Counter[str](), Counter[str](), Counter[int]()
        self.num_new = self.num_exact = self.num_told = self.num_undecided = 0
        self.seconds_writing = self.seconds_checking = 0.0
        self.distance = Distance(self.has_all)

    def add(self, problem: Problem, outcome: Outcome) -> None:
        """Count an outcome."""
        row = self._row(outcome, holds)
        self.rows.append(row)
        self.exact += self._row(outcome, lambda each: each.program == problem.program)
        self.num_told += sum(each.verdict.is_general is not None for each in outcome.tries)
        if self.num_told:
            self.general += self._row(outcome, lambda each: each.verdict.holds and each.verdict.is_general is True)
        is_undecided = any(each.verdict.is_undecided for each in outcome.tries)
        self.num_undecided += is_undecided and not outcome.is_solved
        self.at_most += self._row(outcome, _may_hold) if is_undecided else row
        self.kinds.update(each.verdict.kind for each in outcome.tries)
        self.endings[outcome.ending] += 1
        if outcome.solved_at is not None:
            self.ranks[outcome.solved_at] += 1
        self.num_new += sum(not each.is_repeat for each in outcome.tries)
        self.num_exact += bool(outcome.tries) and outcome.tries[0].program == problem.program
        self.seconds_writing += outcome.seconds_writing
        self.seconds_checking += outcome.seconds_checking
        if self.writer.tells_probability and (posterior := self.domain.posterior(outcome.spec)) is not None:
            self.distance.add(outcome.tries, posterior)

    def _row(self, outcome: Outcome, is_hit: Callable[[Try], bool]) -> Curves:
        """Of a problem, the share solved within each budget if these tries count, (B,)."""
        row: Curves = (all_samples if self.has_all else first_solved)([outcome], self.search.budget, is_hit)[0]
        return row

    def metrics(self, problems: Sequence[Problem]) -> Metrics:
        """Return the figures of an evaluation; the problems are those that were counted."""
        rows, num_tries, budget = np.array(self.rows), self.kinds.total(), self.search.budget
        curve, has_undecided = SolvedCurve.of(rows), self.kinds["timeout"] + self.kinds["error"] > 0
        return {
            "num_problems": len(problems),
            "budget": budget,
            "estimator": "pass@k of the whole budget" if self.has_all else "first that holds",
            **{f"solved@{b}": curve.share[b - 1] for b in self.shown},
            **self._shares("at_most", self.at_most, len(problems)),
            **self._generality(len(problems)),
            "num_proposals": num_tries,
            "verdicts": {kind: self.kinds[kind] for kind in KINDS},
            "shares": {kind: self.kinds[kind] / max(1, num_tries) for kind in KINDS},
            "unsolved_and_undecided": self.num_undecided / len(problems),
            "endings": dict(self.endings),
            "valid_syntax": 1 - self.kinds["malformed"] / max(1, num_tries),
            "distinct": self.num_new / max(1, num_tries),
            "exact_match@1": self.num_exact / len(problems),
            **self._exact_match(len(problems)),
            "first_verified": first_ranks(self.ranks),
            **_losses(self.writer, self.domain, problems),
            **self.distance.metrics(),
            "seconds": {
                "writing": self.seconds_writing,
                "checking": self.seconds_checking,
                "per_solved": (self.seconds_writing + self.seconds_checking) / max(1, self.endings["solved"]),
            },
            "by_group": by_group(self.domain, problems, rows),
            "curve": asdict(curve),
            "at_most_curve": _rounded(self.at_most / len(problems)) if has_undecided else None,
            "exact_curve": self._exact(problems),
        }

    def _shares(self, name: str, sums: Curves, count: int) -> Metrics:
        return {f"{name}@{b}": round(float(sums[b - 1]) / count, 6) for b in self.shown}

    def _generality(self, count: int) -> Metrics:
        """Of searches that went on behind the first that holds, as the next may be the general one."""
        if not self.num_told or self.search.stop_at_first:
            return {}
        return {**self._shares("general", self.general, count), "general_curve": _rounded(self.general / count)}

    def _exact_match(self, count: int) -> Metrics:
        """The own program among the first b; a search that stops at the first that holds may not come to it."""
        found = {} if self.search.stop_at_first else self._shares("exact_match", self.exact, count)
        return {name: share for name, share in found.items() if name != "exact_match@1"}

    def _exact(self, problems: Sequence[Problem]) -> Metrics | None:
        """The curve that the writer's own probabilities give, without chance, where they are known."""
        chances = [self.writer.success_probability(problem.spec) for problem in problems]
        known = [chance for chance in chances if chance is not None]
        return asdict(SolvedCurve.of(within(known, self.search.budget))) if len(known) == len(chances) else None


def _may_hold(each: Try) -> bool:
    return each.verdict.holds or each.verdict.is_undecided


def _rounded(values: Curves) -> list[float]:
    return [round(float(value), 6) for value in values]


def first_ranks(counts: Mapping[int, int]) -> Metrics:
    """Say at which rank, from 1, the first that holds stood, of the problems that were solved.

    >>> first_ranks({1: 3, 7: 1})
    {'num': 4, 'mean': 2.5, 'median': 1.0, 'counts': [[1, 3], [7, 1]]}
    """
    ranks = [rank for rank, count in sorted(counts.items()) for _ in range(count)]
    return {
        "num": len(ranks),
        "mean": statistics.fmean(ranks) if ranks else None,
        "median": float(statistics.median(ranks)) if ranks else None,
        "counts": [[rank, count] for rank, count in sorted(counts.items())],
    }


def by_group(domain: Domain[Any, Any], problems: Sequence[Problem], rows: Curves) -> Metrics:
    """Shares solved with one proposal, ten and fifty, with 95% intervals (Wilson), by kind of group and group.

    Args:
        domain: that knows the groups
        problems: N
        rows: shares solved of each, (N, B)
    """
    members: dict[str, dict[str, list[int]]] = {}
    for number, problem in enumerate(problems):
        for kind, group in domain.groups(domain.read_spec(problem.spec)).items():
            members.setdefault(kind, {}).setdefault(group, []).append(number)
    budgets = [b for b in (1, 10, 50) if b <= rows.shape[1]]

    def shares(numbers: Sequence[int]) -> Metrics:
        found: Metrics = {"num": len(numbers)}
        for b in budgets:
            share = Share.of(float(rows[numbers, b - 1].sum()), len(numbers))
            found |= {f"solved@{b}": share.value, f"interval@{b}": [share.low, share.high]}
        return found

    return {kind: {group: shares(groups[group]) for group in in_order(groups)} for kind, groups in members.items()}


def in_order(groups: Iterable[str]) -> list[str]:
    """Return names of groups by the numbers in them, so that "3-4" comes before "10 or more".

    >>> in_order(["10 or more", "3-4", "some", "1-2"])
    ['1-2', '3-4', '10 or more', 'some']
    """

    def place(name: str) -> tuple[float, str]:
        number = re.search(r"\d+(\.\d+)?", name)
        return (float(number[0]) if number else math.inf, name)

    return sorted(groups, key=place)


def _losses(writer: Writer, domain: Domain[Any, Any], problems: Sequence[Problem]) -> Metrics:
    """Negative log-likelihood of the hidden programs in nats, a program, and the least that any writer can have."""
    found = [writer.log_prob(problem.spec, problem.program) for problem in problems]
    known = [log_prob for log_prob in found if log_prob is not None]
    possible = [log_prob for log_prob in known if log_prob > -math.inf]
    floors = [domain.floor(problem.spec) for problem in problems]
    known_floors = [floor for floor in floors if floor is not None]
    return {
        "nll": -sum(possible) / len(possible) if possible and len(possible) == len(known) else None,
        "num_impossible": len(known) - len(possible) if known else None,
        "nll_floor": sum(known_floors) / len(floors) if len(known_floors) == len(floors) else None,
    }
