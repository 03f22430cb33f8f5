"""What sympy itself answers to a problem; this runs in children of a pool, as it may take for ever."""

from __future__ import annotations

import sympy as sp

from generator.domains.symbolic.prefix import FUNCTION, SYMBOLS, UnwritableError, X, expression_of, text_of
from generator.domains.symbolic.vocabulary import LEAD

_CONSTANTS = {"C1": SYMBOLS["a8"], "C2": SYMBOLS["a9"]}


def solved_by_sympy(spec: str) -> list[str]:
    """Return the answers of sympy to a problem; it may take for ever.

    Raises:
        Exception: whatever sympy raises
    """
    if spec.startswith(f"{LEAD} "):
        found = _branches(sp.integrate(expression_of(spec.removeprefix(LEAD)), X))
    else:
        solutions = sp.dsolve(sp.Eq(expression_of(spec), 0), FUNCTION(X))
        equations = solutions if isinstance(solutions, list) else [solutions]
        found = [each.rhs for each in equations if each.lhs == FUNCTION(X)]
    answers = []
    for each in found:
        renamed = each.xreplace({symbol: _CONSTANTS.get(symbol.name, symbol) for symbol in each.free_symbols})
        try:
            answers.append(text_of(renamed))
        except UnwritableError:  # an integral that is left, a piecewise function, a special one
            continue
    return answers


def _branches(integral: sp.Expr) -> list[sp.Expr]:
    """The expressions of a piecewise integral, which the words cannot say as a whole; others as they are."""
    if not integral.has(sp.Piecewise):
        return [integral]
    folded = sp.piecewise_fold(integral)
    return [branch for branch, _ in folded.args] if isinstance(folded, sp.Piecewise) else []
