"""Problems and answers in infix and LaTeX, and the check of an answer, line by line."""

import pytest
import sympy as sp

from generator.domains.base import MalformedError
from generator.domains.symbolic.checker import Question
from generator.domains.symbolic.derivations import worked_out
from generator.domains.symbolic.explain import explanation, in_infix, statement
from generator.domains.symbolic.prefix import X, text_of

INTEGRAL = "sub Y' mul x cos x"
EQUATION = "add Y'' Y"


def check(spec: str, program: str) -> str:
    """What is said of an answer."""
    return worked_out(("check", Question(spec, program)))


def test_problems_are_written_in_infix_and_latex() -> None:
    assert statement(INTEGRAL).splitlines() == [
        "integral    x*cos(x)",
        r"in LaTeX    \int x \cos{\left(x \right)}\, dx",
    ]
    assert statement("sub Y' add INT+ 1 x").endswith(r"\int \left(x + 1\right)\, dx")
    assert statement(EQUATION).splitlines() == ["equation    y + y'' = 0", "in LaTeX    y + y'' = 0"]


def test_an_answer_is_shown_with_its_derivative() -> None:
    assert worked_out(("answer", Question(INTEGRAL, "add cos x mul x sin x"))).splitlines() == [
        "answer      x*sin(x) + cos(x)",
        r"in LaTeX    x \sin{\left(x \right)} + \cos{\left(x \right)}",
        "derivative  x*cos(x)",
    ]
    lines = worked_out(("answer", Question(EQUATION, "mul a8 sin x"))).splitlines()
    assert lines[2:] == ["y'          a8*cos(x)", "y''         -a8*sin(x)"]
    assert "y''" not in worked_out(("answer", Question("add Y' Y", "exp x")))


@pytest.mark.parametrize(
    ("spec", "program", "ending"),
    [
        (INTEGRAL, "add cos x mul x sin x", "it minus x*cos(x) is 0"),
        (INTEGRAL, "sin x", "it minus x*cos(x) is -x*cos(x) + cos(x), which is not 0"),
        ("sub Y' add INT+ 1 x", "x", "it minus (x + 1) is -x, which is not 0"),
        ("sub Y' mul INT- 1 x", "x", "it minus (-x) is x + 1, which is not 0"),
        (
            "sub Y' pow sin x INT+ 2",
            "mul div INT+ 1 INT+ 2 add x mul INT- 1 mul sin x cos x",
            "it minus sin(x)**2 is -sin(x)**2/2 - cos(x)**2/2 + 1/2, which simplifies to 0",
        ),
        (EQUATION, "add mul a8 sin x mul a9 cos x", "put into the equation, its left side is 0"),
        (EQUATION, "exp x", "put into the equation, its left side is 2*exp(x), which is not 0"),
        ("add Y' mul INT- 1 Y", "mul a8 exp x", "its left side is 0"),
    ],
)
def test_what_is_left_is_said(spec: str, program: str, ending: str) -> None:
    assert check(spec, program).endswith(ending)


def test_what_takes_too_long_is_left_out_and_said() -> None:
    assert explanation(INTEGRAL, "add cos x mul x sin x", 60).endswith("\nit minus x*cos(x) is 0")
    assert explanation(INTEGRAL, "sin x", 1e-5).splitlines() == [
        "answer      was not worked out in 1e-05 s",
        "check       was not worked out in 1e-05 s",
    ]


def test_an_answer_that_is_none_stays_as_it_is() -> None:
    assert in_infix("mul x sin x") == "x*sin(x)"
    assert in_infix("mul x") == "mul x"
    with pytest.raises(MalformedError):
        check(INTEGRAL, "mul x")


def test_long_expressions_are_cut() -> None:
    answer = sum(sp.sin(n * X) for n in range(2, 60))
    spec, program = f"sub Y' {text_of(answer.diff(X))}", text_of(answer)
    lines = worked_out(("answer", Question(spec, program))).splitlines()
    assert all(len(line) < 450 and line.endswith("...") for line in lines)
    assert check(spec, program).endswith("... is 0")
