"""Verdicts on answers that nearly hold, against those of a slower procedure; `benchmarks/near_misses.py` has more."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
import sympy as sp

from generator.domains import make_domain
from generator.domains.symbolic.checker import Question, residual
from generator.domains.symbolic.domain import Symbolic
from generator.domains.symbolic.pool import Pool
from generator.domains.symbolic.prefix import X
from generator.domains.symbolic.words import check_words
from generator.domains.verdicts import MalformedError

GOLD = [
    ("sub Y' mul x cos x", "add cos x mul x sin x"),
    ("sub Y' div INT+ 1 add pow2 x INT+ 4", "mul div INT+ 1 INT+ 2 atan mul div INT+ 1 INT+ 2 x"),
    ("sub Y' mul exp x sin x", "mul div INT+ 1 INT+ 2 mul exp x sub sin x cos x"),
    ("sub Y' pow2 tanh x", "sub x tanh x"),
    ("sub Y' mul x ln x", "sub mul div INT+ 1 INT+ 2 mul pow2 x ln x mul div INT+ 1 INT+ 4 pow2 x"),
    ("sub Y' div x sqrt add pow2 x INT+ 3", "sqrt add pow2 x INT+ 3"),
    ("sub Y' inv cos x", "ln add inv cos x tan x"),
    ("sub Y' pow sin x INT+ 3", "sub mul div INT+ 1 INT+ 3 pow3 cos x cos x"),
]


@pytest.fixture(scope="module")
def domain() -> Iterator[Symbolic]:
    made: Any = make_domain("prim_bwd", {"num_check_workers": 1})
    with made.pool:
        yield made


def near_misses(program: str, count: int, rng: random.Random) -> list[str]:
    """Answers with another sign, factor, digit or operator somewhere, and a few that hold as well."""
    words, found = program.split(), list[str]()
    while len(found) < count:
        place = rng.randrange(len(words))
        changed = rng.choice(
            [
                [*words[:place], "mul", "INT-", "1", *words[place:]],
                [*words[:place], "mul", "INT+", str(rng.randint(2, 9)), *words[place:]],
                [*words[:place], str(rng.randrange(10)), *words[place + 1 :]],
                [*words[:place], rng.choice(["sin", "cos", "exp", "atan", "x"]), *words[place + 1 :]],
                ["add", "INT+", str(rng.randint(1, 9)), *words],
                ["add", *words, "mul", "INT+", "0", "x"],
            ]
        )
        try:
            check_words(changed)
        except MalformedError:
            continue
        found.append(" ".join(changed))
    return found


def slowly(question: Question) -> bool | None:
    """Whether an answer holds: by values of 60 digits of sympy's own, and by simplify; None if they do not say."""
    left = residual(question)
    if left.has(sp.zoo, sp.nan, sp.oo):
        return False
    values = [left.subs(X, sp.Rational(place)).evalf(60) for place in (0.3, -0.7, 1.7, -2.9, 4.1)]
    known = [value for value in values if value.is_finite]
    if len(known) > 1 and all(abs(value) > sp.Float(10) ** -40 for value in known):
        return False
    return True if sp.simplify(left) == 0 else None


def agree(domain: Symbolic, gold: list[tuple[str, str]], count: int) -> None:
    rng = random.Random(0)
    pairs = [(spec, changed) for spec, program in gold for changed in [program, *near_misses(program, count, rng)]]
    verdicts = domain.check_all(pairs)
    held = {"verified": True, "rejected": False}
    with Pool(slowly, 1, 60.0) as pool:
        slow = [result.value for result in pool.map([Question(*pair) for pair in pairs])]
    for pair, verdict, wanted in zip(pairs, verdicts, slow, strict=True):
        assert verdict.kind in held or wanted is None, (pair, verdict)
        assert wanted is None or held[verdict.kind] is wanted, (pair, verdict, wanted)
    assert sum(verdict.holds for verdict in verdicts) >= len(gold) and sum(value is False for value in slow) > count


def test_near_misses_are_told_from_what_holds(domain: Symbolic) -> None:
    agree(domain, GOLD[:4], 5)


@pytest.mark.slow
def test_many_near_misses_are_told_from_what_holds(domain: Symbolic) -> None:
    agree(domain, GOLD, 40)


def test_own_answers_pass_by_substitution_alone(domain: Symbolic) -> None:
    from generator.domains.base import Problem
    from generator.domains.results import judge_gold

    assert judge_gold(domain, [Problem(*pair) for pair in GOLD])["pass_rate"] == 1.0
