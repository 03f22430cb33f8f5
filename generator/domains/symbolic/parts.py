"""Integration by parts: pairs of functions F and G such that the integral of F'G is known, found by values alone.

A function is known by its *print*: its values at some points, divided by the first of them. Two integrands with the
same print are one but for a constant factor. Prints of F'G come from the words of F and G by forward differentiation
in numpy: a pair takes under a millisecond, where sympy's derivatives and their simplification took tens.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from generator.domains.seeds import stable_seed
from generator.domains.symbolic.forms import Dropped
from generator.domains.symbolic.numeric import Values, nests_too_deep
from generator.domains.symbolic.options import DrawingOptions
from generator.domains.symbolic.trees import draw_num_operators, draw_tree
from generator.domains.symbolic.vocabulary import ARITY, DIGITS, PLUS

_POINTS: Values = np.array([0.37, 0.83, 1.31, 2.17, 2.91, 4.3, -0.61, -1.73])
_COEFFICIENTS: Mapping[str, Values] = {f"a{k}": np.full(len(_POINTS), 0.7 + 0.37 * k) for k in range(8)}
_LEAST_FINITE = 4
_NUM_KNOWN = 30_000  # functions that are drawn for the known integrals; about half have the print of another
_MOST_OPERATORS_KNOWN = 6
_NUM_PAIRS = 400  # of a try
_LARGEST_DENOMINATOR = 720

Print = bytes
Dual = tuple[Values, Values]  # values and derivatives


@dataclass(frozen=True)
class Known:
    """Integrals by the print of the integrand.

    Attributes:
        found: words of an integral, and the value that its integrand's print was divided by
    """

    found: Mapping[Print, tuple[str, float]]


def known_integrals(options: DrawingOptions) -> Known:
    """Return integrals that are known because a drawn function has a derivative: the same for the same arguments.

    Of several functions with the same derivative, but for constants, the one of fewest words is kept.
    """
    rng = random.Random(stable_seed("known"))
    found: dict[Print, tuple[str, float]] = {}
    for _ in range(_NUM_KNOWN):
        words = draw_tree(rng, rng.randint(0, min(_MOST_OPERATORS_KNOWN, options.max_ops)), options)
        shape = _print_of(differentiated(words)[1])
        if shape is None:
            continue
        before = found.get(shape[0])
        if before is None or len(before[0].split()) > len(words):
            found[shape[0]] = " ".join(words), shape[1]
    return Known(found)


def draw_parts(
    rng: random.Random, options: DrawingOptions, known: Known
) -> tuple[list[str], list[str], list[str], Fraction]:
    """Draw functions until an integral is known.

    Returns:
        Words of left, right and part, and a factor, such that factor * part' = left' * right.

    Raises:
        Dropped: if none is for very long
    """
    for _ in range(_NUM_PAIRS):
        one = draw_tree(rng, draw_num_operators(rng, *options.operator_range("prim_ibp")), options)
        other = draw_tree(rng, rng.randint(1, options.max_ops_g), options)
        if nests_too_deep(one) or nests_too_deep(other):
            continue
        duals = [differentiated(one), differentiated(other)]
        for (left, right), ((_, slope), (value, _)) in zip(
            ((one, other), (other, one)), (duals, duals[::-1]), strict=True
        ):
            with np.errstate(all="ignore"):
                shape = _print_of(slope * value)
            if shape is not None and shape[0] in known.found:
                part, scale = known.found[shape[0]]
                factor = _fraction(shape[1] / scale)
                if factor:
                    return left, right, part.split(), factor
    raise Dropped(f"no known integral in {_NUM_PAIRS} pairs")


def _fraction(value: float) -> Fraction | None:
    near = Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)
    return near if abs(near - Fraction(value)) <= 1e-9 * abs(value) else None


def _print_of(slopes: Values) -> tuple[Print, float] | None:
    """The print of values, and what they were divided by; None where there are too few, or only zeros."""
    finite = np.isfinite(slopes) & (np.abs(slopes) < 1e30)
    if finite.sum() < _LEAST_FINITE:
        return None
    first = float(slopes[finite][0])
    if abs(first) < 1e-12:
        return None
    with np.errstate(all="ignore"):
        return np.where(finite, slopes / first + 0.0, np.nan).astype(np.float32).tobytes(), first


# ------------------------------------------------------------------------------------------------
# Derivatives by values


def differentiated(words: Sequence[str]) -> Dual:
    """Return the values of drawn words, and of their derivative in x, at the points of prints."""
    stack: list[Dual] = []
    digits = ""
    zero, one = np.zeros_like(_POINTS), np.ones_like(_POINTS)
    with np.errstate(all="ignore"):
        for word in reversed(words):
            if word in DIGITS:
                digits = word + digits
            elif word == PLUS:
                stack.append((one * int(digits), zero))
                digits = ""
            elif word == "x":
                stack.append((_POINTS, one))
            elif word in ARITY:
                stack.append(_RULES[word](*[stack.pop() for _ in range(ARITY[word])]))
            else:
                stack.append((_COEFFICIENTS[word] if word in _COEFFICIENTS else one * _CONSTANTS[word], zero))
    (dual,) = stack
    return dual


_CONSTANTS = {"pi": np.pi, "E": np.e}


def _chain(function: Callable[[Values], Values], slope: Callable[[Values], Values]) -> Callable[[Dual], Dual]:
    return lambda dual: (function(dual[0]), slope(dual[0]) * dual[1])


def _quotient(one: Dual, other: Dual) -> Dual:
    return one[0] / other[0], (one[1] * other[0] - one[0] * other[1]) / other[0] ** 2


_RULES: dict[str, Callable[..., Dual]] = {
    "add": lambda one, other: (one[0] + other[0], one[1] + other[1]),
    "sub": lambda one, other: (one[0] - other[0], one[1] - other[1]),
    "mul": lambda one, other: (one[0] * other[0], one[1] * other[0] + one[0] * other[1]),
    "div": _quotient,
    "sqrt": _chain(np.sqrt, lambda value: 0.5 / np.sqrt(value)),
    "pow2": _chain(lambda value: value**2, lambda value: 2 * value),
    "pow3": _chain(lambda value: value**3, lambda value: 3 * value**2),
    "pow4": _chain(lambda value: value**4, lambda value: 4 * value**3),
    "pow5": _chain(lambda value: value**5, lambda value: 5 * value**4),
    "ln": _chain(np.log, lambda value: 1 / value),
    "exp": _chain(np.exp, np.exp),
    "sin": _chain(np.sin, np.cos),
    "cos": _chain(np.cos, lambda value: -np.sin(value)),
    "tan": _chain(np.tan, lambda value: 1 + np.tan(value) ** 2),
    "asin": _chain(np.arcsin, lambda value: 1 / np.sqrt(1 - value**2)),
    "acos": _chain(np.arccos, lambda value: -1 / np.sqrt(1 - value**2)),
    "atan": _chain(np.arctan, lambda value: 1 / (1 + value**2)),
    "sinh": _chain(np.sinh, np.cosh),
    "cosh": _chain(np.cosh, np.sinh),
    "tanh": _chain(np.tanh, lambda value: 1 - np.tanh(value) ** 2),
    "asinh": _chain(np.arcsinh, lambda value: 1 / np.sqrt(value**2 + 1)),
    "acosh": _chain(np.arccosh, lambda value: 1 / np.sqrt(value**2 - 1)),
    "atanh": _chain(np.arctanh, lambda value: 1 / (1 - value**2)),
}
