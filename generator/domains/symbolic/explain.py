r"""Problems and answers as people read them, in infix and LaTeX, with the check of an answer written out.

What sympy may take for ever over is done in a process that can be killed. The lines of an integral's answer:

    answer      x*sin(x) + cos(x)
    in LaTeX    x \sin{\left(x \right)} + \cos{\left(x \right)}
    derivative  x*cos(x)
    it minus x*cos(x) is 0
"""

from __future__ import annotations

from generator.domains.base import MalformedError
from generator.domains.symbolic.checker import Question
from generator.domains.symbolic.derivations import PARTS, is_integral, rows, worked_out
from generator.domains.symbolic.pool import Pool
from generator.domains.symbolic.prefix import expression_of
from generator.domains.symbolic.printing import to_infix, to_latex
from generator.domains.symbolic.vocabulary import LEAD


def statement(spec: str) -> str:
    r"""Return a problem in infix and in LaTeX, in two lines.

    >>> print(statement("sub Y' mul x cos x"))
    integral    x*cos(x)
    in LaTeX    \int x \cos{\left(x \right)}\, dx
    """
    if is_integral(spec):
        integrand = expression_of(spec.removeprefix(LEAD))
        written = rf"\left({to_latex(integrand)}\right)" if integrand.is_Add else to_latex(integrand)
        return rows(("integral", to_infix(integrand)), ("in LaTeX", rf"\int {written}\, dx"))
    equation = expression_of(spec)
    return rows(("equation", f"{to_infix(equation)} = 0"), ("in LaTeX", f"{to_latex(equation)} = 0"))


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
        timeout_s: for each of the two parts of the lines, see `derivations`
    """
    question, parts = Question(spec, program), list[str]()
    with Pool(worked_out, 1, timeout_s) as pool:
        for part, result in zip(PARTS, pool.map([(part, question) for part in PARTS]), strict=True):
            failure = f"was not worked out in {timeout_s:g} s" if result.kind == "timeout" else result.message
            parts.append(result.value if result.value is not None else rows((part, failure)))
    return "\n".join(parts)
