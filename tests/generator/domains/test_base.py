"""What every domain promises: problems by number, disjoint splits, verdicts, and options that are checked."""

import random
from itertools import islice

import pytest

from common import ConfigError, NextstepError
from generator.domains import DOMAINS, domain_class, make_domain
from generator.domains.base import Domain, Problem, SpecError, Verdict, split_of
from generator.domains.writers import stable_seed

SPLITS = ("train", "val", "test")
RECTANGLE = Problem("[10-31-41-34+02-50-53+02-54+22-03-52-31-10-11-14-14-43+03-]", "[3,6,3,4]")
REGEX = Problem("-,-aabaab,+bbb,+bb,+b,-bbaba", "b?b+")

QUICK = [name for name in DOMAINS if not domain_class(name).is_slow]  # the others have tests of their own


class Coins(Domain[int, int]):
    """One of few numbers; the program is the number itself, and 7 breaks the checker."""

    name = "coins"
    num = 6

    def draw(self, rng: random.Random) -> tuple[int, int]:
        number = rng.randrange(self.num)
        return number, number

    def write_spec(self, spec: int) -> str:
        return str(spec)

    def read_spec(self, text: str) -> int:
        if not text.isdecimal():
            raise SpecError(f"{text} is no number")
        return int(text)

    write_program, read_program = write_spec, read_spec

    def refutation(self, spec: int, program: int) -> str:
        return {0: ""}.get(spec - program, f"is {10 // (7 - program)}")


@pytest.fixture(params=QUICK)
def domain(request):
    return make_domain(request.param, {"n": 8} if request.param == "bit_xor" else None)  # five bits make few problems


def test_a_problem_follows_from_seed_split_epoch_and_index_alone(domain):
    again = type(domain)(domain.options)
    for split in SPLITS:
        numbers = [5, 3, 5, 0]
        assert [domain.problem(1, split, n) for n in numbers] == [again.problem(1, split, n) for n in numbers]
    variants = {domain.problem(seed, "train", 5, epoch) for seed in (1, 2) for epoch in (0, 1)}
    assert len(variants) == 4


def test_problems_of_today_are_problems_of_tomorrow():
    """Data and results of a seed can be made again: these were written down once."""
    assert make_domain("rectangle").problem(0, "train", 0) == RECTANGLE
    assert make_domain("regex").problem(0, "train", 0) == REGEX
    assert stable_seed("a", 1) == 7404712952341045632


def test_splits_are_disjoint_whatever_the_seed_and_hold_nothing_twice(domain):
    keys = {}
    for split in SPLITS:
        for seed in (0, 1):
            found = [domain.key(domain.read_spec(p.spec)) for p in domain.problems(seed, split, 120)]
            assert len(set(found)) == len(found)
            keys.setdefault(split, set()).update(found)
    assert not keys["train"] & keys["test"] and not keys["train"] & keys["val"] and not keys["val"] & keys["test"]
    assert all(split_of(key) == split for split, members in keys.items() for key in members)


def test_independent_splits_are_drawn_from_all_and_the_leak_report_says_what_is_shared():
    domain = make_domain("rectangle", {"splits": "independent"})
    train, test = domain.problems(0, "train", 2000), domain.problems(0, "test", 500)
    leaks = domain.leaks(train, test)
    assert len({p.spec for p in test}) < len(test) and 0.01 < leaks["same_text"] <= leaks["same_meaning"] < 0.15
    disjoint = make_domain("rectangle")
    none = disjoint.leaks(disjoint.problems(0, "train", 500), disjoint.problems(0, "test", 100))
    assert none == {"same_text": 0.0, "same_meaning": 0.0}


def test_the_leak_report_counts_texts_and_meanings():
    domain = make_domain("rectangle")
    train = [Problem("[11+50-]", "")]
    held_out = [Problem("[11+50-]", ""), Problem("[50-11+11+]", ""), Problem("[11+]", ""), Problem("[12+]", "")]
    assert domain.leaks(train, held_out) == {"same_text": 0.25, "same_meaning": 0.5}


def test_the_same_problem_is_the_first_of_problems():
    domain = make_domain("rectangle", {"splits": "independent"})
    assert domain.problems(4, "val", 10) == [domain.problem(4, "val", index) for index in range(10)]


def test_a_domain_with_too_few_specifications_says_so(monkeypatch):
    monkeypatch.setattr("generator.domains.base._MAX_DRAWS", 300)
    domain = Coins()
    split = next(split for split in SPLITS if {split_of(str(n)) for n in range(6)} >= {split})
    with pytest.raises(ConfigError, match="hardly more than"):
        domain.problems(0, split, 7)
    Coins.num = 1
    other = next(each for each in SPLITS if each != split_of("0"))
    with pytest.raises(ConfigError, match="none is for"):
        domain.problem(0, other, 0)
    Coins.num = 6


def test_a_checker_that_fails_is_a_verdict_and_a_broken_specification_is_not():
    domain = Coins()
    assert domain.check("3", "3").holds and domain.check("3", "4") == Verdict("rejected", "is 3")
    verdict = domain.check("3", "7")
    assert verdict.kind == "error" and "ZeroDivisionError" in verdict.message
    with pytest.raises(SpecError):
        domain.check("x", "3")


def test_verdicts_compare_without_the_time_they_took():
    assert Verdict("verified", seconds=1.0) == Verdict("verified", seconds=2.0)
    assert [Verdict(kind).holds for kind in ("verified", "rejected", "malformed", "timeout", "error")] == [True] + 4 * [
        False
    ]


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("rectangel", {}, "domain is 'rectangel'; choose one of rectangle"),
        ("rectangle", {"max_example": 3}, "no option 'max_example'; did you mean max_examples"),
        ("rectangle", {"max_examples": 0}, "max_examples is 0"),
        ("rectangle", {"max_examples": "ten"}, "max_examples is 'ten'; it must be of type int"),
        ("rectangle", {"splits": "both"}, "splits is 'both'"),
        ("regex", {"num_letters": 27}, "num_letters is 27"),
    ],
)
def test_wrong_names_and_options_are_refused_in_a_line(name, options, reason):
    with pytest.raises(NextstepError, match=reason):
        make_domain(name, options)


def test_problems_go_on_for_ever():
    domain = make_domain("rectangle")
    endless = domain.distinct(domain.problem(0, "train", index) for index in range(2**62))
    assert len(list(islice(endless, 300))) == 300
