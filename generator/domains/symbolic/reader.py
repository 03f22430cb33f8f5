"""What people write, from tokens to prefix words: functions, equations, and what stands in an integral."""

from __future__ import annotations

from collections.abc import Callable

from generator.domains.symbolic.grammar import AT_X, Grammar
from generator.domains.symbolic.names import DIFFERENTIAL, INTEGRAL_NAMES, UNKNOWN_NAMES
from generator.domains.symbolic.tokens import Factors, Token, Words, negative, product_of, sum_of


class Reader(Grammar):
    """Reads the tokens of one text to its end."""

    def expression(self) -> Words:
        """Return the words of the whole text."""
        return product_of(self._last(self._sum))

    def answer(self) -> Words:
        """Return the words of a function, before which `y =` may stand."""
        if self._peek().text in ("F", *UNKNOWN_NAMES):
            for at_x in ([], *AT_X):
                if self._texts(1, len(at_x) + 1) == [*at_x, "="]:
                    self.place = len(at_x) + 2
        return self.expression()

    def equation(self) -> Words:
        """Return the words of what is 0 by an equation; `= 0` may be left out."""
        left = self._sum()
        if self._take("="):
            return sum_of([left, negative(self._last(self._sum))])
        return product_of(self._at_end(left))

    def integrand(self) -> Words:
        """Return the words of a function, or of what stands in an integral in x."""
        if self._peek().text not in INTEGRAL_NAMES:
            return self.expression()
        self._next()
        if self._peek().text in ("_", "^"):
            raise self._error("integrals have no bounds here; leave them out", self._peek())
        places = [k for k, token in enumerate(self.tokens) if token.text == DIFFERENTIAL]
        if not places:
            is_call = self._peek().text == "(" and self._texts(len(self.tokens) - 4, 1) == [","]
            return product_of(self._last(self._integrated)) if is_call else self.expression()
        if len(places) > 1:
            raise self._error("there is a second dx", self.tokens[places[1]])
        [self.differential] = places
        if self.differential == len(self.tokens) - 2 != self.place:
            self.tokens[self.differential :] = [Token("end", "", self.tokens[self.differential].column)]
        return self.expression()

    def _integrated(self) -> Factors:
        """What `integrate(f, x)` integrates."""
        self._expect("(")
        found = self._sum()
        self._expect(",")
        if self._peek().text != "x":
            raise self._error("integrals are in x", self._peek())
        self._next()
        self._expect(")")
        return found

    def _last(self, read: Callable[[], Factors]) -> Factors:
        return self._at_end(read())

    def _at_end(self, found: Factors) -> Factors:
        if self._peek().kind != "end":
            raise self._unexpected()
        return found
