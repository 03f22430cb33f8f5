"""Tokens of the Lean fragment, shared by formulas, terms and tactics."""

import re

_PLAIN_NAME = r"[A-Za-z_α-κμ-ω][A-Za-z0-9_'₀-₉α-κμ-ω]*"
_TOKEN = re.compile(
    rf"\s*(?P<token>{_PLAIN_NAME}(?:\.{_PLAIN_NAME})*|\.{_PLAIN_NAME}|(?:\.[12]|\?_)(?![A-Za-z0-9_'])"
    r"|=>|:=|[()⟨⟩,|:∧∨→¬↔])"
)
_NAME = re.compile(_PLAIN_NAME)

# Words that Lean's or Mathlib's grammar takes for itself, and names whose meaning there is not a variable.
_RESERVED = frozenset(
    """_ Prop Type Sort True False fun by at with from have show let if then else match do in where forall exists
    theorem lemma def example axiom variable universe namespace section end open import instance structure class
    inductive abbrev private protected noncomputable partial unsafe macro notation infix infixl infixr prefix
    postfix syntax attribute local scoped deriving extends mutual return for unless try catch finally nomatch
    nofun calc suffices this obtain using only generalizing rec sorry admit set_option export hiding renaming
    termination_by decreasing_by break continue mut assert dbg_trace opaque constant elab initialize run_cmd
    is matches show_term haveI letI infer_instance conv_lhs conv_rhs""".split()
)


class SyntaxProblem(Exception):
    """Text outside the grammar. Inside the environment it becomes a `TacticError`."""


def is_name(token: str) -> bool:
    """Tell whether `token` can name a variable or a hypothesis: one plain, unreserved identifier."""
    return _NAME.fullmatch(token) is not None and token not in _RESERVED


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
        """Tell whether the next token follows the one before it without a space."""
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
