"""The shape of prefix words, without sympy: what a model wrote in vain is told at once, and files are read quickly."""

from __future__ import annotations

from collections.abc import Sequence

from generator.domains.symbolic.vocabulary import ARITY, DIGITS, LEAVES, MINUS, PLUS, WORDS
from generator.domains.verdicts import MalformedError

_BEGIN = LEAVES | {PLUS, MINUS}  # what no operator begins
_DIGITS = frozenset(DIGITS)


def check_words(words: Sequence[str]) -> None:
    """Look whether words are one expression.

    >>> check_words("add INT+ 1 2 mul x cos x".split())

    Raises:
        MalformedError: naming the first thing that is wrong
    """
    missing, in_number = 1, False  # operands that are to come; whether digits may follow
    for place, word in enumerate(words):
        if word in _DIGITS and in_number:
            continue
        if words[place - 1 : place] in ([PLUS], [MINUS]):
            raise MalformedError(f"no digits follow {words[place - 1]!r}")
        if missing == 0:
            raise MalformedError(f"the expression ends with word {place}, and {len(words) - place} more follow")
        if word not in ARITY and word not in _BEGIN:
            known = word in WORDS
            raise MalformedError(
                f"{word[:40]!r} {'cannot stand here' if known else f'is none of the {len(WORDS)} words'}"
            )
        missing += ARITY.get(word, 0) - 1
        in_number = word in (PLUS, MINUS)
    if not words:
        raise MalformedError("there are no words")
    if words[-1] in (PLUS, MINUS):
        raise MalformedError(f"no digits follow {words[-1]!r}")
    if missing:
        raise MalformedError(f"the words end before the expression does: operands that are missing: {missing}")


def normal(text: str) -> str:
    """Return words with one space between each."""
    return " ".join(text.split())
