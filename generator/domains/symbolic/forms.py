"""What a drawn expression becomes before it is written, and what is left out: filters that all tasks share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sympy as sp

from generator.domains.base import MalformedError
from generator.domains.symbolic.numeric import why_useless
from generator.domains.symbolic.options import DrawingOptions
from generator.domains.symbolic.prefix import SYMBOLS, UnwritableError, X, to_expression, to_words
from generator.domains.symbolic.vocabulary import COEFFICIENTS, num_operators

_MAX_READINGS = 3
_KEPT = (X, SYMBOLS["a8"], SYMBOLS["a9"])


class Dropped(Exception):
    """A try gives no problem; the text is the reason, one of a few that the data card counts."""


def drawn_expression(words: Sequence[str], unknowns: Sequence[str] = ()) -> sp.Expr:
    """Return the expression of drawn words, after what can be seen without sympy.

    Raises:
        Dropped: for four of exp, sinh and cosh within one another, no finite value anywhere, a constant, or an
            expression of sympy without x or an unknown
    """
    reason = why_useless(words)
    if reason:
        raise Dropped(reason)
    expression = read(words)
    names = {symbol.name for symbol in expression.free_symbols}
    if not names.issuperset(("x", *unknowns)):
        raise Dropped("constant")
    return expression


def read(words: Sequence[str]) -> sp.Expr:
    """Return the expression of words; Dropped if it is over a limit."""
    try:
        return to_expression(words)
    except MalformedError as error:
        raise Dropped("over a limit of expressions") from error


def canonical(expression: sp.Expr) -> tuple[sp.Expr, list[str]]:
    """Return an expression and its words, so that each says the other: reading and writing again changes nothing.

    Raises:
        Dropped: if there are no such words
    """
    for _ in range(_MAX_READINGS):
        words = written(expression)
        again = read(words)
        if written(again) == words:
            return again, words
        expression = again
    raise Dropped("no canonical form")


def written(expression: sp.Expr) -> list[str]:
    """Return the words of an expression; Dropped if something in it has none."""
    try:
        return to_words(expression)
    except UnwritableError as error:
        raise Dropped("infinite, or a function without a word") from error


def check_size(options: DrawingOptions, *texts: Sequence[str], wanted: int = 0, of: Sequence[str] = ()) -> None:
    """Raise Dropped for words that are too many, or operators of `of` that are fewer than half of those wanted."""
    if any(len(words) + 2 > options.max_length for words in texts):
        raise Dropped("too long")
    if 2 * num_operators(list(of)) < wanted:
        raise Dropped("too simple")


def without_constant_term(expression: sp.Expr) -> sp.Expr:
    """Return a sum without its terms that have no x."""
    return expression.as_independent(X, as_Add=True)[1] if expression.is_Add else expression


def tidied(expression: sp.Expr) -> sp.Expr:
    """Fold what is constant around a coefficient into it, and number coefficients by their place: 2*a3 + x to a0 + x.

    a8 and a9, which solutions of equations have, keep their names; Dropped where both would fall into one.
    """
    if not any(symbol.name in COEFFICIENTS for symbol in expression.free_symbols):
        return expression
    folded = _folded(expression)
    # the order of operands may follow from names, so that a second numbering may differ from the first
    for _ in range(_MAX_READINGS):
        found = [part for part in sp.preorder_traversal(folded) if part.is_Symbol and part not in _KEPT]
        names = {symbol: SYMBOLS[f"a{place}"] for place, symbol in enumerate(dict.fromkeys(found)) if place < 8}
        if len(names) < len(set(found)):
            raise Dropped("too many coefficients")
        if all(symbol == name for symbol, name in names.items()):
            break
        folded = folded.xreplace(names)
    return folded


def _folded(part: sp.Expr) -> sp.Expr:
    if part == X or not part.args:
        return part
    if not part.has(X):
        return _coefficient(part)
    if part.is_Add or part.is_Mul:
        constant, rest = part.as_independent(X, as_Add=part.is_Add)
        return part.func(_coefficient(constant), *[_folded(each) for each in part.func.make_args(rest)])
    return part.func(*[_folded(operand) for operand in part.args])


def _coefficient(constant: sp.Expr) -> sp.Expr:
    """What stands for a constant: itself, if there is no coefficient in it."""
    if constant.is_Symbol or not constant.free_symbols:
        return constant
    own = constant.free_symbols & {SYMBOLS["a8"], SYMBOLS["a9"]}
    if len(own) > 1:
        raise Dropped("constant")
    return own.pop() if own else sp.Dummy("coefficient", real=True)


def shortest(expressions: Iterable[sp.Expr]) -> sp.Expr:
    """Return the expression that takes the fewest words."""
    return min(expressions, key=lambda expression: len(written(expression)))


def simplified(expression: sp.Expr, options: DrawingOptions) -> sp.Expr:
    """Return a simpler form of an expression, as the option `simplification` says."""
    if options.simplification == "sympy":
        return sp.simplify(expression)
    factored = sp.factor_terms(expression)
    return shortest((expression, factored, sp.together(factored), sp.powsimp(expression)))
