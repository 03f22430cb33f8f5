"""Integrals and differential equations as domains: whatever is proposed gets a verdict, and a sure one."""

from __future__ import annotations

import os
import pickle
import random
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from common import ConfigError
from generator.domains import DOMAINS, make_domain
from generator.domains.base import Problem, SpecError, Verdict
from generator.domains.symbolic import judging
from generator.domains.symbolic.domain import Symbolic
from generator.domains.symbolic.options import TASKS

OPTIONS = {"num_check_workers": 1, "check_step_s": 8.0, "check_timeout_s": 16.0}
XCOSX = "sub Y' mul x cos x"  # the integral of x*cos(x)
ITS = "add cos x mul x sin x"
GROWTH = "sub Y' Y"  # y' = y
SPRING = "add Y'' Y"  # y'' = -y


@pytest.fixture(scope="module")
def domains() -> Iterator[dict[str, Symbolic]]:
    """All of them, with one pool."""
    made: dict[str, Any] = {task: make_domain(task, OPTIONS) for task in TASKS}
    for domain in made.values():
        domain.__dict__["pool"] = made["ode1"].pool
    yield made
    made["ode1"].pool.close()


def kinds(domain: Symbolic, spec: str, *programs: str) -> list[str]:
    return [verdict.kind for verdict in domain.check_all([(spec, program) for program in programs])]


# ------------------------------------------------------------------------------------------------
# What holds


@pytest.mark.parametrize(
    ("spec", "program"),
    [
        (XCOSX, ITS),
        (XCOSX, "add INT+ 7 add cos x mul x sin x"),
        (XCOSX, "add a3 add cos x mul x sin x"),
        (XCOSX, "add pi add cos x mul x sin x"),
        ("sub Y' inv x", "ln x"),
        ("sub Y' inv x", "ln mul INT+ 5 x"),
        ("sub Y' inv x", "ln abs x"),
        ("sub Y' pow2 tan x", "sub tan x x"),
        ("sub Y' mul sin x cos x", "div pow2 sin x INT+ 2"),
        ("sub Y' mul sin x cos x", "mul div INT- 1 INT+ 4 cos mul INT+ 2 x"),  # another form
        ("sub Y' div INT+ 1 sqrt sub INT+ 1 pow2 x", "asin x"),
        ("sub Y' mul a0 cosh mul a0 x", "sinh mul a0 x"),
        ("sub Y' mul pow x x add INT+ 1 ln x", "pow x x"),
        ("sub Y' inv add pow2 x INT+ 1", "mul div I INT+ 2 sub ln sub INT+ 1 mul I x ln add INT+ 1 mul I x"),
    ],
)
def test_integrals_that_hold_are_verified(domains: dict[str, Symbolic], spec: str, program: str) -> None:
    verdict = domains["prim_fwd"].check(spec, program)
    assert verdict.holds and verdict.is_general is None, verdict


@pytest.mark.parametrize(
    ("task", "spec", "program", "is_general"),
    [
        ("ode1", GROWTH, "mul a8 exp x", True),
        ("ode1", GROWTH, "mul a9 exp x", True),  # whatever the constant is called
        ("ode1", GROWTH, "exp add a8 x", True),
        ("ode1", GROWTH, "exp x", False),
        ("ode1", GROWTH, "add exp x mul INT+ 0 a8", False),
        ("ode1", GROWTH, "INT+ 0", False),
        ("ode1", "sub mul x Y' Y", "INT+ 0", False),
        ("ode1", "sub mul a0 Y' Y", "mul a8 exp div x a0", True),
        ("ode1", "sub mul a8 Y' Y", "exp div x a8", False),  # the equation's own is no constant of the solution
        ("ode2", SPRING, "add mul a8 cos x mul a9 sin x", True),
        ("ode2", SPRING, "add mul a9 cos x mul a8 sin x", True),  # renamed
        ("ode2", SPRING, "mul a8 sin add x a9", True),
        ("ode2", SPRING, "mul a8 sin x", False),
        ("ode2", SPRING, "mul add a8 a9 sin x", False),  # two constants that are one
        ("ode2", SPRING, "sin x", False),
        ("ode2", SPRING, "INT+ 0", False),
        ("ode2", "sub Y'' INT+ 2", "add pow2 x add a8 mul a9 x", True),
    ],
)
def test_solutions_are_verified_and_told_whether_they_are_general(
    domains: dict[str, Symbolic], task: str, spec: str, program: str, is_general: bool
) -> None:
    verdict = domains[task].check(spec, program)
    assert verdict.holds and verdict.is_general is is_general, verdict
    assert bool(verdict.message) is not is_general


