"""The check of an answer, written out; this runs in a child process, as sympy may take for ever over it."""

from __future__ import annotations

from typing import Literal

import sympy as sp

from generator.domains.symbolic.checker import Question, Step, read_answer, read_problem, residual, take_step
from generator.domains.symbolic.prefix import X, expression_of
from generator.domains.symbolic.printing import to_infix, to_latex
from generator.domains.symbolic.vocabulary import LEAD

Part = Literal["answer", "check"]
PARTS: tuple[Part, ...] = ("answer", "check")

_STEPS: tuple[Step, ...] = ("screen", "rewrite", "simplify")
_MAX_WRITTEN = 400  # characters of an expression


def worked_out(task: tuple[Part, Question]) -> str:
    """Return a part of an explanation, however long it takes: the answer and its derivatives, or what the check says.

    Raises:
        MalformedError: if the answer is none
    """
    part, question = task
    return _answer(question) if part == "answer" else _check(question)


def _answer(question: Question) -> str:
    answer = read_answer(question.answer)
    first = answer.diff(X)
    lines = [("answer", to_infix(answer)), ("in LaTeX", to_latex(answer))]
    if is_integral(question.spec):
        return rows(*lines, ("derivative", to_infix(first)))
    lines.append(("y'", to_infix(first)))
    if read_problem(question.spec)[1] == 2:
        lines.append(("y''", to_infix(first.diff(X))))
    return rows(*lines)


def _check(question: Question) -> str:
    left = residual(question)
    if not is_integral(question.spec):
        return f"put into the equation, its left side {_as_zero(question, left)}"
    integrand = to_infix(expression_of(question.spec.removeprefix(LEAD)))
    if " " in integrand or integrand.startswith("-"):
        integrand = f"({integrand})"
    return f"it minus {_cut(integrand)} {_as_zero(question, left)}"


def _as_zero(question: Question, left: sp.Expr) -> str:
    """What is said of what should be 0: by the steps of the checker, which decide exactly."""
    if left == 0:
        return "is 0"
    for step in _STEPS:
        kind = take_step((step, question)).kind
        if kind == "verified":
            return f"is {_cut(to_infix(left))}, which simplifies to 0"
        if kind == "rejected":
            return f"is {_cut(to_infix(left))}, which is not 0"
    return f"is {_cut(to_infix(left))}, which does not simplify to 0"


def is_integral(spec: str) -> bool:
    """Whether a problem is an integral; else it is an equation."""
    return spec.startswith(f"{LEAD} ")


def rows(*lines: tuple[str, str]) -> str:
    """Return texts with their labels, each in a line and not too long."""
    return "\n".join(f"{label:<11} {_cut(text)}" for label, text in lines)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_WRITTEN else f"{text[: _MAX_WRITTEN - 3]}..."
