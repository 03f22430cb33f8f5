"""Texts of models and files as they may be shown: nothing in them drives a terminal or reorders a line."""

from __future__ import annotations

import re

# control characters but line break and tab; what turns the direction of writing; separators of lines; half characters
_ACTIVE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
)


def shown(text: str) -> str:
    r"""Return a text with an escape in place of each character that would act and not be seen.

    >>> print(shown("simp \x1b[2J -- ⊢\u202e"))
    simp \x1b[2J -- ⊢\u202e
    """
    return _ACTIVE.sub(lambda match: match[0].encode("unicode_escape").decode(), text)
