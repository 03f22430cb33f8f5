"""What people write, from tokens to prefix words: a parser of our own, which evaluates nothing.

Two tokenizers feed it, `infix` and `latex`. How it reads what can be read in several ways:

- a product without a sign binds as one with a sign does: 1/2x is x/2;
- a function without brackets takes numbers and constants, and what comes behind them up to the first that is neither,
  with its power: sin 2x + 1 is sin(2*x) + 1, and sin x cos x is sin(x)*cos(x);
- sin(x)^2 and sin^2 x are the square of the sine; sin^-1 is the inverse function;
- -x^2 is -(x^2), and x^2^3 is x^(2^3); log is the natural logarithm, log(x, 10) and log_10 x have a base;
- decimals are exact: 0.1 is 1/10.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from generator.domains.symbolic.names import (
    DERIVATIVE_NAMES,
    FUNCTIONS,
    INVERSES,
    LEAVES,
    ROOTS,
    UNKNOWN_NAMES,
    hint,
)
from generator.domains.symbolic.tokens import (
    MINUS_ONE,
    Cursor,
    Factors,
    NotationError,
    Token,
    Words,
    inverse,
    is_constant,
    negative,
    number,
    powered,
    product_of,
    quoted,
    sum_of,
)
from generator.domains.symbolic.vocabulary import PLUS, UNKNOWN

_CLOSING = {"(": ")", "[": "]", "{": "}", "|": "|", "|(": ")|"}
AT_X = (["(", "x", ")"], ["{", "(", "x", ")", "}"])  # as it follows a function of x


class Grammar(Cursor):
    """Sums, products, powers and operands of one text, as far as each goes.

    Attributes:
        has_unknown: whether y (or f) is the function that an equation is about; else y is a variable
    """

    def __init__(self, tokens: Sequence[Token], text: str, *, has_unknown: bool) -> None:
        super().__init__(tokens, text)
        self.has_unknown, self.is_in_bars = has_unknown, False
        self.differential = -1  # place of dx

    # ---------------------------------------------------------------------------------- sums and products

    def _sum(self) -> Factors:
        start = self.place
        self._enter()
        terms = [self._signed(self._product)]
        while self._peek().text in ("+", "-"):
            terms.append(self._signed(self._product))
        self.nesting -= 1
        if len(terms) == 1:
            return terms[0]
        if start <= self.differential < self.place:
            raise self._error("dx is no term of a sum; it ends an integral", self.tokens[self.differential])
        return [sum_of(terms)]

    def _signed(self, read: Callable[[], Factors]) -> Factors:
        return negative(read()) if self._is_negative() else read()

    def _is_negative(self) -> bool:
        """Whether the signs that come next, if any, make a minus."""
        is_negative = False
        while (sign := self._take("+", "-")) is not None:
            is_negative ^= sign.text == "-"
        return is_negative

    def _product(self) -> Factors:
        factors = self._power()
        while True:
            if self._take("*"):
                factors = factors + self._signed(self._power)
            elif self._take("/"):
                factors = factors + inverse(self._signed(self._power))
            elif self._begins_operand():
                if self._peek().kind == self.tokens[self.place - 1].kind == "number":
                    raise self._error("two numbers in a row; write * between them", self._peek())
                factors = factors + self._power()
            else:
                return factors

    def _begins_operand(self) -> bool:
        token = self._peek()
        if token.kind == "sign":
            return token.text in ("(", "[", "{", "|(", "frac", "sqrt") or (token.text == "|" and not self.is_in_bars)
        return token.kind != "end"

    def _power(self) -> Factors:
        parts = [(False, self._atom())]
        while self._take("^"):
            parts.append((self._is_negative(), self._atom()))
        is_negative, found = parts.pop()
        while parts:
            exponent = negative(found) if is_negative else found
            is_negative, base = parts.pop()
            found = powered(base, exponent)
        return found

    def _unexpected(self, hint_at_it: str = "") -> NotationError:
        is_of_equation = not self.has_unknown and self._peek().text in ("=", "'")
        return super()._unexpected(hint("y") if is_of_equation else hint_at_it)

    # ------------------------------------------------------------------------------------------- operands

    def _atom(self) -> Factors:
        token = self._peek()
        if token.kind == "end" or (token.kind == "sign" and token.text not in (*_CLOSING, "frac", "sqrt")):
            where = "at the end" if token.kind == "end" else f"before {quoted(token.text)}"
            raise self._error(f"a number, a name or a bracket is missing {where}", token)
        self._next()
        if token.kind == "number":
            return [number(token.text)]
        if token.kind == "derivative":
            return [self._unknown(token, int(token.text))]
        if token.kind == "name":
            return self._name(token)
        if token.text == "frac":
            above = self._group()
            return above + inverse(self._group())
        if token.text == "sqrt":
            return [self._root()]
        [found] = self._between(token)
        return [("abs", *product_of(found))] if "|" in token.text else found

    def _between(self, opening: Token, *, is_list: bool = False) -> list[Factors]:
        """What is between brackets or bars, the first of which was taken; with commas if it may be a list."""
        before, self.is_in_bars = self.is_in_bars, opening.text == "|"
        found = [self._sum()]
        while is_list and self._take(","):
            found.append(self._sum())
        self.is_in_bars = before
        if self._take(_CLOSING[opening.text]) is None:
            if self._peek().kind == "end":
                raise self._error(f"{quoted(opening.text.strip('()') or opening.text)} is never closed", opening)
            raise self._unexpected()
        return found

    def _group(self) -> Factors:
        """What a command of LaTeX applies to: a group in braces, or the next character."""
        token = self._peek()
        if token.kind == "number" and token.text.isdecimal():
            digits = [Token("number", digit, token.column + k) for k, digit in enumerate(token.text)]
            self.tokens[self.place : self.place + 1] = digits
        return self._atom()

    def _root(self) -> Words:
        if self._take("[") is None:
            return ("sqrt", *product_of(self._group()))
        degree = self._sum()
        self._expect("]")
        return ("pow", *product_of(self._group()), *product_of(inverse(degree)))

    # ---------------------------------------------------------------------------------------------- names

    def _name(self, token: Token) -> Factors:
        name = token.text
        if self.has_unknown and name in DERIVATIVE_NAMES:
            return [self._derivative(token)]
        if self.has_unknown and name in UNKNOWN_NAMES:
            return [self._unknown(token, 0)]
        if name in LEAVES:
            return [(LEAVES[name],)]
        if name in FUNCTIONS:
            return [self._function(token)]
        if name in ROOTS:
            return [self._named_root(token)]
        if self.differential == self.place - 1:
            if self._peek().text == "/" or self._texts(self.place, 2) == ["}", "{"] or self._peek().kind == "end":
                return [(PLUS, "1")]
            raise self._error("dx stands at the end of an integral, or above its fraction", token)
        raise self._error(f"the name {quoted(name)} is not known{hint(name)}", token)

    def _unknown(self, token: Token, order: int) -> Words:
        """The function that is sought or a derivative; the name or dy/dx was taken."""
        if not self.has_unknown:
            raise self._error(f"a derivative is no part of an integrand{hint('y')}", token)
        while self._take("'"):
            order += 1
        if order >= len(UNKNOWN):
            raise self._error(f"equations have derivatives up to order {len(UNKNOWN) - 1}", token)
        for at_x in AT_X:
            if self._texts(self.place, len(at_x)) == at_x:
                self.place += len(at_x)
                return (UNKNOWN[order],)
        if self._peek().text == "(":
            reason = "the unknown is a function of x alone; put * before the bracket for a product"
            raise self._error(reason, self._peek())
        return (UNKNOWN[order],)

    def _derivative(self, token: Token) -> Words:
        """diff(y, x), diff(y, x, 2), and what sympy prints: Derivative(f(x), (x, 2))."""
        start, depth = self.place, 0
        while self._peek().kind != "end":
            text = self._next().text
            depth += (text == "(") - (text == ")")
            if depth == 0:
                break
        written = "".join(self._texts(start, self.place - start))
        match = re.fullmatch(r"\([yfY](?:\(x\))?,(?:x|x,1|\(x,1\)|(x,2|x,x|\(x,2\)))\)", written)
        if match is None:
            raise self._error(f"write {token.text}(y, x), or {token.text}(y, x, 2)", token)
        return (UNKNOWN[2 if match[1] else 1],)

    def _named_root(self, token: Token) -> Words:
        arguments = self._arguments(token)
        if len(arguments) != ROOTS[token.text]:
            raise self._error(f"{token.text} takes {ROOTS[token.text]} arguments in brackets", token)
        degree: Factors = arguments[1] if len(arguments) == 2 else [(PLUS, "3")]
        return ("pow", *product_of(arguments[0]), *product_of(inverse(degree)))

    def _function(self, token: Token) -> Words:
        """A function with its argument, before which its power and the base of a logarithm may stand."""
        word, exponent, base = FUNCTIONS[token.text], None, None
        if token.text == "log" and self._take("_"):
            base = self._atom()
        if self._take("^"):
            exponent = self._signed(self._atom)
        if exponent == [MINUS_ONE]:
            if word not in INVERSES:
                raise self._error(f"{token.text}^-1 is not clear; write 1/{token.text}(x)", token)
            word, exponent = INVERSES[word], None
        arguments = self._arguments(token)
        if len(arguments) == 2 and token.text == "log" and base is None:
            base = arguments.pop()
        if len(arguments) > 1:
            raise self._error(f"{token.text} takes one argument", token)
        value: Factors = [(word, *product_of(arguments[0]))]
        if base is not None:
            value = value + inverse([("ln", *product_of(base))])
        return product_of(value if exponent is None else powered(value, exponent))

    def _arguments(self, token: Token) -> list[Factors]:
        """The arguments of a function, most often one: in brackets, or as far as it goes without them."""
        opening = self._peek()
        if opening.text in ("(", "[", "{"):
            self._next()
            return self._between(opening, is_list=True)
        if not self._begins_operand() and opening.text not in ("+", "-"):
            raise self._error(f"{token.text} has no argument; write {token.text}(x)", opening)
        self._enter()
        factors = self._signed(self._atom if "|" in opening.text else self._bare_argument)
        self.nesting -= 1
        return [factors]

    def _bare_argument(self) -> Factors:
        factors = self._power()
        while is_constant(factors) and self._begins_operand() and self._peek().text not in FUNCTIONS:
            factors = factors + self._power()
        return factors
