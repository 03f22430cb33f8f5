"""Tokens of what people write, the error that shows where a text cannot be read, and products as they are read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from generator.domains.base import SpecError
from generator.domains.symbolic.vocabulary import COEFFICIENTS, CONSTANTS, DIGITS, MINUS, PLUS

MAX_LENGTH = 4000  # characters
_MAX_NESTING = 60  # brackets and functions within one another, of a few frames of Python each
_WINDOW = 60  # characters of a text that an error shows

Words = tuple[str, ...]
Factors = list[Words]  # of a product, each in prefix words; a division turns each of them over

_NUMERIC = frozenset((PLUS, MINUS, *DIGITS, "div"))
_CONSTANT = _NUMERIC | {"pow", "mul", "add", "sqrt", *CONSTANTS, *COEFFICIENTS}
MINUS_ONE: Words = (MINUS, "1")


class NotationError(SpecError):
    """A text cannot be read; the message has a line that says why, the text, and a mark below the column."""

    def __init__(self, reason: str, text: str, column: int) -> None:
        line = "".join(character if character.isprintable() else "?" for character in text)
        start = max(0, column - _WINDOW // 2)
        before, after = "..." * (start > 0), "..." * (len(line) > start + _WINDOW)
        shown = f"  {before}{line[start : start + _WINDOW]}{after}\n  {' ' * (len(before) + column - start)}^"
        super().__init__(f"{reason} (column {column + 1})\n{shown}")


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text; `column` counts from 0.

    A name is a word that stands for a function or a value; a derivative is dy/dx, and its `text` the order. Among the
    signs are those of LaTeX as `frac` and `sqrt`, and `|(` and `)|` for bars that say which side they are.
    """

    kind: Literal["number", "name", "sign", "derivative", "end"]
    text: str
    column: int


class Cursor:
    """Goes over the tokens of one text, and says where it was when something is wrong."""

    def __init__(self, tokens: Sequence[Token], text: str) -> None:
        self.tokens, self.text = [*tokens, Token("end", "", len(text))], text
        self.place = self.nesting = 0

    def _peek(self) -> Token:
        return self.tokens[self.place]

    def _texts(self, start: int, count: int) -> list[str]:
        return [token.text for token in self.tokens[start : start + count]]

    def _next(self) -> Token:
        self.place += 1
        return self.tokens[self.place - 1]

    def _take(self, *signs: str) -> Token | None:
        """The next token if it is one of the signs."""
        token = self._peek()
        return self._next() if token.kind == "sign" and token.text in signs else None

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._error(f"{sign} is missing", self._peek())

    def _enter(self) -> None:
        self.nesting += 1
        if self.nesting > _MAX_NESTING:
            raise self._error(f"brackets and functions are nested more than {_MAX_NESTING} deep", self._peek())

    def _unexpected(self, hint_at_it: str = "") -> NotationError:
        return self._error(f"unexpected {quoted(self._peek().text)}{hint_at_it}", self._peek())

    def _error(self, reason: str, token: Token) -> NotationError:
        return NotationError(reason, self.text, token.column)


def quoted(text: str) -> str:
    """Return a token for an error, in quotes and not too long."""
    return repr(text if len(text) <= 30 else f"{text[:27]}...")


def number(text: str) -> Words:
    """Return a number in words, a decimal as a fraction."""
    value = Fraction(text)
    whole = (PLUS, *str(value.numerator))
    return whole if value.denominator == 1 else ("div", *whole, PLUS, *str(value.denominator))


def negative(factors: Factors) -> Factors:
    """Return a product with the other sign."""
    head, *others = factors
    if head[0] in (PLUS, MINUS):
        return [(MINUS if head[0] == PLUS else PLUS, *head[1:]), *others]
    return [MINUS_ONE, *factors]


def inverse(factors: Factors) -> Factors:
    """Return one divided by a product."""
    return [("pow", *factor, *MINUS_ONE) for factor in factors]


def powered(base: Factors, exponent: Factors) -> Factors:
    """Return the power of a product."""
    return [("pow", *product_of(base), *product_of(exponent))]


def product_of(factors: Factors) -> Words:
    """Return a product in words: its numbers last to be multiplied, for sympy multiplies them into a single sum."""
    numbers = [factor for factor in factors if _NUMERIC.union(("pow",)).issuperset(factor)]
    return chain("mul", [*numbers, *(factor for factor in factors if factor not in numbers)])


def sum_of(terms: Iterable[Factors]) -> Words:
    """Return a sum in words."""
    return chain("add", [product_of(term) for term in terms])


def chain(word: str, operands: Sequence[Words]) -> Words:
    """Return operands joined by an operator of two, which leans to the right."""
    *first, last = operands
    return tuple(each for operand in first for each in (word, *operand)) + last


def is_constant(factors: Factors) -> bool:
    """Whether there is nothing but numbers, constants and coefficients."""
    return all(_CONSTANT.issuperset(factor) for factor in factors)
