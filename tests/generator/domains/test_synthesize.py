"""The synthesizer: what it counts, when it stops, and that batches change nothing."""

import json
import subprocess
import time

import pytest

from common import ConfigError
from generator.domains import make_domain
from generator.domains.base import Problem, Verdict
from generator.domains.regex import Regular, write
from generator.domains.results import evaluate_writer
from generator.domains.synthesize import Synthesizer
from generator.domains.writers import RankedWriter, Writer
from generator.interface.wrappers import FixedTacticGenerator

SPEC = "[01+10+55-]"
DOMAIN = make_domain("rectangle", {"splits": "independent"})


class Listed(Writer):
    """Proposes what stands in a list, or for ever its last entry."""

    name = "listed"

    def __init__(self, *programs: str, for_ever: bool = False) -> None:
        self.programs, self.for_ever, self.asked = programs, for_ever, []

    def propose(self, specs, first, count):
        self.asked.append((first, count))
        last = len(self.programs) - 1
        numbers = range(first, first + count)
        if self.for_ever:
            numbers = [min(number, last) for number in numbers]
        return [[(self.programs[k], -1.0) for k in numbers if k <= last] for _ in specs]


class Counting:
    """Counts what it checks."""

    def __init__(self) -> None:
        self.checked = []

    def check_all(self, pairs):
        self.checked += [program for _, program in pairs]
        return [Verdict("verified" if program == "right" else "rejected") for _, program in pairs]


def kinds(outcome):
    return [each.verdict.kind for each in outcome.tries]


def test_it_stops_at_the_first_that_holds_and_counts_from_one():
    outcome = Synthesizer(Listed("[9]", "[0,0,1,1]", "[0,1,0,1]", "[0,1,0,1]"), DOMAIN, 20)(SPEC)
    assert kinds(outcome) == ["malformed", "rejected", "verified"]
    assert (outcome.program, outcome.num_samples, outcome.solved_at, outcome.ending) == ("[0,1,0,1]", 3, 3, "solved")
    first = Synthesizer(Listed("[0,1,0,1]"), DOMAIN, 20)(SPEC)
    assert first.num_samples == 1


def test_a_failure_is_no_crash_and_costs_the_budget():
    outcome = Synthesizer(Listed("[0,0,1,1]", for_ever=True), DOMAIN, 7)(SPEC)
    assert (outcome.program, outcome.solved_at, outcome.num_samples, outcome.ending) == (None, None, 7, "budget")
    assert not outcome.is_solved and len(outcome.tries) == 7


def test_a_budget_of_b_is_b_proposals():
    writer = Listed("wrong", "wrong2", "right")
    assert not Synthesizer(writer, Counting(), 2)("s").is_solved
    assert Synthesizer(writer, Counting(), 3)("s").solved_at == 3


@pytest.mark.parametrize("budget", [0, -1, 1_000_001])
def test_a_budget_that_is_none_is_refused(budget):
    with pytest.raises(ConfigError, match=f"budget is {budget}"):
        Synthesizer(Listed(), DOMAIN, budget)


@pytest.mark.parametrize("name", ["dsl", "tight", "all_strings", "posterior", "manual"])
@pytest.mark.parametrize("settings", [{}, {"charge_repeats": False}, {"stop_at_first": False}])
def test_batches_give_what_one_at_a_time_gives(name, settings):
    specs = [problem.spec for problem in DOMAIN.problems(0, "test", 40)]

    def found(batch_size, group_size):
        writer = DOMAIN.baselines()[name](5, list)
        search = Synthesizer(writer, DOMAIN, 45, batch_size=batch_size, group_size=group_size, **settings)
        return [(o.spec, o.num_samples, o.program, o.ending, o.tries) for o in search.solve(specs)]

    one_at_a_time = found(1, 1)
    assert found(45, 40) == one_at_a_time and found(7, 13) == one_at_a_time
    assert [spec for spec, *_ in one_at_a_time] == specs


def test_nothing_behind_the_first_is_checked_and_nothing_beyond_the_budget_is_asked_for():
    writer, checker = Listed("wrong", "right", "wrong2", "wrong3"), Counting()
    Synthesizer(writer, checker, 3, batch_size=2)("s")
    assert checker.checked == ["wrong", "right"] and writer.asked == [(0, 2)]
    writer = Listed(*(f"w{k}" for k in range(10)))
    Synthesizer(writer, Counting(), 5, batch_size=3)("s")
    assert writer.asked == [(0, 3), (3, 2)]


def test_repeats_are_charged_but_checked_once():
    checker = Counting()
    outcome = Synthesizer(Listed("wrong", "wrong", "wrong", "right"), checker, 10)("s")
    assert outcome.num_samples == 4 and checker.checked == ["wrong", "right"]
    assert [each.is_repeat for each in outcome.tries] == [False, True, True, False]


