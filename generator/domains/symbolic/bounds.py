"""Values of expressions with bounds on their errors, so that one that is said not to be zero is not.

Every value is a ball: a middle of mpmath, and a radius that the true value is within. A ball whose middle is a real
number (mpf) holds real values alone. Functions follow the principal branches of sympy and mpmath; where a ball of
complex values touches a branch cut or a pole, there is no value (`Undefined`), and nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import mpmath  # type: ignore[import-untyped]
import sympy as sp

_PRECISION = 160  # bits; four points of a drawn integral's residual take 1.6 ms (Xeon, Sapphire Rapids)
_LARGEST = 1e5  # of an exponent of e: beyond it values are as good as infinite

mp: Any = mpmath.mp.clone()
mp.prec = _PRECISION
_ULP = mp.ldexp(1, 3 - _PRECISION)  # mpmath's functions are good to the last bits; this is eight of the last
_SLACK = mp.mpf(1) + mp.ldexp(1, -20)  # what radii are rounded up by


class Undefined(ArithmeticError):
    """There is no value, or none that can be bounded."""


class Ball(NamedTuple):
    """Where a value is: within `radius` of `middle`."""

    middle: Any
    radius: Any

    @property
    def is_real(self) -> bool:
        """Whether its values are real for sure."""
        return isinstance(self.middle, mp.mpf)

    @property
    def excludes_zero(self) -> bool:
        """Whether the value is not 0 for sure."""
        return bool(abs(self.middle) > self.radius)


def enclose(expression: sp.Expr, point: Mapping[sp.Symbol, Any]) -> tuple[Ball, bool]:
    """Return the value of an expression at a point, and whether everything within it is real there.

    Args:
        expression: of functions of the words
        point: exact values of all symbols

    Raises:
        Undefined: where there is none, or it is too large, or cannot be bounded
    """
    known: dict[sp.Basic, Ball] = {symbol: Ball(mp.mpf(value), mp.zero) for symbol, value in point.items()}
    waiting: list[sp.Expr] = [expression]
    is_real = True
    while waiting:
        part = waiting[-1]
        if part in known:
            waiting.pop()
            continue
        missing = [operand for operand in _operands(part) if operand not in known]
        if missing:
            waiting += missing
            continue
        ball = _value(part, known)
        if not (mp.isfinite(ball.middle) and mp.isfinite(ball.radius)):
            raise Undefined(f"{part.func} is infinite")
        known[part] = ball
        is_real &= ball.is_real
        waiting.pop()
    return known[expression], is_real


def determinant(rows: list[list[Ball]]) -> Ball:
    """Return the determinant of a matrix of one or two rows."""
    if len(rows) == 1:
        return rows[0][0]
    (a, b), (c, d) = rows
    return _sum([_times(a, d), _times(Ball(mp.mpf(-1), mp.zero), _times(b, c))])


def _operands(part: sp.Expr) -> tuple[sp.Expr, ...]:
    if part.is_Pow and part.exp.is_Rational:
        return (part.base,)
    return part.args if part.args and not part.is_Atom else ()


def _value(part: sp.Expr, known: Mapping[sp.Basic, Ball]) -> Ball:
    if part.is_Rational:
        return _rounded(mp.mpf(int(part.p)) / int(part.q), mp.zero)
    if part.is_Add:
        return _sum([known[each] for each in part.args])
    if part.is_Mul:
        product = known[part.args[0]]
        for each in part.args[1:]:
            product = _times(product, known[each])
        return product
    if part.is_Pow:
        if part.exp.is_Rational:
            return _power(known[part.base], part.exp)
        return _exp(_times(known[part.exp], _log(known[part.base])))
    if part in _CONSTANTS:
        return _rounded(_CONSTANTS[part](), mp.zero)
    function = _FUNCTIONS.get(part.func)
    if function is None:
        raise Undefined(f"{part.func} has no bounds")
    return function(known[part.args[0]])


def _rounded(middle: Any, radius: Any) -> Ball:
    """A ball around a value that mpmath rounded."""
    return Ball(middle, (radius + abs(middle) * _ULP) * _SLACK)


# ------------------------------------------------------------------------------------------------
# Arithmetic


def _sum(balls: list[Ball]) -> Ball:
    middle, radius = mp.mpf(0), mp.zero
    for ball in balls:
        middle, radius = _rounded(middle + ball.middle, radius + ball.radius)
    return Ball(middle, radius)


def _times(one: Ball, other: Ball) -> Ball:
    radius = abs(one.middle) * other.radius + abs(other.middle) * one.radius + one.radius * other.radius
    return _rounded(one.middle * other.middle, radius)


def _inverse(ball: Ball) -> Ball:
    size = _away_from_zero(ball)
    return _rounded(1 / ball.middle, ball.radius / (size * abs(ball.middle)))


def _away_from_zero(ball: Ball) -> Any:
    """The least size that a value can have."""
    size = abs(ball.middle) - ball.radius
    if size <= 0:
        raise Undefined("division by zero, or a logarithm of it")
    return size


def _power(ball: Ball, exponent: sp.Rational) -> Ball:
    if exponent.q == 1:
        return _whole_power(ball, int(exponent.p))
    if ball.middle == 0 and ball.radius == 0 and exponent.p > 0:
        return ball
    return _exp(_times(_log(ball), _rounded(mp.mpf(int(exponent.p)) / int(exponent.q), mp.zero)))


def _whole_power(ball: Ball, exponent: int) -> Ball:
    if exponent < 0:
        return _whole_power(_inverse(ball), -exponent)
    if abs(exponent * mp.log(1 + abs(ball.middle))) > _LARGEST:
        raise Undefined("too large")
    product, square = Ball(mp.mpf(1), mp.zero), ball
    while exponent:
        if exponent & 1:
            product = _times(product, square)
        square = _times(square, square)
        exponent >>= 1
    return product


# ------------------------------------------------------------------------------------------------
# Functions


def _exp(ball: Ball) -> Ball:
    if abs(ball.middle) > _LARGEST or ball.radius > 1:
        raise Undefined("too large")
    value = mp.exp(ball.middle)
    return _rounded(value, abs(value) * mp.expm1(ball.radius))


def _log(ball: Ball) -> Ball:
    size = _away_from_zero(ball)
    if not ball.is_real and ball.middle.real <= ball.radius and abs(ball.middle.imag) <= ball.radius:
        raise Undefined("at a branch cut")
    return _rounded(mp.log(ball.middle), ball.radius / size)


def _bounded(function: Callable[[Any], Any], slope: Callable[[Any], Any]) -> Callable[[Ball], Ball]:
    """A function that is entire, from a bound on its slope at values of up to a size (real ones, and complex ones)."""

    def value(ball: Ball) -> Ball:
        if abs(ball.middle) > _LARGEST or ball.radius > 1:
            raise Undefined("too large")
        return _rounded(function(ball.middle), ball.radius * slope(ball))

    return value


def _cosh_of_imaginary(ball: Ball) -> Any:
    return mp.mpf(1) if ball.is_real else mp.cosh(abs(ball.middle.imag) + ball.radius)


def _cosh_of_real(ball: Ball) -> Any:
    return mp.cosh(abs(mp.re(ball.middle)) + ball.radius)


_sin, _cos = _bounded(mp.sin, _cosh_of_imaginary), _bounded(mp.cos, _cosh_of_imaginary)
_sinh, _cosh = _bounded(mp.sinh, _cosh_of_real), _bounded(mp.cosh, _cosh_of_real)


def _quotient(one: Callable[[Ball], Ball], other: Callable[[Ball], Ball]) -> Callable[[Ball], Ball]:
    return lambda ball: _times(one(ball), _inverse(other(ball)))


def _then(first: Callable[[Ball], Ball], second: Callable[[Ball], Ball]) -> Callable[[Ball], Ball]:
    return lambda ball: second(first(ball))


_ONE, _MINUS, _HALF, _I = (Ball(value, mp.zero) for value in (mp.mpf(1), mp.mpf(-1), mp.mpf("0.5"), mp.mpc(0, 1)))


def _with_root(ball: Ball) -> Ball:
    """The root of 1 - z * z."""
    return _power(_sum([_ONE, _times(_MINUS, _times(ball, ball))]), sp.S.Half)


def _arc(function: Callable[[Any], Any], of_complex: Callable[[Ball], Ball]) -> Callable[[Ball], Ball]:
    """asin, acos, acosh: of a real value away from 1 and -1 the slope is that of a root; else by logarithms."""

    def value(ball: Ball) -> Ball:
        if not ball.is_real:
            return of_complex(ball)
        least = abs(abs(ball.middle) - 1) - ball.radius
        if least <= 0:
            raise Undefined("at a branch point")
        return _rounded(function(ball.middle), ball.radius / mp.sqrt(least))  # |z^2 - 1| >= ||z| - 1|

    return value


def _asin_of_complex(ball: Ball) -> Ball:
    return _times(_times(_MINUS, _I), _log(_sum([_times(_I, ball), _with_root(ball)])))


def _acos_of_complex(ball: Ball) -> Ball:
    return _sum([_rounded(mp.pi / 2, mp.zero), _times(_MINUS, _asin_of_complex(ball))])


def _acosh_of_complex(ball: Ball) -> Ball:
    roots = [_power(_sum([ball, shift]), sp.S.Half) for shift in (_ONE, _MINUS)]
    return _log(_sum([ball, _times(*roots)]))


def _atanh(ball: Ball) -> Ball:
    if not ball.is_real:
        minus = _times(_MINUS, ball)
        return _times(_HALF, _sum([_log(_sum([_ONE, ball])), _times(_MINUS, _log(_sum([_ONE, minus])))]))
    least = abs(abs(ball.middle) - 1) - ball.radius
    if least <= 0:
        raise Undefined("at a pole")
    return _rounded(mp.atanh(ball.middle), ball.radius / least)


def _atan(ball: Ball) -> Ball:
    if ball.is_real:
        return _rounded(mp.atan(ball.middle), ball.radius)
    return _times(_times(_MINUS, _I), _atanh(_times(_I, ball)))


def _asinh(ball: Ball) -> Ball:
    if ball.is_real:
        return _rounded(mp.asinh(ball.middle), ball.radius)
    return _times(_times(_MINUS, _I), _asin_of_complex(_times(_I, ball)))


def _abs(ball: Ball) -> Ball:
    return Ball(abs(ball.middle), ball.radius)


def _sign(ball: Ball) -> Ball:
    _away_from_zero(ball)
    if not ball.is_real:
        return _times(ball, _inverse(_abs(ball)))
    return Ball(mp.mpf(1 if ball.middle > 0 else -1), mp.zero)


_asin, _acos = _arc(mp.asin, _asin_of_complex), _arc(mp.acos, _acos_of_complex)
_acosh = _arc(mp.acosh, _acosh_of_complex)

_CONSTANTS: Mapping[sp.Basic, Callable[[], Any]] = {
    sp.pi: lambda: +mp.pi,
    sp.E: lambda: +mp.e,
    sp.I: lambda: mp.mpc(0, 1),
}
_FUNCTIONS: Mapping[Any, Callable[[Ball], Ball]] = {
    sp.exp: _exp,
    sp.log: _log,
    sp.Abs: _abs,
    sp.sign: _sign,
    sp.sin: _sin,
    sp.cos: _cos,
    sp.tan: _quotient(_sin, _cos),
    sp.cot: _quotient(_cos, _sin),
    sp.sec: _then(_cos, _inverse),
    sp.csc: _then(_sin, _inverse),
    sp.sinh: _sinh,
    sp.cosh: _cosh,
    sp.tanh: _quotient(_sinh, _cosh),
    sp.coth: _quotient(_cosh, _sinh),
    sp.sech: _then(_cosh, _inverse),
    sp.csch: _then(_sinh, _inverse),
    sp.asin: _asin,
    sp.acos: _acos,
    sp.atan: _atan,
    sp.asec: _then(_inverse, _acos),
    sp.acsc: _then(_inverse, _asin),
    sp.acot: _then(_inverse, _atan),
    sp.asinh: _asinh,
    sp.acosh: _acosh,
    sp.atanh: _atanh,
    sp.asech: _then(_inverse, _acosh),
    sp.acsch: _then(_inverse, _asinh),
    sp.acoth: _then(_inverse, _atanh),
}
