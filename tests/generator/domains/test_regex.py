"""Regular expressions: a matcher without backtracking, a strict reader, and a domain like any other."""

import random
import re

import pytest

from generator.domains import make_domain
from generator.domains.base import MalformedError, SpecError
from generator.domains.regex import Matcher, write
from generator.domains.synthesize import Synthesizer

DOMAIN = make_domain("regex")
LONG = make_domain("regex", {"max_program_length": 200})


def test_matches_what_python_s_own_matches():
    rng = random.Random(0)
    for _ in range(400):
        spec, program = DOMAIN.draw(rng)
        text = write(program)
        assert DOMAIN.read_program(text) == program
        for word in [word for word, _ in spec] + ["", "a", "b", "ab", "ba", "aab"]:
            assert Matcher(program).matches(word) == bool(re.fullmatch(text, word)), (text, word)


def test_every_drawn_problem_reads_back_and_holds():
    for index in range(100):
        problem = DOMAIN.problem(1, "train", index)
        assert DOMAIN.write_spec(DOMAIN.read_spec(problem.spec)) == problem.spec
        assert len(problem.program) <= 12 and DOMAIN.check(problem.spec, problem.program).holds


def test_an_expression_that_hangs_others_is_matched_at_once():
    text = "(a*)*" * 30 + "b"
    assert LONG.check("-" + "a" * 100, text).holds  # Python's own would not come back


@pytest.mark.parametrize(
    "text", ["", "(", "a)", "|a", "a|", "*a", "a**", "()", "c", "a\\", "[ab]", "a b", "(?:a)", "é"]
)
def test_other_texts_are_malformed(text):
    with pytest.raises(MalformedError):
        DOMAIN.read_program(text)
    assert DOMAIN.check("+ab", text).kind == "malformed"


def test_a_program_over_the_limit_is_malformed_however_deep():
    assert "13 characters" in DOMAIN.check("+a", "a" * 13).message
    assert LONG.check("+a", "(" * 99 + "a" + ")" * 99).holds


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "none of this domain"),
        ("ab", "none of this domain"),
        ("+ab,", "none of this domain"),
        ("+abc", "none of this domain"),
        ("+ab,-ab", "no program exists: the word 'ab'"),
        ("-,+", "no program exists: the word ''"),
        (",".join(["+a"] * 1001), "none of this domain"),
    ],
)
def test_specs_that_are_none_are_refused(text, reason):
    with pytest.raises(SpecError, match=reason):
        DOMAIN.read_spec(text)


def test_a_rejection_names_the_word_and_the_picture_marks_it():
    assert DOMAIN.check("+ab,-", "a*b*").message == "'' must not match"
    assert DOMAIN.show("+ab,-", "a*b*") == "/a*b*/\n  + ab\n  - (empty)  <- wrong"


@pytest.mark.parametrize("name", ["prior", "words"])
def test_baselines_solve_some(name):
    specs = [problem.spec for problem in DOMAIN.problems(0, "test", 40)]
    outcomes = list(Synthesizer(DOMAIN.baselines()[name](0, list), DOMAIN, 50).solve(specs))
    assert sum(outcome.is_solved for outcome in outcomes) > 15
    assert all(each.log_prob <= 0 for outcome in outcomes for each in outcome.tries)
