"""`solve`, `check` and `inspect` of symbolic domains: what is typed, and what is printed."""

import re

import pytest

from common import NextstepError
from generator.domains import make_domain
from generator.domains.__main__ import main
from generator.domains.base import Problem, SpecError, Verdict
from generator.domains.solve import verdict_row
from tests.generator.domains.test_commands import run

CHOICE = ["--domain", "prim_bwd", "--domain_options.num_check_workers", 1]


@pytest.fixture
def in_one_process(monkeypatch):
    """Pools answer in this process: what is tested here is what is printed, and processes take seconds to start."""
    from generator.domains.symbolic.pool import Pool, Result

    def answered(self, items, timeout_s=None):
        for item in items:
            try:
                yield Result("value", self.function(item), seconds=0.01)
            except Exception as error:
                yield Result("error", message=str(error))

    monkeypatch.setattr(Pool, "map", answered)


def test_an_integrand_is_solved_checked_and_explained(in_one_process, capsys):
    run("solve", r"\int x \cos x \, dx", *CHOICE, "--writer", "sympy")
    printed = capsys.readouterr().out
    assert printed.startswith("sub Y' mul x cos x\n\nintegral    x*cos(x)\nin LaTeX    \\int x \\cos")
    assert "  + x*sin(x) + cos(x) verified\n" in printed
    assert re.search(r"solved by the first proposal, in \d+\.\d s, of which \d+\.\d s to check\n", printed)
    assert printed.endswith("derivative  x*cos(x)\nit minus x*cos(x) is 0\n")


def test_an_equation_is_solved_with_its_constants(in_one_process, capsys):
    run("solve", "y' - y = x", "--domain", "ode1", "--writer", "sympy")
    printed = capsys.readouterr().out
    assert "equation    -x - y + y' = 0" in printed and "  + a8*exp(x) - x - 1 verified" in printed
    assert printed.endswith("put into the equation, its left side is 0\n")


def test_an_integral_that_sympy_does_not_find_is_not_solved(in_one_process, capsys):
    run("solve", "exp(x)/x", *CHOICE, "--writer", "sympy", status=1)
    assert "not solved: the writer proposes nothing" in capsys.readouterr().out


def test_given_answers_are_judged_in_every_notation(in_one_process, capsys):
    choice = ["check", *CHOICE, "--spec", r"\frac{1}{x}", "--program"]
    for answer in ("ln|x| + C", r"\ln\left|5x\right|", "add a8 ln abs x"):
        run(*choice, answer)
        assert "verified" in capsys.readouterr().out
    run(*choice, "x", status=1)
    assert re.search(
        r"  - x +rejected .*\n\n(.*\n)+it minus 1/x is 1 - 1/x, which is not 0\n$", capsys.readouterr().out
    )


@pytest.mark.parametrize("program", ["import os", "__import__('os')", "x**", "sin"])
def test_an_answer_that_is_none_is_malformed_with_a_mark_where(program, capsys):
    run("check", *CHOICE, "--spec", "x", "--program", program, status=1)
    row, text, mark = capsys.readouterr().out.splitlines()
    assert row.startswith(f"  ? {program}") and "malformed" in row and text == f"  {program}" and mark.strip() == "^"


@pytest.mark.parametrize("spec", ["__import__('os')", "y' = x", "x*", "f(x)", ""])
def test_a_problem_that_is_none_is_an_error(spec):
    for command in (["solve", spec, "--writer", "sympy"], ["check", "--spec", spec, "--program", "x"]):
        with pytest.raises(SpecError):
            main([*map(str, [*command, *CHOICE])])
    with pytest.raises(NextstepError, match="no derivative of y"):
        main(["solve", "y = x", "--domain", "ode1", "--writer", "sympy"])


def test_proposals_are_shown_with_what_became_of_them():
    domain = make_domain("prim_bwd")
    rows = [
        verdict_row(domain, "mul x sin x", Verdict("verified"), -0.5),
        verdict_row(domain, "mul x", Verdict("malformed", "'mul' takes 2 operands, and only 1 follow"), -12.25),
        verdict_row(domain, "mul x cos x", Verdict("timeout", "was not decided in 10 s")),
    ]
    assert rows == [
        "  +    -0.50  x*sin(x)     verified",
        "  ?   -12.25  mul x        malformed  'mul' takes 2 operands, and only 1 follow",
        "  ~ mul x cos x  timeout  was not decided in 10 s",
    ]


def test_inspect_shows_words_and_infix_and_counts(in_one_process, monkeypatch, capsys):
    found = [Problem("sub Y' mul x cos x", "add cos x mul x sin x"), Problem("sub Y' exp x", "exp x")]
    domain = type(make_domain("prim_bwd"))
    monkeypatch.setattr(domain, "problems", lambda self, seed, split, count: found[:count])
    run("inspect", *CHOICE, "--num_problems", 2)
    printed = capsys.readouterr().out
    assert "problem 0: sub Y' mul x cos x -> add cos x mul x sin x\n\nintegral    x*cos(x)" in printed
    assert "answer      x*sin(x) + cos(x)" in printed and "\noperators\n" in printed and "\nwords\n" in printed