def test_the_trivial_solution_is_named(domains: dict[str, Symbolic]) -> None:
    assert domains["ode2"].check(SPRING, "INT+ 0").message == "the function 0"
    assert "2 independent constants" in domains["ode2"].check(SPRING, "sin x").message


# ------------------------------------------------------------------------------------------------
# What does not


@pytest.mark.parametrize(
    ("task", "spec", "program"),
    [
        ("prim_fwd", XCOSX, "add cos x mul INT- 1 mul x sin x"),
        ("prim_fwd", XCOSX, "mul x sin x"),
        ("prim_fwd", XCOSX, "mul div INT+ 9 9 INT+ 1 0 0 add cos x mul x sin x"),
        ("prim_fwd", XCOSX, "add x add cos x mul x sin x"),
        ("prim_fwd", XCOSX, "INT+ 0"),
        ("prim_fwd", XCOSX, "add div x INT+ 1 " + "0 " * 30 + ITS),  # a difference that no float of 16 digits shows
        ("prim_fwd", "sub Y' ln add INT- 2 sin x", "x"),  # the integrand is nowhere real
        ("ode1", GROWTH, "add a8 exp x"),
        ("ode1", GROWTH, "a8"),
        ("ode2", SPRING, "add mul a8 cosh x mul a9 sinh x"),
    ],
)
def test_what_does_not_hold_is_rejected(domains: dict[str, Symbolic], task: str, spec: str, program: str) -> None:
    verdict = domains[task].check(spec, program)
    assert verdict.kind == "rejected" and "does not hold at" in verdict.message, verdict


def test_an_integral_that_holds_for_some_values_alone_is_rejected(domains: dict[str, Symbolic]) -> None:
    verdict = domains["prim_fwd"].check("sub Y' abs x", "div pow2 x INT+ 2")
    assert verdict.kind == "rejected" and "holds for some values, and not at x = -" in verdict.message
    assert domains["prim_fwd"].check("sub Y' abs x", "div mul x abs x INT+ 2").holds


@pytest.mark.parametrize(
    "program",
    [
        "div INT+ 1 INT+ 0",
        "ln INT+ 0",
        "mul x inv sub x x",
        "mul INT+ 0 inv INT+ 0",
        "pow INT+ 0 INT- 1",
        "atanh INT+ 1",
        "add " + ITS + " div INT+ 1 sub INT+ 2 INT+ 2",
    ],
)
def test_infinite_answers_are_rejected(domains: dict[str, Symbolic], program: str) -> None:
    verdict = domains["prim_fwd"].check(XCOSX, program)
    assert verdict.kind == "rejected" and "no value" in verdict.message, verdict


