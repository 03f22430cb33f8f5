"""Coq source as sentences: where each begins and ends, which no answer of Coq says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from common import NextstepError

_BLANK = " \t\n\r\f"
_MARK = re.compile(r'"|\(\*|\.+')  # what may end a sentence, or hides what looks like an end
_IN_COMMENT = re.compile(r'"|\(\*|\*\)')
_BULLET = re.compile(r"-+|\++|\*+")
_FOCUS = re.compile(r"(?:(?:\d+|\[\s*[\w']+\s*\])\s*:\s*)?\{|\}")
_NOT_BLANK = re.compile(rf"[^{_BLANK}]")


class OpenTextError(NextstepError, ValueError):
    """A comment, a string or a sentence does not end."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence without the blanks and comments before it.

    Attributes:
        start: offset of its first character, in code points
        end: offset behind its last
        text: what stands between
    """

    start: int
    end: int
    text: str


def split_sentences(text: str) -> list[Sentence]:
    """Return all sentences of a source file.

    Bullets and braces are sentences of their own.

    >>> [each.text for each in split_sentences('Proof. (* a. *) - intros. } rewrite x.1. Qed.')]
    ['Proof.', '-', 'intros.', '}', 'rewrite x.1.', 'Qed.']

    Raises:
        OpenTextError: if a comment, a string or the last sentence does not end
    """
    return list(iterate_sentences(text))


def iterate_sentences(text: str) -> Iterator[Sentence]:
    """Yield the sentences of a source file one by one; an error comes where it stands."""
    position = skip_blanks(text, 0)
    while position < len(text):
        end = _sentence_end(text, position)
        yield Sentence(position, end, text[position:end])
        position = skip_blanks(text, end)


def skip_blanks(text: str, position: int) -> int:
    """Return where the first character stands that is neither blank nor in a comment."""
    while True:
        found = _NOT_BLANK.search(text, position)
        if found is None:
            return len(text)
        position = found.start()
        if not text.startswith("(*", position):
            return position
        position = _comment_end(text, position)


def _sentence_end(text: str, start: int) -> int:
    """Return the offset behind the sentence that begins at `start`."""
    if opening := _FOCUS.match(text, start) or _BULLET.match(text, start):
        return opening.end()
    position = start
    while mark := _MARK.search(text, position):
        position = mark.end()
        if mark[0] == '"':
            position = _string_end(text, mark.start())
        elif mark[0] == "(*":
            position = _comment_end(text, mark.start())
        elif len(mark[0]) != 2 and (position == len(text) or text[position] in _BLANK):
            return position
    raise OpenTextError(f"{_place(text, start)}: the sentence does not end with a full stop")


def _string_end(text: str, start: int) -> int:
    end = text.find('"', start + 1)
    if end < 0:
        raise OpenTextError(f"{_place(text, start)}: the string does not end")
    return end + 1  # a doubled quotation mark within a string ends it and begins another: no difference here


def _comment_end(text: str, start: int) -> int:
    depth, position = 1, start + 2
    while depth:
        mark = _IN_COMMENT.search(text, position)
        if mark is None:
            raise OpenTextError(f"{_place(text, start)}: the comment does not end")
        position = mark.end()
        if mark[0] == '"':
            position = _string_end(text, mark.start())
        else:
            depth += 1 if mark[0] == "(*" else -1
    return position


def _place(text: str, offset: int) -> str:
    line, column = position_of(text, offset)
    return f"line {line}, column {column}"


def position_of(text: str, offset: int) -> tuple[int, int]:
    """Return line and column of an offset, both from 1, as LeanDojo's files count."""
    line_start = text.rfind("\n", 0, offset) + 1
    return text.count("\n", 0, offset) + 1, offset - line_start + 1


def offset_of(text: str, position: tuple[int, int]) -> int | None:
    """Return the offset of line and column, or None if the text has no such place."""
    line, column = position
    start = 0
    for _ in range(line - 1):
        start = text.find("\n", start) + 1
        if start == 0:
            return None
    offset = start + column - 1
    return offset if column >= 1 and offset <= len(text) else None
