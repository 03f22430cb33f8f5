"""Expressions as prefix words, and as sympy's: built straight from the words, with no text that anything evaluates.

Nothing here recurses over words, and what would take for ever or exhaust memory (towers of powers) is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import sympy as sp

from generator.domains.symbolic.vocabulary import (
    ARITY,
    COEFFICIENTS,
    DIGITS,
    MINUS,
    PLUS,
    UNKNOWN,
    VARIABLES,
    WORDS,
)
from generator.domains.verdicts import MalformedError

MAX_DEPTH = 100  # operators within one another, where a sum of sums counts once; sympy recurses
_MAX_BITS = 4096  # of a whole number, written or as the value of a power

SYMBOLS: dict[str, sp.Symbol] = {
    **{name: sp.Symbol(name, real=True, nonzero=True) for name in VARIABLES},
    **{name: sp.Symbol(name, real=True) for name in COEFFICIENTS},
}
X = SYMBOLS["x"]
FUNCTION = sp.Function("f", real=True)
_SOUGHT = FUNCTION(X)

_FUNCTIONS: dict[str, Any] = {
    name: getattr(sp, name)
    for name in (
        "acos acosh acot acoth acsc acsch asec asech asin asinh atan atanh cos cosh cot coth csc csch exp sec sech "
        "sign sin sinh sqrt tan tanh"
    ).split()
}
_WORD_OF = {function: name for name, function in _FUNCTIONS.items() if name != "sqrt"}
_WORD_OF |= {sp.log: "ln", sp.Abs: "abs"}
_LEAVES: dict[str, sp.Expr] = {
    **SYMBOLS,
    "pi": sp.pi,
    "E": sp.E,
    "I": sp.I,
    "Y": _SOUGHT,
    "Y'": sp.Derivative(_SOUGHT, X),
    "Y''": sp.Derivative(_SOUGHT, (X, 2)),
}


class UnwritableError(ValueError):
    """An expression of sympy has something that the words cannot say."""


# ------------------------------------------------------------------------------------------------
# From words


def to_expression(words: Sequence[str]) -> sp.Expr:
    """Return the expression that prefix words write.

    >>> to_expression("add INT+ 1 2 mul x cos x".split())
    x*cos(x) + 12

    Raises:
        MalformedError: naming the first thing that is wrong: an unknown word, an operator without an operand, words
            left over, a number or a nesting over the limits
    """
    if not words:
        raise MalformedError("there are no words")
    stack: list[tuple[sp.Expr, int, str]] = []  # expressions, how deep they nest, and the operator on top
    for word, value in reversed(_lexed(words)):
        if value is not None:
            stack.append((value, 0, ""))
            continue
        arity = ARITY[word]
        if len(stack) < arity:
            raise MalformedError(f"{word!r} takes {arity} operand{'s' * (arity > 1)}, and only {len(stack)} follow")
        operands = [stack.pop() for _ in range(arity)]
        chains = word in ("add", "mul")
        depth = max(deep + (not (chains and top == word)) for _, deep, top in operands)
        if depth > MAX_DEPTH:
            raise MalformedError(f"operators are nested more than {MAX_DEPTH} deep")
        stack.append((_applied(word, [operand for operand, _, _ in operands]), depth, word))
    if len(stack) > 1:
        raise MalformedError(f"the expression has ended, and more words follow it ({len(stack) - 1} expressions)")
    return stack[0][0]


def _lexed(words: Sequence[str]) -> list[tuple[str, sp.Expr | None]]:
    """Operators, and leaves with their values; digits belong to the sign before them."""
    found: list[tuple[str, sp.Expr | None]] = []
    place = 0
    while place < len(words):
        word = words[place]
        place += 1
        if word in (PLUS, MINUS):
            start = place
            while place < len(words) and words[place] in DIGITS:
                place += 1
            found.append((word, _integer(word, words[start:place])))
        elif word in ARITY:
            found.append((word, None))
        elif word in _LEAVES:
            found.append((word, _LEAVES[word]))
        elif word in WORDS:
            raise MalformedError(f"{word!r} cannot stand here")
        else:
            raise MalformedError(f"{word[:40]!r} is none of the {len(WORDS)} words")
    return found


def _integer(sign: str, digits: Sequence[str]) -> sp.Integer:
    if not digits:
        raise MalformedError(f"no digits follow {sign!r}")
    if len(digits) > _MAX_BITS // 4:
        raise MalformedError(f"a number has {len(digits):,} digits")
    value = int("".join(digits))
    return sp.Integer(value if sign == PLUS else -value)


def _applied(word: str, operands: list[sp.Expr]) -> sp.Expr:
    try:
        return _operation(word)(*operands)
    except MalformedError:
        raise
    except (RecursionError, TypeError, ValueError, ArithmeticError, AttributeError, NotImplementedError) as error:
        raise MalformedError(f"{word!r} makes no sense here ({type(error).__name__})") from error


def _power(base: sp.Expr, exponent: sp.Expr) -> sp.Expr:
    if base.is_Rational and exponent.is_Rational and base not in (0, 1, -1):
        bits = max(abs(base.p), base.q).bit_length() * max(abs(exponent.p) // exponent.q, 1)
        if bits > _MAX_BITS or exponent.q.bit_length() > 64:
            raise MalformedError(f"a power of a number would have about {bits:,} bits")
    return sp.Pow(base, exponent)


def _derivative(function: sp.Expr, variable: sp.Expr) -> sp.Expr:
    return sp.Derivative(function, variable)


def _operation(word: str) -> Callable[..., sp.Expr]:
    if word in _FUNCTIONS:
        return _FUNCTIONS[word]  # type: ignore[no-any-return]
    return _OPERATIONS[word]


_OPERATIONS: dict[str, Callable[..., sp.Expr]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": _power,
    "rac": lambda a, b: _power(a, 1 / b),
    "inv": lambda a: _power(a, sp.Integer(-1)),
    "pow2": lambda a: _power(a, sp.Integer(2)),
    "pow3": lambda a: _power(a, sp.Integer(3)),
    "pow4": lambda a: _power(a, sp.Integer(4)),
    "pow5": lambda a: _power(a, sp.Integer(5)),
    "ln": sp.log,
    "abs": sp.Abs,
    "derivative": _derivative,
    "f": FUNCTION,
    "g": sp.Function("g", real=True),
    "h": sp.Function("h", real=True),
}


# ------------------------------------------------------------------------------------------------
# To words


def to_words(expression: sp.Expr) -> list[str]:
    """Return the prefix words of an expression, in sympy's order of operands.

    >>> " ".join(to_words(to_expression("sub x div INT+ 3 INT+ 2".split())))
    'add div INT- 3 INT+ 2 x'

    Raises:
        UnwritableError: for infinity, floats, or functions that have no word
    """
    written: list[str] = []
    waiting: list[sp.Expr | str] = [expression]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            written.append(part)
        else:
            head, operands = _taken_apart(part)
            written += head
            waiting += reversed(operands)
    return written


def _taken_apart(part: sp.Expr) -> tuple[list[str], list[sp.Expr | str]]:
    """The words that begin an expression, and what is still to be written behind them."""
    if part.is_Integer:
        return _number(int(part)), []
    if part.is_Rational:
        return ["div", *_number(part.p), *_number(part.q)], []
    if part.is_Symbol and part.name in SYMBOLS:
        return [part.name], []
    if part.is_Add or part.is_Mul:
        word = "add" if part.is_Add else "mul"
        *first, last = part.args
        return [], [each for operand in first for each in (word, operand)] + [last]
    if part.is_Pow:
        if part.exp == sp.S.Half:
            return ["sqrt"], [part.base]
        return ["pow"], list(part.args)
    for word in ("pi", "E", "I", *UNKNOWN):
        if part == _LEAVES[word]:
            return [word], []
    if part.func in _WORD_OF:
        return [_WORD_OF[part.func]], list(part.args)
    raise UnwritableError(f"{str(part)[:60]} cannot be written in the {len(WORDS)} words")


def _number(value: int) -> list[str]:
    return [PLUS if value >= 0 else MINUS, *str(abs(value))]


def expression_of(text: str) -> sp.Expr:
    """Return the expression of words with spaces between them.

    Raises:
        MalformedError: as `to_expression` does
    """
    return to_expression(text.split())


def text_of(expression: sp.Expr) -> str:
    """Return an expression as words with spaces between them.

    Raises:
        UnwritableError: as `to_words` does
    """
    return " ".join(to_words(expression))
