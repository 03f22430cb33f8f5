"""Sympy's expressions, written in infix and in LaTeX."""

from __future__ import annotations

from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter


class _InfixPrinter(StrPrinter):  # type: ignore[misc]
    """Writes as sympy does, with y for the function that is sought."""

    def _print_AppliedUndef(self, expr: Any) -> str:
        return "y"

    def _print_Derivative(self, expr: Any) -> str:
        return f"y{expr.derivative_count * chr(39)}"


def to_infix(expression: sp.Expr) -> str:
    """Return an expression as people type it; sympy and `notation` read it.

    >>> from generator.domains.symbolic.prefix import expression_of
    >>> to_infix(expression_of("add mul x Y' mul INT- 1 ln abs x"))
    "x*y' - log(Abs(x))"
    """
    return str(_InfixPrinter().doprint(expression))


class _LatexPrinter(LatexPrinter):  # type: ignore[misc]
    """Writes as sympy does, with y for the function that is sought."""

    def _print_AppliedUndef(self, expr: Any, exp: str | None = None) -> str:
        return "y" if exp is None else rf"y^{{{exp}}}"

    def _print_Derivative(self, expr: Any) -> str:
        return f"y{expr.derivative_count * chr(39)}"


def to_latex(expression: sp.Expr) -> str:
    r"""Return an expression in LaTeX.

    >>> from generator.domains.symbolic.prefix import expression_of
    >>> to_latex(expression_of("mul x ln abs x"))
    'x \\ln{\\left(\\left|{x}\\right| \\right)}'
    """
    settings = {"ln_notation": True, "inv_trig_style": "full"}
    return str(_LatexPrinter(settings).doprint(expression))
