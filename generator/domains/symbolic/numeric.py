"""Values of prefix words at many points at once, with numpy: microseconds where sympy takes milliseconds.

What these floats say is only used to leave things out, or to look whether an equation holds at all (`agree`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from generator.domains.symbolic.vocabulary import ARITY, COEFFICIENTS, DIGITS, MINUS, PLUS
from generator.domains.verdicts import MalformedError

Values = npt.NDArray[Any]

_STEPS = (0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 2.1, 3.1)
POINTS: Values = np.array([*(-step for step in reversed(_STEPS)), *_STEPS])  # of x
_GROWING = ("exp", "sinh", "cosh")
_MAX_GROWING = 3  # of these within one another


def _over(function: Callable[[Values], Values]) -> Callable[[Values], Values]:
    return lambda value: 1 / function(value)


def _of_inverse(function: Callable[[Values], Values]) -> Callable[[Values], Values]:
    return lambda value: function(1 / value)


_FUNCTIONS: dict[str, Callable[..., Values]] = {
    **{name: getattr(np, name) for name in "exp sin cos tan sinh cosh tanh sqrt".split()},
    **{name: getattr(np, f"arc{name[1:]}") for name in "asin acos atan asinh acosh atanh".split()},
    **{name: _over(getattr(np, of)) for name, of in (("sec", "cos"), ("csc", "sin"), ("cot", "tan"))},
    **{name: _over(getattr(np, of)) for name, of in (("sech", "cosh"), ("csch", "sinh"), ("coth", "tanh"))},
    **{name: _of_inverse(getattr(np, f"arc{of}")) for name, of in (("asec", "cos"), ("acsc", "sin"), ("acot", "tan"))},
    **{
        name: _of_inverse(getattr(np, f"arc{of}"))
        for name, of in (("asech", "cosh"), ("acsch", "sinh"), ("acoth", "tanh"))
    },
    "ln": np.log,
    "abs": np.abs,
    "sign": np.sign,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "pow": lambda base, exponent: np.power(base, exponent),
    "rac": lambda base, degree: np.power(base, 1 / degree),
    "inv": lambda value: 1 / value,
    "pow2": lambda value: value * value,
    "pow3": lambda value: value**3,
    "pow4": lambda value: value**4,
    "pow5": lambda value: value**5,
}


def values(words: Sequence[str], point: Mapping[str, Values], kind: type = np.float64) -> Values:
    """Return the values of prefix words; what is infinite or no number of this kind is inf or nan.

    Args:
        words: with operators that have values
        point: values of the leaves, (N,) each: x, a8, Y', ...
        kind: float64, where the root of -1 is nan, or complex128
    """
    size = len(next(iter(point.values())))
    stack: list[Values] = []
    digits = ""
    with np.errstate(all="ignore"):
        for word in reversed(words):
            if word in DIGITS:
                digits = word + digits
            elif word in (PLUS, MINUS):
                number = float(digits) if len(digits) < 300 else np.inf
                stack.append(np.full(size, number if word == PLUS else -number, kind))
                digits = ""
            elif word in ARITY:
                if word not in _FUNCTIONS:
                    raise MalformedError(f"{word!r} has no value")
                stack.append(_FUNCTIONS[word](*[stack.pop() for _ in range(ARITY[word])]))
            elif word in _CONSTANTS:
                stack.append(np.full(size, _CONSTANTS[word], np.complex128 if word == "I" else kind))
            else:
                stack.append(np.asarray(point[word], kind))
    (value,) = stack
    return value


_CONSTANTS = {"pi": np.pi, "E": np.e, "I": 1j}


def nests_too_deep(words: Sequence[str]) -> bool:
    """Whether four or more of exp, sinh and cosh stand within one another."""
    stack: list[int] = []
    for word in reversed(words):
        if word in ARITY:
            deepest = max(stack.pop() for _ in range(ARITY[word]))
            stack.append(deepest + (word in _GROWING))
            if stack[-1] > _MAX_GROWING:
                return True
        elif word not in DIGITS:
            stack.append(0)
    return False


def why_useless(words: Sequence[str], leaves: Sequence[str] = ()) -> str:
    """Return why an expression is not worth sympy's time, in a word; "" if it may be.

    Args:
        words: with x, and these leaves
        leaves: such as a8; other coefficients of the words are given values as well
    """
    if nests_too_deep(words):
        return "nested"
    names = sorted({word for word in words if word in COEFFICIENTS} | set(leaves))
    point = {"x": POINTS, **{name: POINTS[::-1] * (0.3 + 0.2 * k) for k, name in enumerate(names)}}
    found = values(words, point)
    finite = found[np.isfinite(found)]
    if not len(finite):
        return "no value"
    if len(finite) > 3 and np.ptp(finite) <= 1e-12 * (1 + abs(finite[0])):
        return "constant"
    return ""


def agree(left: Sequence[str], right: Sequence[str], tolerance: float = 1e-6) -> bool:
    """Whether two expressions of x have the same values wherever both have real ones; False where they nowhere have."""
    names = sorted({word for word in (*left, *right) if word in COEFFICIENTS})
    point = {"x": POINTS * 0.97, **{name: POINTS[::-1] * (0.3 + 0.2 * k) for k, name in enumerate(names)}}
    with np.errstate(all="ignore"):
        one, other = values(left, point), values(right, point)
        both = np.isfinite(one) & np.isfinite(other) & (np.abs(one) < 1e12)
        close = np.abs(one - other) <= tolerance * (1e-3 + np.abs(one) + np.abs(other))
    return bool(both.any() and close[both].mean() > 0.85)  # the rest may be cancellation
