"""Many texts in one buffer, each found by its number.

A text with a character such as ⊢ takes two bytes a character and 74 more as a Python object, and again in every forked
worker that reads it. In a column it takes its UTF-8 and eight bytes, and forked workers share them.

Shape legend: N texts of a column, D distinct ones.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from common import DataError


class TextColumn:
    """Texts by number, one behind the other in UTF-8; `column[number]` makes the text.

    >>> column = TextColumn()
    >>> column.extend(["⊢ p".encode(), b"simp"])
    >>> column[0], column.lengths.tolist()
    ('⊢ p', [5, 4])
    """

    def __init__(self) -> None:
        # an array gives memory back when it shrinks, which a bytearray often does not
        self._bytes = array("B")
        self._bounds = array("q", [0])  # text n stands from bound n to bound n + 1

    def append(self, text: bytes) -> None:
        """Add one text, encoded in UTF-8."""
        self._bytes.frombytes(text)
        self._bounds.append(len(self._bytes))

    def extend(self, texts: Sequence[bytes]) -> None:
        """Add several texts, encoded in UTF-8."""
        self._bytes.frombytes(b"".join(texts))
        # from a list: a quarter faster than from an iterator
        self._bounds.fromlist(list(accumulate(map(len, texts), initial=self._bounds.pop())))

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __getitem__(self, number: int) -> str:
        return self.encoded(number).decode()

    def encoded(self, number: int) -> bytes:
        """Return one text in UTF-8."""
        return self._bytes[self._bounds[number] : self._bounds[number + 1]].tobytes()

    @property
    def joined(self) -> memoryview:
        """All texts in UTF-8, one behind the other; the column cannot grow while the view is in use."""
        return memoryview(self._bytes)

    @property
    def bounds(self) -> npt.NDArray[np.int64]:
        """Where each text ends in `joined`, behind a 0, int64 (N + 1,); a copy."""
        return np.array(self._bounds, dtype=np.int64)

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Bytes of each text, int64 (N,)."""
        return np.diff(self.bounds)

    def keep(self, is_kept: npt.NDArray[np.bool_]) -> None:
        """Drop all other texts, number those that stay anew in their order, and give their memory back.

        Args:
            is_kept: bool (N,)
        """
        bounds = self.bounds
        runs = np.flatnonzero(np.diff(is_kept, prepend=False, append=False)).reshape(-1, 2)  # first, last excluded
        end = 0
        with memoryview(self._bytes) as view:
            for start, stop in bounds[runs].tolist():
                view[end : end + stop - start] = view[start:stop]
                end += stop - start
        del self._bytes[end:]
        self._bounds = array("q", [0])
        self._bounds.frombytes(np.diff(bounds)[is_kept].cumsum().tobytes())


def digest_of(*buffers: Any) -> bytes:
    """Return a hash of buffers (bytes, arrays) and of their lengths, a gigabyte a second."""
    digest = hashlib.blake2b()
    for buffer in buffers:
        view = memoryview(buffer)
        digest.update(view.nbytes.to_bytes(8, "little"))
        digest.update(view.cast("B") if view.nbytes else b"")
    return digest.digest()


class DistinctTexts:
    """Collects texts of which many are equal, for a column that holds each of them once."""

    def __init__(self) -> None:
        self._column = TextColumn()
        self._hashes = array("q")
        self._interned: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Take a text; return its number, which `finish` translates.

        Raises:
            DataError: if the text cannot be encoded; the message starts with a colon, for a place in front of it
        """
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            raise DataError(f": {text[:80]!r} holds half a surrogate pair; export the file again") from None
        self._column.append(encoded)
        self._hashes.append(hash(encoded))
        return len(self._hashes) - 1

    def intern(self, text: str) -> int:
        """Take a text that is one of few, such as a path; return the same number each time."""
        number = self._interned.get(text)
        if number is None:
            number = self._interned[text] = self.add(text)
        return number

    def finish(self) -> tuple[TextColumn, npt.NDArray[np.int32]]:
        """Return the column of the D distinct texts, and for each number that was given out its number in the column.

        Equal texts are found here and not while they come in: a dictionary of their hashes would take a fifth of the
        memory of all texts.
        """
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        _, first, group = np.unique(hashes, return_index=True, return_inverse=True)
        equal_to = first[group]  # the first text of the same hash
        is_kept = equal_to == np.arange(len(hashes))
        for number in np.flatnonzero(~is_kept).tolist():
            if self._column.encoded(number) != self._column.encoded(int(equal_to[number])):  # two texts of one hash
                equal_to[number], is_kept[number] = number, True
        self._column.keep(is_kept)
        return self._column, (np.cumsum(is_kept, dtype=np.int32) - 1)[equal_to]
