"""Expressions near a point: sqrt(u**2) is u where u is positive, asin(sin(u)) is u + pi where it says so, and so on.

A solution of a differential equation often solves it on one branch alone: sin(x + c) solves y' = sqrt(1 - y**2) where
cos(x + c) is positive. What is 0 in the form that an expression has near a point is 0 around that point, exactly: signs
and branches are read off values with bounds on their errors, and stay the same in a neighbourhood.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy as sp

from generator.domains.symbolic.bounds import Undefined, enclose, mp

Point = Mapping[sp.Symbol, float]

_MAX_PASSES = 3


def near(expression: sp.Expr, point: Point) -> sp.Expr:
    """Return what an expression is around a point, with as few roots, logarithms and inverses as are found.

    Raises:
        Undefined: if something in it has no real value at the point, or a sign is not known there
    """
    for _ in range(_MAX_PASSES):
        before, expression = expression, _rewritten(expression, point)
        if before == expression:
            break
    return expression


def _rewritten(expression: sp.Expr, point: Point) -> sp.Expr:
    done: dict[sp.Basic, sp.Expr] = {}
    waiting = [expression]
    while waiting:
        part = waiting[-1]
        missing = [operand for operand in part.args if operand not in done]
        if part in done or not missing:
            waiting.pop()
            if part not in done:
                rebuilt = part.func(*[done[operand] for operand in part.args]) if part.args else part
                done[part] = _local(rebuilt, point)
        else:
            waiting += missing
    return done[expression]


def _local(part: sp.Expr, point: Point) -> sp.Expr:
    """The local form of an expression whose operands are in theirs."""
    if part.is_Mul:
        return _product(part, point)
    if part.is_Pow and part.exp.is_Rational and not part.exp.is_Integer:
        return _root(part.base, part.exp, point)
    if part.func in _RULES and len(part.args) == 1:
        return _RULES[part.func](part, part.args[0], point)
    return part


def _real(expression: sp.Expr, point: Point) -> tuple[Any, Any]:
    """The least and the greatest value that an expression may have at a point."""
    ball, is_real = enclose(expression, {symbol: point[symbol] for symbol in expression.free_symbols})
    if not is_real:
        raise Undefined("not real")
    return ball.middle - ball.radius, ball.middle + ball.radius


def _sign(expression: sp.Expr, point: Point) -> int:
    low, high = _real(expression, point)
    if low > 0:
        return 1
    if high < 0:
        return -1
    raise Undefined("the sign is not known")


# ------------------------------------------------------------------------------------------------
# Roots


def _root(base: sp.Expr, exponent: sp.Rational, point: Point) -> sp.Expr:
    """A positive base to a power: each factor u**n of the base becomes (s * u)**(n * exponent), s its sign."""
    if base.is_number or _sign(base, point) < 0:
        return sp.Pow(base, exponent)
    factored = sp.factor(_without_squares(base))
    product: sp.Expr = sp.S.One
    for factor in sp.Mul.make_args(factored):
        inner, power = factor.as_base_exp()
        if isinstance(factor, sp.exp):
            product *= sp.exp(factor.exp * exponent)
        elif inner.is_number:
            product *= sp.Pow(sp.Abs(factor), exponent)
        else:
            product *= sp.Pow(_sign(inner, point) * inner, power * exponent)
    return product


def _product(part: sp.Expr, point: Point) -> sp.Expr:
    """Square roots of positive factors in one: sqrt(y - 1) * sqrt(y + 1) is sqrt(y**2 - 1)."""
    below, others = dict[sp.Expr, list[sp.Expr]](), list[sp.Expr]()
    for factor in part.args:
        is_root = factor.is_Pow and abs(factor.exp) == sp.S.Half and not factor.base.is_number
        if is_root and _sign(factor.base, point) > 0:
            below.setdefault(factor.exp, []).append(factor.base)
        else:
            others.append(factor)
    if all(len(bases) == 1 for bases in below.values()):
        return part
    return sp.Mul(*others, *[_root(sp.expand(sp.Mul(*bases)), exp, point) for exp, bases in below.items()])


_SQUARES: Mapping[Any, Callable[[sp.Expr], sp.Expr]] = {
    sp.sin: lambda u: 1 - sp.cos(u) ** 2,
    sp.cos: lambda u: 1 - sp.sin(u) ** 2,
    sp.tan: lambda u: 1 / sp.cos(u) ** 2 - 1,
    sp.sinh: lambda u: sp.cosh(u) ** 2 - 1,
    sp.cosh: lambda u: 1 + sp.sinh(u) ** 2,
    sp.tanh: lambda u: 1 - 1 / sp.cosh(u) ** 2,
}


def _without_squares(base: sp.Expr) -> sp.Expr:
    """A sum that is one term once a square is written another way: 1 - sin(u)**2 is cos(u)**2."""
    if not base.is_Add:
        return base
    for function in base.atoms(*_SQUARES):
        changed = sp.expand(base.subs(function**2, _SQUARES[function.func](function.args[0])))
        if not changed.is_Add:
            return changed
    return base


# ------------------------------------------------------------------------------------------------
# Functions


def _abs(part: sp.Expr, operand: sp.Expr, point: Point) -> sp.Expr:
    return _sign(operand, point) * operand


def _sign_of(part: sp.Expr, operand: sp.Expr, point: Point) -> sp.Expr:
    return sp.Integer(_sign(operand, point))


def _log(part: sp.Expr, operand: sp.Expr, point: Point) -> sp.Expr:
    """The logarithm of a positive value: a sum of those of its factors."""
    if operand.is_number or _sign(operand, point) < 0:
        return part
    terms: sp.Expr = sp.S.Zero
    for factor in sp.Mul.make_args(sp.factor(operand)):
        inner, power = factor.as_base_exp()
        if isinstance(factor, sp.exp):
            terms += factor.exp
        elif inner.is_number:
            terms += sp.log(sp.Abs(factor))
        else:
            terms += power * sp.log(_sign(inner, point) * inner)
    return terms


def _floor(expression: sp.Expr, point: Point) -> sp.Integer:
    low, high = (int(mp.floor(end)) for end in _real(expression, point))
    if low != high:
        raise Undefined("the branch is not known")
    return sp.Integer(low)


def _asin(part: sp.Expr, operand: sp.Expr, point: Point) -> sp.Expr:
    if not isinstance(operand, sp.sin):
        return part
    (u,) = operand.args
    k = _floor(u / sp.pi + sp.S.Half, point)
    return (-1) ** k * (u - k * sp.pi)


def _acos(part: sp.Expr, operand: sp.Expr, point: Point) -> sp.Expr:
    if not isinstance(operand, sp.cos):
        return part
    (u,) = operand.args
    k = _floor(u / sp.pi, point)
    return u - k * sp.pi if k % 2 == 0 else (k + 1) * sp.pi - u


def _atan(part: sp.Expr, operand: sp.Expr, point: Point) -> sp.Expr:
    if not isinstance(operand, sp.tan):
        return part
    (u,) = operand.args
    return u - _floor(u / sp.pi + sp.S.Half, point) * sp.pi


def _acosh(part: sp.Expr, operand: sp.Expr, point: Point) -> sp.Expr:
    return _sign(operand.args[0], point) * operand.args[0] if isinstance(operand, sp.cosh) else part


def _of_odd(inverted: type[sp.Expr]) -> Callable[[sp.Expr, sp.Expr, Point], sp.Expr]:
    return lambda part, operand, point: operand.args[0] if isinstance(operand, inverted) else part


_RULES: Mapping[Any, Callable[[sp.Expr, sp.Expr, Point], sp.Expr]] = {
    sp.Abs: _abs,
    sp.sign: _sign_of,
    sp.log: _log,
    sp.asin: _asin,
    sp.acos: _acos,
    sp.atan: _atan,
    sp.acosh: _acosh,
    sp.asinh: _of_odd(sp.sinh),
    sp.atanh: _of_odd(sp.tanh),
}
