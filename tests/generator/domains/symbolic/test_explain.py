"""Problems and answers in infix and LaTeX, and the check of an answer, line by line."""

import pytest
import sympy as sp

from generator.domains.symbolic.explain import Question, answer_in_infix, explanation, statement, worked_out
from generator.domains.symbolic.prefix import X, text_of

INTEGRAL = "sub Y' mul x cos x"
EQUATION = "add Y'' Y"


def test_problems_are_written_in_infix_and_latex() -> None:
    assert statement(INTEGRAL, is_equation=False).splitlines() == [
        "integral    x*cos(x)",
        r"in LaTeX    \int x \cos{\left(x \right)}\, dx",
    ]
    assert statement("sub Y' add INT+ 1 x", is_equation=False).endswith(r"\int \left(x + 1\right)\, dx")
    assert statement(EQUATION, is_equation=True).splitlines() == [
        "equation    y + y'' = 0",
        "in LaTeX    y + y'' = 0",
    ]


def test_the_derivative_of_an_answer_is_written_out_and_compared() -> None:
    lines = worked_out(Question(INTEGRAL, "add cos x mul x sin x", is_equation=False)).splitlines()
    assert lines == [
        "answer      x*sin(x) + cos(x)",
        r"in LaTeX    x \sin{\left(x \right)} + \cos{\left(x \right)}",
        "derivative  x*cos(x)",
        "it minus x*cos(x) is 0",
    ]


@pytest.mark.parametrize(
    ("spec", "program", "ending"),
    [
        (INTEGRAL, "sin x", "it minus x*cos(x) does not simplify to 0; what is left is (1 - x)*cos(x)"),
        (
            "sub Y' pow sin x INT+ 2",
            "mul div INT+ 1 INT+ 2 add x mul INT- 1 mul sin x cos x",
            "simplifies to 0; it is -sin(x)**2/2 - cos(x)**2/2 + 1/2",
        ),
        (EQUATION, "add mul a8 sin x mul a9 cos x", "put into the equation, its left side is 0"),
        (EQUATION, "exp x", "its left side does not simplify to 0; what is left is 2*exp(x)"),
        ("add Y' mul INT- 1 Y", "mul a8 exp x", "its left side is 0"),
        (INTEGRAL, "add x", "malformed   'add' takes 2 operands, and only 1 follow"),
    ],
)
def test_what_is_left_is_said(spec: str, program: str, ending: str) -> None:
    assert worked_out(Question(spec, program, is_equation=not spec.startswith("sub Y'"))).endswith(ending)


def test_the_derivatives_that_an_equation_has_are_written_out() -> None:
    lines = worked_out(Question(EQUATION, "mul a8 sin x", is_equation=True)).splitlines()
    assert "y'          a8*cos(x)" in lines and "y''         -a8*sin(x)" in lines
    first = worked_out(Question("add Y' Y", "exp x", is_equation=True))
    assert "y' " in first and "y''" not in first


def test_what_takes_too_long_is_left_out_and_said() -> None:
    found = explanation(INTEGRAL, "add cos x mul x sin x", is_equation=False)
    assert found.endswith("it minus x*cos(x) is 0")
    late = explanation(INTEGRAL, "sin x", is_equation=False, timeout_s=1e-5)
    assert late.splitlines() == ["answer      sin x", "its check   was not worked out in 1e-05 s"]


def test_an_answer_that_is_none_stays_as_it_is() -> None:
    assert answer_in_infix("mul x sin x") == "x*sin(x)"
    assert answer_in_infix("mul x") == "mul x"


def test_long_expressions_are_cut() -> None:
    answer = sum(sp.sin(n * X) for n in range(2, 60))
    question = Question(f"sub Y' {text_of(answer.diff(X))}", text_of(answer), is_equation=False)
    lines = worked_out(question).splitlines()
    assert all(len(line) < 900 for line in lines) and "..." in lines[0] and lines[-1].endswith("is 0")