def test_complex_answers_get_a_verdict(domains: dict[str, Symbolic]) -> None:
    assert kinds(
        domains["prim_fwd"], XCOSX, "I", "mul I " + ITS, "add I " + ITS, "sqrt INT- 2", "ln INT- 1", "pow I x"
    ) == ["rejected", "rejected", "verified", "rejected", "rejected", "rejected"]


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("", "there are no words"),
        ("add x", "missing: 1"),
        ("x x", "more follow"),
        ("x add", "more follow"),
        ("__import__('os')", "none of the 91 words"),
        ("__import__('os').system('true')", "none of the 91 words"),
        ("sin x )", "more follow"),
        ("INT+", "no digits"),
        ("Y", "cannot stand in an answer"),
        ("mul Y' x", "cannot stand in an answer"),
        ("f x", "cannot stand in an answer"),
        ("derivative x x", "cannot stand in an answer"),
        ("g x x", "cannot stand in an answer"),
        ("sin " * 101 + "x", "nested more than 100 deep"),
        ("exp " * 400 + "x", "nested more than 100 deep"),
        ("exp " * 5000 + "x", "over 2,000"),
        ("add x " * 3000 + "x", "over 2,000"),
        ("pow INT+ 9 pow INT+ 9 INT+ 9 9", "bits"),
        ("INT+ " + "9 " * 1900, "digits"),
    ],
)
def test_what_is_no_answer_is_malformed(domains: dict[str, Symbolic], program: str, reason: str) -> None:
    verdict = domains["prim_fwd"].check(XCOSX, program)
    assert verdict.kind == "malformed" and reason in verdict.message, verdict


def test_no_text_is_evaluated(domains: dict[str, Symbolic], tmp_path: Any) -> None:
    path = tmp_path / "made"
    for text in (f"open({str(path)!r},'w')", "x.__class__", "().__class__", "lambda:0"):
        assert domains["prim_fwd"].check(XCOSX, text).kind == "malformed"
        with pytest.raises(SpecError):
            domains["prim_fwd"].check(text, "x")
    assert not path.exists()


# ------------------------------------------------------------------------------------------------
# What takes long, and what breaks


def test_answers_of_500_words_get_a_verdict() -> None:
    rng = random.Random(0)
    domain: Any = make_domain("prim_fwd", {"num_check_workers": 1, "check_timeout_s": 1.0, "check_step_s": 0.6})

    def tree(size: int) -> list[str]:
        if size < 2:
            return [rng.choice(["x", "pi", "a8"])]
        if size == 2 or rng.random() < 0.3:
            return [rng.choice("sin cos exp sqrt atan tanh".split()), *tree(size - 1)]
        left = rng.randrange(1, size - 1)
        return [rng.choice("add mul sub".split()), *tree(left), *tree(size - 1 - left)]

    programs = [" ".join(tree(500)) for _ in range(4)]
    with domain.pool:
        for verdict in domain.check_all([(XCOSX, program) for program in programs]):
            assert verdict.kind in ("rejected", "timeout"), verdict
            assert verdict.seconds <= 1.2


def test_what_sympy_never_finishes_is_no_wrong_answer() -> None:
    """cosh of 2000 x is right in one form and the other, and the equation's form keeps sympy busy."""
    domain: Any = make_domain("prim_fwd", {"num_check_workers": 1, "check_timeout_s": 1.0, "check_step_s": 0.5})
    power = "pow add x INT+ 1 INT+ 4 0 0 0"
    spec = f"sub Y' mul {power} add cos x mul INT+ 2 sin mul INT+ 2 x"
    with domain.pool:
        hard, easy = domain.check_all([(spec, f"mul {power} pow add sin x cos x INT+ 3 0 0 0"), (XCOSX, ITS)])
    assert hard.kind in ("timeout", "rejected") and hard.seconds <= 1.2
    assert easy.holds


