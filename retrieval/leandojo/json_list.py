"""A long JSON list, read element by element instead of all at once."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from common import DataError


def what_is_extreme(error: RecursionError | ValueError) -> str:
    """Say what JSON holds that Python's reader gives up on: a thousand brackets, a number of thousands of digits."""
    return "it is nested too deep" if isinstance(error, RecursionError) else "a number in it has too many digits"


def depth(value: object) -> int:
    """Return how deep a JSON value is nested; 0 for a text or a number."""
    level, deepest = [value], -1
    while level:
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
        deepest += 1
    return deepest


class JsonListReader:
    """Iterates over the elements of the JSON list in a file, of which one block is in memory at a time."""

    BLOCK = 1 << 20  # bytes
    _SPACE = re.compile(r"[ \t\r\n]*")
    _FOREIGN = {
        "<": "it is an HTML or XML page, not the data; download the file again",
        "version https://git-lfs": "it is a Git LFS pointer, not the data; run `git lfs pull`",
    }

    def __init__(self, path: Path, file: BinaryIO, on_read: Callable[[int], object]) -> None:
        """Start at the beginning of an open file.

        Args:
            path: its name, for errors
            file: opened for reading bytes
            on_read: called with the number of bytes of each block that is read
        """
        self.path, self.file, self._on_read = path, file, on_read
        self._text, self._position = "", 0
        self._num_bytes_before = 0  # bytes of the file in front of self._text
        self._num_bytes_read = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()

    def __iter__(self) -> Iterator[Any]:
        if self._next_character() != "[":
            self._fail_at_start()
        self._position += 1
        if self._next_character() != "]":
            while True:
                yield self._element()
                separator = self._next_character()
                if separator == "]":
                    break
                if separator != ",":
                    self._fail("',' or ']' expected between elements" if separator else "the file ends too early")
                self._position += 1
                self._next_character()
        self._position += 1
        if self._next_character():
            self._fail("something follows the end of the list")

    def _more(self) -> bool:
        """Drop what was used and read another block; False at the end of the file."""
        self._num_bytes_before += len(self._text[: self._position].encode())
        rest = self._text[self._position :]
        # a long element is parsed again after each block, so blocks grow with it
        block = self.file.read(max(self.BLOCK, len(rest) // 2))
        try:
            self._text = rest + self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.path}: not UTF-8 at about byte {self._num_bytes_read + error.start:,}; unpack it if it is an "
                "archive, else download it again"
            ) from None
        self._position = 0
        self._num_bytes_read += len(block)
        self._on_read(len(block))
        return bool(block)

    def _next_character(self) -> str:
        """Skip white space; return the character behind it, or nothing at the end of the file."""
        while True:
            match = self._SPACE.match(self._text, self._position)
            self._position = match.end() if match else self._position
            if self._position < len(self._text):
                return self._text[self._position]
            if not self._more():
                return ""

    def _element(self) -> Any:
        while True:
            try:
                element, self._position = self._json.raw_decode(self._text, self._position)
                return element
            except json.JSONDecodeError as error:
                in_string = error.msg.startswith("Unterminated string")
                # any other token that the end of a block can cut has fewer than 12 characters
                can_be_cut = in_string or error.pos > len(self._text) - 12
                place = error.pos - self._position
                if can_be_cut and self._more():
                    continue
                if can_be_cut and (in_string or place >= len(self._text)):
                    self._fail("the file ends in the middle of an element", len(self._text))
                self._fail(f"broken JSON: {error.msg}", self._position + place)
            except (RecursionError, ValueError) as error:
                self._fail(f"JSON that cannot be read: {what_is_extreme(error)}")

    def _fail_at_start(self) -> NoReturn:
        for start, what in self._FOREIGN.items():
            if self._text.startswith(start, self._position):
                raise DataError(f"{self.path}: {what}")
        found = f"begins with {self._text[self._position : self._position + 20]!r}" if self._text else "is empty"
        raise DataError(f"{self.path}: the file must be a JSON list, but {found}")

    def _fail(self, what: str, position: int | None = None) -> NoReturn:
        before = self._text[: self._position if position is None else position]
        byte = self._num_bytes_before + len(before.encode())
        raise DataError(f"{self.path}: {what}, at byte {byte:,}; download or export the file again")
