r"""Problems and answers as people read them, in infix and LaTeX, with the check of an answer written out.

What sympy may take for ever over is done in a process that can be killed. The lines of an integral's answer:

    answer      x*sin(x) + cos(x)
    in LaTeX    x \sin{\left(x \right)} + \cos{\left(x \right)}
    derivative  x*cos(x)
    it minus x*cos(x) is 0
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from generator.domains.base import MalformedError
from generator.domains.symbolic.infix import to_infix
from generator.domains.symbolic.latex import to_latex
from generator.domains.symbolic.notation import LEAD
from generator.domains.symbolic.pool import Pool
from generator.domains.symbolic.prefix import FUNCTION, X, expression_of

_SOUGHT = FUNCTION(X)
_TIMEOUT_S = 10.0
_MAX_WRITTEN = 400  # characters of an expression


@dataclass(frozen=True)
class Question:
    """A problem and an answer to it.

    Attributes:
        spec: of an integral the whole of it, with its lead
        program: the answer
        is_equation: whether the problem is a differential equation
    """

    spec: str
    program: str
    is_equation: bool


def statement(spec: str, *, is_equation: bool) -> str:
    """Return a problem in infix and in LaTeX, in two lines.

    >>> print(statement("sub Y' mul x cos x", is_equation=False))
    integral    x*cos(x)
    in LaTeX    \\int x \\cos{\\left(x \\right)}\\, dx
    """
    if is_equation:
        equation = expression_of(spec)
        return _rows(("equation", f"{to_infix(equation)} = 0"), ("in LaTeX", f"{to_latex(equation)} = 0"))
    integrand = expression_of(spec.removeprefix(LEAD))
    written = to_latex(integrand)
    if integrand.is_Add:
        written = rf"\left({written}\right)"
    return _rows(("integral", to_infix(integrand)), ("in LaTeX", rf"\int {written}\, dx"))


def answer_in_infix(program: str) -> str:
    """Return an answer in infix; one that is malformed as it is."""
    try:
        return to_infix(expression_of(program))
    except MalformedError:
        return program


def explanation(spec: str, program: str, *, is_equation: bool, timeout_s: float = _TIMEOUT_S) -> str:
    """Return an answer in infix and LaTeX, and its derivatives put into the problem, as far as the time is enough."""
    with Pool(worked_out, 1, timeout_s) as pool:
        [result] = pool.map([Question(spec, program, is_equation)])
    if result.value is not None:
        return result.value
    reason = f"was not worked out in {timeout_s:g} s" if result.kind == "timeout" else result.message
    return _rows(("answer", program), ("its check", reason))


def worked_out(question: Question) -> str:
    """Return what `explanation` does, however long it takes."""
    try:
        answer = expression_of(question.program)
    except MalformedError as error:
        return _rows(("answer", question.program), ("malformed", str(error)))
    rows = [("answer", to_infix(answer)), ("in LaTeX", to_latex(answer))]
    first = answer.diff(X)
    if not question.is_equation:
        integrand = expression_of(question.spec.removeprefix(LEAD))
        rows.append(("derivative", to_infix(first)))
        return f"{_rows(*rows)}\nit minus {_cut(to_infix(integrand))} {_as_zero(first - integrand)}"
    equation, second = expression_of(question.spec), first.diff(X)
    rows.append(("y'", to_infix(first)))
    derivatives = {_SOUGHT: answer, _SOUGHT.diff(X): first, _SOUGHT.diff(X, 2): second}
    if equation.has(_SOUGHT.diff(X, 2)):
        rows.append(("y''", to_infix(second)))
    return f"{_rows(*rows)}\nput into the equation, its left side {_as_zero(equation.xreplace(derivatives))}"


def _as_zero(difference: sp.Expr) -> str:
    """What is left of what should be 0."""
    if difference == 0:
        return "is 0"
    left = sp.simplify(difference)
    if left == 0:
        return f"simplifies to 0; it is {_cut(to_infix(difference))}"
    return f"does not simplify to 0; what is left is {_cut(to_infix(left))}"


def _rows(*rows: tuple[str, str]) -> str:
    return "\n".join(f"{label:<11} {_cut(text)}" for label, text in rows)


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_WRITTEN else f"{text[: _MAX_WRITTEN - 3]}..."
