"""Texts of programs in Markdown, shown to the letter: TensorBoard's text cards, tables of candidates."""

from __future__ import annotations

import re

from retrieval.training.shown import shown

# what a code span between backticks cannot hold, or loses
_NEEDS_HTML = re.compile(r"[`|\\\n]|^\s|\s$")
_MARKUP = re.compile(r"[&<>`|\\*_\[\]~#]")


def as_code(text: str) -> str:
    """Return a block of Markdown that shows a text of several lines as it is."""
    return "".join(f"    {line}\n" for line in shown(text).split("\n"))


def inline_code(text: str) -> str:
    """Return Markdown that shows a text as it is within a line or the cell of a table, its line breaks too.

    >>> inline_code("exact h"), inline_code("rcases h with a | b")
    ('`exact h`', '<code>rcases h with a &#124; b</code>')
    """
    if not text:
        return "*(empty)*"
    text = shown(text)
    if not _NEEDS_HTML.search(text):
        return f"`{text}`"
    escaped = _MARKUP.sub(lambda match: f"&#{ord(match[0])};", text)
    # HTML joins spaces, and Markdown strips those at the ends
    spaced = re.sub(r"^ +| +$|(?<= ) +", lambda match: "&nbsp;" * len(match[0]), escaped, flags=re.MULTILINE)
    return "<code>" + spaced.replace("\n", "<br>") + "</code>"
