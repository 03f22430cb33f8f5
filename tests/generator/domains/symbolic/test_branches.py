"""Expressions near a point: the branch of roots and inverses that is meant there, and no other."""

from __future__ import annotations

import pytest
import sympy as sp

from generator.domains.symbolic.bounds import Undefined, enclose
from generator.domains.symbolic.branches import near
from generator.domains.symbolic.checker import Finding, Question, is_zero, look, residual, take_step
from generator.domains.symbolic.prefix import SYMBOLS, X

A8 = SYMBOLS["a8"]
POINT = {X: 2.25, A8: -3.5}  # x + a8 is negative
U = X + A8

ROOTS = [
    (sp.sqrt(U**2), -U),
    ((U**3 * A8**3) ** sp.Rational(2, 3), U**2 * A8**2),
    (sp.sqrt(1 - sp.sin(U) ** 2), sp.cos(U)),
    (sp.sqrt(1 - sp.cos(U) ** 2), -sp.sin(U)),
    (sp.sqrt(1 + sp.tan(X) ** 2), -1 / sp.cos(X)),
    (sp.sqrt(sp.cosh(U) - 1) * sp.sqrt(sp.cosh(U) + 1), -sp.sinh(U)),
    (sp.Abs(U) + sp.sign(U), -U - 1),
    (sp.log(sp.exp(U * sp.log(X))), U * sp.log(X)),
    (sp.log(U**2 * X), 2 * sp.log(-U) + sp.log(X)),
    (sp.asin(sp.sin(3 * X)), -2 * sp.pi + 3 * X),
    (sp.asin(sp.sin(X)), sp.pi - X),
    (sp.acos(sp.cos(U)), -U),
    (sp.acos(sp.cos(2 * X)), 2 * sp.pi - 2 * X),
    (sp.atan(sp.tan(X)), X - sp.pi),
    (sp.acosh(sp.cosh(U)), -U),
    (sp.asinh(sp.sinh(U)) + sp.atanh(sp.tanh(U)), 2 * U),
]


@pytest.mark.parametrize(("expression", "wanted"), ROOTS, ids=str)
def test_roots_and_inverses_take_the_branch_of_the_point(expression: sp.Expr, wanted: sp.Expr) -> None:
    found = near(expression, POINT)
    assert sp.expand(found - wanted) == 0 or is_zero(found - wanted), found
    for form in (expression, found):
        ball, _ = enclose(form - wanted, POINT)
        assert not ball.excludes_zero


def test_what_is_not_real_or_has_no_sign_is_refused() -> None:
    for expression in (sp.Abs(sp.sqrt(U)), sp.Abs(X - sp.Rational(9, 4)), sp.asin(sp.sin(sp.log(U)))):
        with pytest.raises(Undefined):
            near(expression, POINT)


def test_a_solution_on_one_branch_is_proven_there_and_another_is_not() -> None:
    """Where cos(x + a8) is positive, sin(x + a8) solves y' = sqrt(1 - y ** 2)."""
    spec = "sub Y' sqrt sub INT+ 1 pow2 Y"

    def asked(answer: str, x: float) -> Finding:
        return take_step(("branch", Question(spec, answer, is_equation=True, place=(("a8", 0.25), ("x", x)))))

    assert asked("sin add x a8", 0.5).kind == "verified" and asked("sin add x a8", 0.5).is_general
    assert asked("sin add x a8", 2.5).kind is None
    assert asked("cos add x a8", 0.5).kind is None
    assert asked("cos add x a8", -1.0).kind == "verified"


def test_points_of_both_kinds_are_found() -> None:
    left = residual(Question("sub Y' sqrt sub INT+ 1 pow2 Y", "sin add x a8", is_equation=True))
    evidence = look(left, 100)
    assert evidence.real and evidence.vanishing and dict(evidence.place).keys() == {"a8", "x"}
    assert look(sp.sin(X) - X, 4).vanishing == 0 and look(sp.sin(X) - X, 4).real == 4
    assert look(sp.S.Zero, 4).real == 0