def test_a_process_that_dies_costs_its_answer_alone(
    domains: dict[str, Symbolic], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of the second answer ends its process."""

    class Deadly:
        def __init__(self, question: Any) -> None:
            self.question = question

        def __reduce__(self) -> Any:
            return os._exit, (3,)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.question, name)

    made = judging._Case
    monkeypatch.setattr(
        judging, "_Case", lambda question: made(Deadly(question) if question.answer == "tan x" else question)
    )
    assert kinds(domains["prim_fwd"], XCOSX, ITS, "tan x", "x", ITS + " ") == [
        "verified",
        "error",
        "rejected",
        "verified",
    ]


def test_answers_are_judged_on_any_thread(domains: dict[str, Symbolic]) -> None:
    found: list[Verdict] = []
    thread = threading.Thread(target=lambda: found.append(domains["prim_fwd"].check(XCOSX, ITS)))
    thread.start()
    thread.join(30)
    assert found[0].holds


def test_a_copy_of_a_domain_judges_too(domains: dict[str, Symbolic]) -> None:
    copy = pickle.loads(pickle.dumps(domains["prim_fwd"]))
    with copy.pool:
        assert copy.check(XCOSX, ITS).holds


# ------------------------------------------------------------------------------------------------
# References, and the domain's own


def test_a_known_answer_helps_where_it_is_told(domains: dict[str, Symbolic]) -> None:
    domain = domains["prim_bwd"]
    spec, known = "sub Y' exp pow2 x", "tan x"  # it is wrong, so that it can be seen what it does
    assert domain.check(spec, known).kind == "rejected"
    domain.expect([Problem(spec, known)])
    assert domain.check(spec, known).holds
    [gold] = domain.gold_verdicts([Problem(spec, known)])
    assert gold.kind == "rejected"


@pytest.mark.parametrize(
    ("task", "spec", "reason"),
    [
        ("prim_fwd", "", "no words"),
        ("prim_fwd", "mul x cos x", "no integral"),
        ("prim_fwd", "sub Y' Y", "no integral"),
        ("prim_fwd", "sub Y' mul x", "missing: 1"),
        ("prim_fwd", "sub Y' f x", "has the word 'f'"),
        ("ode1", "add x Y", "no derivative"),
        ("ode1", "derivative Y x", "has the word 'derivative'"),
    ],
)
def test_what_is_no_problem_is_an_error_of_the_user(
    domains: dict[str, Symbolic], task: str, spec: str, reason: str
) -> None:
    with pytest.raises(SpecError, match=reason) as refused:
        domains[task].check(spec, "x")
    assert "such as sub Y'" in str(refused.value) and "\n" not in str(refused.value)


def test_problems_are_grouped_by_operators_and_words(domains: dict[str, Symbolic]) -> None:
    assert domains["prim_fwd"].groups(XCOSX) == {"operators": "1-5", "words": "1-10"}
    assert domains["ode1"].groups(GROWTH) == {"operators": "1-5", "words": "1-10"}
    assert domains["prim_fwd"].groups("sub Y' x")["operators"] == "0"
    long = "sub Y' " + "add x " * 120 + "x"
    assert domains["prim_fwd"].groups(long) == {"operators": "116-120", "words": "201 or more"}


def test_all_tasks_are_domains_and_take_what_users_type(domains: dict[str, Symbolic]) -> None:
    assert set(TASKS) <= set(DOMAINS)
    assert domains["prim_fwd"].spec_of_user("x*cos(x)") == XCOSX
    assert domains["ode1"].key(GROWTH + "  ") == GROWTH
    assert domains["prim_fwd"].akin == ("prim_bwd", "prim_ibp")


def test_options_that_cannot_be_are_refused() -> None:
    for option, value in (("check_timeout_s", 0.0), ("num_check_workers", 0), ("check_memory_mb", -1)):
        with pytest.raises(ConfigError, match=option):
            make_domain("ode1", {option: value})
    with pytest.raises(ConfigError, match="did you mean check_timeout_s"):
        make_domain("ode1", {"check_timeouts": 1.0})


@pytest.mark.slow  # processes that draw import torch
def test_drawn_problems_are_verified_and_follow_from_their_numbers(domains: dict[str, Symbolic]) -> None:
    domain = domains["prim_bwd"]
    found = [domain.problem(0, "test", index) for index in range(2)]
    domain._drawer.pool.close()
    assert all(verdict.holds for verdict in domain.gold_verdicts(found))
    assert found[1] == domain.problem(0, "test", 1)
    domain._drawer.pool.close()
