r"""Problems and answers as people read them, in infix and LaTeX, with the check of an answer written out.

What sympy may take for ever over is done in a process that can be killed. The lines of an integral's answer:

    answer      x*sin(x) + cos(x)
    in LaTeX    x \sin{\left(x \right)} + \cos{\left(x \right)}
    derivative  x*cos(x)
    it minus x*cos(x) is 0
"""

from __future__ import annotations

from typing import Literal

import sympy as sp

from generator.domains.base import MalformedError
from generator.domains.symbolic.checker import Question, Step, read_answer, read_problem, residual, take_step
from generator.domains.symbolic.infix import to_infix
from generator.domains.symbolic.latex import to_latex
from generator.domains.symbolic.notation import LEAD
from generator.domains.symbolic.pool import Pool
from generator.domains.symbolic.prefix import X, expression_of

Part = Literal["answer", "check"]

_STEPS: tuple[Step, ...] = ("screen", "rewrite", "simplify")
_MAX_WRITTEN = 400  # characters of an expression


def statement(spec: str) -> str:
    r"""Return a problem in infix and in LaTeX, in two lines.

    >>> print(statement("sub Y' mul x cos x"))
    integral    x*cos(x)
    in LaTeX    \int x \cos{\left(x \right)}\, dx
    """
    if _is_integral(spec):
        integrand = expression_of(spec.removeprefix(LEAD))
        written = rf"\left({to_latex(integrand)}\right)" if integrand.is_Add else to_latex(integrand)
        return _rows(("integral", to_infix(integrand)), ("in LaTeX", rf"\int {written}\, dx"))
    equation = expression_of(spec)
    return _rows(("equation", f"{to_infix(equation)} = 0"), ("in LaTeX", f"{to_latex(equation)} = 0"))


def in_infix(program: str) -> str:
    """Return an answer in infix; one that is malformed as it is."""
    try:
        return to_infix(expression_of(program))
    except MalformedError:
        return program


def explanation(spec: str, program: str, timeout_s: float) -> str:
    """Return an answer in infix and LaTeX, and its derivatives put into the problem, as far as the time is enough.

    Args:
        spec: of the problem
        program: prefix words of the answer
        timeout_s: for each of the two parts of the lines, see `worked_out`
    """
    question, parts = Question(spec, program), list[str]()
    with Pool(worked_out, 1, timeout_s) as pool:
        for (label, _), result in zip(_PARTS.items(), pool.map([(part, question) for part in _PARTS]), strict=True):
            failure = f"was not worked out in {timeout_s:g} s" if result.kind == "timeout" else result.message
            parts.append(result.value if result.value is not None else _rows((label, failure)))
    return "\n".join(parts)


def worked_out(task: tuple[Part, Question]) -> str:
    """Return a part of an explanation, however long it takes: the answer and its derivatives, or what the check says.

    Raises:
        MalformedError: if the answer is none
    """
    part, question = task
    return _PARTS[part](question)


def _answer(question: Question) -> str:
    answer = read_answer(question.answer)
    first = answer.diff(X)
    rows = [("answer", to_infix(answer)), ("in LaTeX", to_latex(answer))]
    if _is_integral(question.spec):
        return _rows(*rows, ("derivative", to_infix(first)))
    rows.append(("y'", to_infix(first)))
    if read_problem(question.spec)[1] == 2:
        rows.append(("y''", to_infix(first.diff(X))))
    return _rows(*rows)


def _check(question: Question) -> str:
    left = residual(question)
    if not _is_integral(question.spec):
        return f"put into the equation, its left side {_as_zero(question, left)}"
    integrand = to_infix(expression_of(question.spec.removeprefix(LEAD)))
    return f"it minus {_cut(integrand if integrand.count(' ') == 0 else f'({integrand})')} {_as_zero(question, left)}"


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


_PARTS = {"answer": _answer, "check": _check}


def _is_integral(spec: str) -> bool:
    return spec.startswith(f"{LEAD} ")


def _rows(*rows: tuple[str, str]) -> str:
    return "\n".join(f"{label:<11} {_cut(text)}" for label, text in rows)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_WRITTEN else f"{text[: _MAX_WRITTEN - 3]}..."
