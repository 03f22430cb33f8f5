r"""Expressions in LaTeX, \int x \cos x\,dx, cut into tokens that `reader` reads."""

from __future__ import annotations

import re

from generator.domains.symbolic.names import FUNCTIONS, LEAVES
from generator.domains.symbolic.reader import Reader
from generator.domains.symbolic.tokens import NotationError, Token, quoted

_D = r"(?:d|\\mathrm\s*\{\s*d\s*\}|\\mathrm\s*d)"
_SQUARED = r"(?:\s*\^\s*\{?\s*2\s*\}?)"
_Y = r"[yf](?:\s*(?:\{\s*)?(?:\\left\s*)?\(\s*x\s*(?:\\right\s*)?\)(?:\s*\})?)?"
_TOKEN = re.compile(
    rf"""(?P<space>(?:\s|~|\$|\\[,;:! ]|\\q?quad\b|\\(?:display|text)style\b|\\limits\b)+)
    |(?P<derivative>\\[dt]?frac\s*\{{\s*{_D}(?P<order>{_SQUARED})?\s*(?P<above>{_Y})?\s*\}}\s*
        \{{\s*{_D}\s*x(?P<below>{_SQUARED})?\s*\}}(?(above)|\s*{_Y}))
    |(?P<prime>\^\s*\\prime\b|\^\s*\{{\s*(?:\\prime\s*|')+\}})
    |(?P<differential>{_D}\s*x(?![a-zA-Z]))
    |(?P<subscript>[aCc]\s*_\s*(?:\d|\{{\s*\d\s*\}}))
    |(?P<number>\d+(?:\.\d*)?|\.\d+)
    |\\operatorname\s*\{{\s*(?P<operator>[a-zA-Z]+)\s*\}}
    |\\(?:mathrm|text)\s*\{{\s*(?P<upright>[a-zA-Z]+)\s*\}}
    |(?P<bar>\\(?:left|right)\s*(?:\||\\[lr]?vert\b)|\\[lr]vert\b)
    |\\(?:left|right)\s*(?P<bracket>[()\[\]])
    |\\(?P<command>[a-zA-Z]+)
    |(?P<letter>[a-zA-Zπ])
    |(?P<sign>[-+*/^()\[\]{{}}|=,_'])
    |(?P<other>\\?.)""",
    re.VERBOSE | re.DOTALL,
)
_SIGNS = {
    **{"cdot": "*", "times": "*", "ast": "*", "div": "/", "frac": "frac", "dfrac": "frac", "tfrac": "frac"},
    **{"sqrt": "sqrt", "vert": "|", "mid": "|"},
}
_NAMES = {name: name for name in (*FUNCTIONS, *LEAVES, "int") if len(name) > 1 and name != "sqrt"}
_SAME = {"\u2212": "-", "\u00b7": "*", "\u2032": "'"}


def is_latex(text: str) -> bool:
    """Whether a text is LaTeX: it has a backslash, or braces."""
    return any(character in text for character in "\\{}")


def reader_of(text: str, *, has_unknown: bool) -> Reader:
    """Return a reader of a text in LaTeX.

    Raises:
        NotationError: for a command or a character that has no meaning
    """
    tokens = [token for match in _TOKEN.finditer(text) for token in _tokens(match, text)]
    return Reader(tokens, text, has_unknown=has_unknown)


def _tokens(match: re.Match[str], text: str) -> list[Token]:
    written, column = match[0], match.start()
    if match["space"]:
        return []
    if match["derivative"]:
        if bool(match["order"]) != bool(match["below"]):
            raise NotationError("the orders above and below differ", text, column)
        return [Token("derivative", "2" if match["order"] else "1", column)]
    if match["prime"]:
        return [Token("sign", "'", column)] * (written.count("prime") + written.count("'"))
    if match["bar"]:
        is_left = "left" in written or "lvert" in written
        return [Token("sign", "|(" if is_left else ")|", column)]
    if match["differential"]:
        return [Token("name", "dx", column)]
    if match["subscript"]:
        return [Token("name", re.sub(r"[\s_{}]", "", written), column)]
    if match["command"]:
        return [_command(match["command"], text, column)]
    if match["number"]:
        return [Token("number", written, column)]
    name = match["operator"] or match["upright"] or match["letter"]
    if name:
        return [Token("name", name, column)]
    sign = _SAME.get(written) or match["bracket"] or match["sign"]
    if sign is None:
        raise NotationError(f"the character {quoted(written)} has no meaning here", text, column)
    return [Token("sign", sign, column)]


def _command(name: str, text: str, column: int) -> Token:
    if name in _SIGNS:
        return Token("sign", _SIGNS[name], column)
    if name not in _NAMES:
        raise NotationError(f"the command \\{name[:30]} has no meaning here", text, column)
    return Token("name", name, column)
