"""Expressions as they are typed, x*cos(x) + x^2/3, cut into tokens that `reader` reads."""

from __future__ import annotations

import re

from generator.domains.symbolic.reader import Reader
from generator.domains.symbolic.tokens import NotationError, Token, quoted

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<derivative>d(?:\s*(?:\^|\*\*)?\s*(?P<order>2))?\s*(?P<unknown>[yf])(?:\(x\))?\s*/\s*
        d\s*x(?:\s*(?:\^|\*\*)?\s*(?P<below>2))?(?!\w))
    |(?P<number>\d+(?:\.\d*)?|\.\d+)
    |(?P<log>log)(?=_)|(?P<base>(?<=log)_)
    |(?P<name>[^\W\d]\w*)
    |(?P<sign>\*\*|[-+*/^()\[\]|=,_'"])
    |(?P<other>.)""",
    re.VERBOSE | re.DOTALL,
)
_SAME = {"**": "^", "·": "*", "×": "*", "−": "-", "∫": "int", "′": "'", "’": "'", "÷": "/"}
_SUBSCRIPT = re.compile(r"([aCc])_(\d)")


def reader_of(text: str, *, has_unknown: bool) -> Reader:
    """Return a reader of an infix text.

    Raises:
        NotationError: for a character that has no meaning
    """
    return Reader(_tokens(text), text, has_unknown=has_unknown)


def _tokens(text: str) -> list[Token]:
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        kind, written, column = match.lastgroup, match[0], match.start()
        if match["derivative"]:
            if match["order"] != match["below"]:
                raise NotationError("the orders above and below differ", text, column)
            found.append(Token("derivative", match["order"] or "1", column))
        elif match["number"]:
            found.append(Token("number", written, column))
        elif match["log"] or match["name"] or written == "∫":
            found.append(Token("name", _SUBSCRIPT.sub(r"\1\2", _SAME.get(written, written)), column))
        elif match["sign"] or match["base"] or written in _SAME:
            signs = ["'", "'"] if written == '"' else [_SAME.get(written, written)]
            found += [Token("sign", sign, column) for sign in signs]
        elif kind != "space":
            raise NotationError(f"the character {quoted(written)} has no meaning here", text, column)
    return found
