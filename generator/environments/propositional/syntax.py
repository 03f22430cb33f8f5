"""Tokens of the Lean fragment, shared by formulas, terms and tactics."""

import re

from common import DataError

_PLAIN_NAME = r"[A-Za-z_α-κμ-ω][A-Za-z0-9_'₀-₉α-κμ-ω]*"
_TOKEN = re.compile(
    rf"\s*(?P<token>{_PLAIN_NAME}(?:\.{_PLAIN_NAME})*|\.{_PLAIN_NAME}|(?:\.[12]|\?_)(?![A-Za-z0-9_'])"
    r"|=>|:=|[()⟨⟩,|:∧∨→¬↔])"
)
# Short names only: every longer word may be a keyword of Lean or of a library that is imported.
_NAME = re.compile(r"(?:[A-Za-z_α-κμ-ω]{1,3}|hn?[p-w]{1,4})[0-9₀-₉']*|left|right|self")
_RESERVED = frozenset("_ __ ___ fun by at if let do in for try rec end mut rfl def as via to is".split())
_WORD = re.compile(_PLAIN_NAME)
_TERM_KEYWORDS = frozenset(
    "Prop Type Sort True False with from have show then else match where forall exists suffices this sorry".split()
)


class SyntaxProblem(DataError):
    """Text outside the grammar. Inside the environment it becomes a `TacticError`."""


def is_name(token: str) -> bool:
    """Tell whether a token can name a variable or a hypothesis.

    It has at most three letters, or h and the letters of the variables it is about (`hpq`), then digits and primes.
    """
    return _NAME.fullmatch(token) is not None and token not in _RESERVED


def is_identifier(token: str) -> bool:
    """Tell whether `token` is a plain word that is not a keyword of terms."""
    return _WORD.fullmatch(token) is not None and token not in _RESERVED and token not in _TERM_KEYWORDS


class TokenReader:
    """A cursor over the tokens of one line. The end of the text reads as the empty token."""

    def __init__(self, text: str) -> None:
        """Split `text`.

        Raises:
            SyntaxProblem: on a line break or a character that starts no token
        """
        if "\n" in text:
            raise SyntaxProblem("a tactic is one line")
        self._tokens: list[str] = []
        self._is_glued: list[bool] = []  # no space before the token
        position, text = 0, text.rstrip()
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise SyntaxProblem(f"unexpected '{text[position:].strip()[:10]}'")
            self._tokens.append(match["token"])
            self._is_glued.append(match.start("token") == position)
            position = match.end()
        self._position = 0

    def peek(self) -> str:
        """Return the next token without taking it."""
        return self._tokens[self._position] if self._position < len(self._tokens) else ""

    def is_glued(self) -> bool:
        """Tell whether no space is in front of the next token."""
        return self._position < len(self._tokens) and self._is_glued[self._position]

    def next(self) -> str:
        """Take the next token."""
        token = self.peek()
        self._position += 1
        return token

    def take(self, token: str) -> bool:
        """Take the next token if it is `token`."""
        if self.peek() != token:
            return False
        self._position += 1
        return True

    def expect(self, token: str) -> None:
        """Take `token`, which must come next.

        Raises:
            SyntaxProblem: if something else comes next
        """
        if not self.take(token):
            raise SyntaxProblem(f"expected '{token}', found '{self.peek() or 'the end'}'")

    def expect_end(self) -> None:
        """Check that nothing is left.

        Raises:
            SyntaxProblem: if a token is left
        """
        if self.peek():
            raise SyntaxProblem(f"unexpected '{self.peek()}'")

    def read_name(self) -> str:
        """Take a name for a hypothesis.

        Raises:
            SyntaxProblem: if the next token cannot be one
        """
        token = self.next()
        if not is_name(token):
            raise SyntaxProblem(f"expected a name, found '{token or 'the end'}'")
        return token