def test_repeats_are_free_where_they_are_not_charged():
    search = Synthesizer(Listed("wrong", "wrong", "wrong", "right"), Counting(), 2, charge_repeats=False, batch_size=2)
    outcome = search("s")
    assert outcome.num_samples == 2 and [each.num_samples for each in outcome.tries] == [1, 1, 1, 2]


def test_thousands_of_duplicates_end():
    checker = Counting()
    search = Synthesizer(Listed("wrong", for_ever=True), checker, 50, charge_repeats=False, max_repeats=3000)
    outcome = search("s")
    assert outcome.ending == "repeats" and len(outcome.tries) == 3001 and checker.checked == ["wrong"]
    charged = Synthesizer(Listed("wrong", for_ever=True), Counting(), 5000)("s")
    assert charged.ending == "budget" and charged.num_samples == 5000


def test_a_writer_that_proposes_nothing_or_runs_dry():
    outcome = Synthesizer(Listed(), DOMAIN, 20)(SPEC)
    assert (outcome.ending, outcome.num_samples, outcome.tries) == ("no_more", 0, [])
    outcome = Synthesizer(Listed("[0,0,1,1]"), DOMAIN, 20)(SPEC)
    assert (outcome.ending, outcome.num_samples) == ("no_more", 1)
    assert Synthesizer(FixedTacticGenerator([]), DOMAIN, 20)(SPEC).ending == "no_more"


def test_the_whole_budget_is_looked_at_where_that_is_asked_for():
    search = Synthesizer(Listed("wrong", "right", "right", for_ever=True), Counting(), 6, stop_at_first=False)
    outcome = search("s")
    assert outcome.num_samples == 2 and outcome.program == "right" and len(outcome.tries) == 6


def test_a_tactic_generator_is_a_writer_whose_candidates_come_best_first():
    generator = FixedTacticGenerator([("[0,1,0,1]", -3.0), ("[0,0,0,0]", -0.5), ("[9]", -1.0)])
    outcome = Synthesizer(generator, DOMAIN, 20, batch_size=1)(SPEC)
    assert [each.program for each in outcome.tries] == ["[0,0,0,0]", "[9]", "[0,1,0,1]"]
    assert [each.log_prob for each in outcome.tries] == [-0.5, -1.0, -3.0] and outcome.solved_at == 3
    assert RankedWriter(generator, 2).propose([SPEC, SPEC], 0, 5)[1][0] == ("[0,0,0,0]", -0.5)


def test_nothing_to_solve_is_nothing():
    assert list(Synthesizer(Listed("x"), DOMAIN, 5).solve([])) == []


class Fragile(Regular):
    """Expressions whose checker fails on one, and is too slow for others."""

    def refutation(self, spec, program):
        match write(program):
            case "a":
                raise ZeroDivisionError("by zero")
            case "b":
                time.sleep(0.02)
                raise TimeoutError
            case "aa":
                raise subprocess.TimeoutExpired("checker", 3)
        return super().refutation(spec, program)


def test_a_checker_that_fails_or_is_too_slow_ends_no_search():
    outcome = Synthesizer(Listed("a", "b", "aa", "(", "ba", "ab"), Fragile(), 20)("+ab")
    assert kinds(outcome) == ["error", "timeout", "timeout", "malformed", "rejected", "verified"]
    assert (outcome.program, outcome.num_samples) == ("ab", 6)
    messages = [each.verdict.message for each in outcome.tries]
    assert messages[0] == "ZeroDivisionError: by zero" and messages[1] == "was not decided in time"
    assert "timed out after 3 seconds" in messages[2]
    assert outcome.tries[1].verdict.seconds >= 0.02 and outcome.seconds_checking >= 0.02


def test_what_was_not_decided_in_time_is_counted_apart_from_what_is_wrong(tmp_path):
    domain, writer = Fragile(), Listed("a", "b", "aa", "(", "ba")
    search = Synthesizer(writer, domain, 5)
    metrics = evaluate_writer(writer, domain, [Problem("+ab", "ab")], search, tmp_path / "listed", {})
    assert metrics["verdicts"] == {"verified": 0, "rejected": 1, "malformed": 1, "timeout": 2, "error": 1}
    assert metrics["valid_syntax"] == pytest.approx(4 / 5) and metrics["solved@5"] == 0
    [line] = (tmp_path / "listed.jsonl").read_text().splitlines()
    assert [kind for _, _, kind, _ in json.loads(line)["tries"]] == [
        "error",
        "timeout",
        "timeout",
        "malformed",
        "rejected",
    ]
