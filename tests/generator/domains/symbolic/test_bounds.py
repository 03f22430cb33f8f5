"""Values with bounds on their errors: the true value is always within, and branch cuts and poles have none."""

from __future__ import annotations

import pytest
import sympy as sp

from generator.domains.symbolic import bounds
from generator.domains.symbolic.bounds import Ball, Undefined, determinant, enclose, mp
from generator.domains.symbolic.prefix import X

PLACES = (-6.5, -1.5, -0.5, 0.25, 0.75, 2.5)


def true_value(expression: sp.Expr, place: float) -> object:
    real, imaginary = expression.subs(X, sp.Rational(place)).evalf(70).as_real_imag()
    with mp.workprec(260):
        return mp.mpc(str(real), str(imaginary))


@pytest.mark.parametrize("function", bounds._FUNCTIONS, ids=str)
def test_the_value_of_every_function_is_within_its_bounds(function: type[sp.Expr]) -> None:
    for place in PLACES:
        for argument in (X, X + sp.I / 3, sp.sqrt(X) + 1):
            expression = function(argument)
            ball, _ = enclose(expression, {X: place})
            assert abs(true_value(expression, place) - ball.middle) <= ball.radius + mp.mpf(10) ** -60, expression
            assert ball.radius < 1e-35


@pytest.mark.parametrize("text", ["x**(2/3)", "x**x", "(x + I)**(1/5)", "x**-3", "sqrt(x**2 + 1)", "pi**x - E**x"])
def test_powers_are_within_their_bounds(text: str) -> None:
    expression = sp.sympify(text, {"x": X})  # of the text of this test, and no other
    for place in PLACES:
        ball, _ = enclose(expression, {X: place})
        assert abs(true_value(expression, place) - ball.middle) <= ball.radius + mp.mpf(10) ** -60


def test_what_is_zero_is_never_said_to_be_something_else() -> None:
    for zero in (
        sp.sin(X) ** 2 + sp.cos(X) ** 2 - 1,
        sp.sqrt(X**2) - sp.Abs(X),
        sp.exp(sp.log(X**2 + 1)) - X**2 - 1,
        sp.tan(X) - sp.sin(X) / sp.cos(X),
        (X + 1) ** 20 - sp.expand((X + 1) ** 20),
        sp.log(X**2 + 2 * X + 2) - sp.log((X + 1) ** 2 + 1),
    ):
        for place in PLACES:
            ball, _ = enclose(zero, {X: place})
            assert not ball.excludes_zero and ball.radius < 1e-20


def test_the_smallest_difference_is_seen() -> None:
    gap = sp.Rational(1, 10**30)
    ball, is_real = enclose(sp.sin(X) ** 2 + sp.cos(X) ** 2 - 1 + gap, {X: 0.75})
    assert ball.excludes_zero and is_real


def test_what_is_not_real_on_the_way_is_told() -> None:
    assert enclose(sp.sqrt(X) ** 2 + sp.log(X), {X: 2.5})[1]
    assert not enclose(sp.Abs(sp.sqrt(X - 3)), {X: 2.5})[1]


@pytest.mark.parametrize(
    ("expression", "place"),
    [
        (1 / (X - 1), 1.0),
        (sp.log(X - 1), 1.0),
        (sp.tan(X - 1) / sp.sin(X - 1), 1.0),
        (sp.exp(sp.exp(sp.exp(X))), 6.0),
        (X ** (10**9), 6.0),
        (sp.atanh(X), 1.0),
        (sp.asin(X), -1.0),
        (sp.sign(X - 1), 1.0),
        (sp.log(sp.I * (sp.sin(X) ** 2 + sp.cos(X) ** 2 - 1) - 1), 1.5),  # on the cut, but for errors
        (sp.gamma(X), 2.5),
    ],
)
def test_poles_cuts_and_what_is_too_large_have_no_value(expression: sp.Expr, place: float) -> None:
    with pytest.raises(Undefined):
        enclose(expression, {X: place})


def test_a_determinant_has_bounds_too() -> None:
    rows = [[Ball(mp.mpf(value), mp.mpf("0.1")) for value in row] for row in ((1, 2), (3, 5))]
    found = determinant(rows)
    assert found.middle == -1 and 1.1 < found.radius < 1.2 and not found.excludes_zero
    assert determinant([[Ball(mp.mpf(2), mp.zero)]]).excludes_zero
