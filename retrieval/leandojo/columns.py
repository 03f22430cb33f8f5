"""Premises in columns: all texts in one buffer each, positions in arrays, no object per premise.

A quarter of a million premises held as objects take 0.3 GB and seconds to make; as columns they take the
size of their text.

Shape legend: N premises.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from sys import intern
from typing import Any

import numpy as np
import numpy.typing as npt

from common import DataError, Pos, Premise
from retrieval.leandojo.text_column import TextColumn

_FIELDS = itemgetter("full_name", "code", "start", "end", "kind")


def position_key(pos: object) -> int:
    """Return an integer for a position, of whatever `Pos.of` reads; later positions have larger ones."""
    line_nb, column_nb = Pos.of(pos)
    return line_nb << 32 | column_nb


@dataclass(frozen=True)
class PremiseColumns:
    """What N premises are, apart from the files they are in.

    Attributes:
        names: full names
        codes: source texts
        starts: keys of the positions where they start, int64 (N,); see `position_key`
        ends: keys of the positions where they end, int64 (N,)
        kinds: what they are (LeanDojo's kind, such as "commanddeclaration")
    """

    names: TextColumn
    codes: TextColumn
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]
    kinds: list[str]

    def __len__(self) -> int:
        return len(self.kinds)

    def premise(self, number: int, path: str) -> Premise:
        """Make the object of one premise, which is in the file at path."""
        start, end = int(self.starts[number]), int(self.ends[number])
        return Premise(
            path=path,
            full_name=self.names[number],
            start=Pos(start >> 32, start & 0xFFFFFFFF),
            end=Pos(end >> 32, end & 0xFFFFFFFF),
            code=self.codes[number],
            kind=self.kinds[number],
        )

    def digest(self) -> bytes:
        """Return a hash of names, texts and positions."""
        digest = hashlib.sha256()
        for texts in (self.names, self.codes):
            digest.update(texts.joined)
        for numbers in (self.names.bounds, self.codes.bounds, self.starts, self.ends):
            digest.update(numbers.data)
        return digest.digest()


class ColumnsReader:
    """Collects premises, one source file of the corpus after the other, with ReProver's filters.

    Each operation works on all premises of a file at once, which keeps loading within twice the time of `json.loads`
    (see tests/benchmarks/premise_retrieval.py).
    """

    def __init__(self) -> None:
        self.num_dropped: Counter[str] = Counter()
        self._names, self._codes = TextColumn(), TextColumn()
        # lines and columns of starts, lines and columns of ends
        self._positions = (array("i"), array("i"), array("i"), array("i"))
        self._kinds: list[str] = []
        self._sources: list[tuple[int, str]] = []  # of each file its first premise number, and its name for errors

    def __len__(self) -> int:
        return len(self._kinds)

    def append(self, premises: Sequence[Mapping[str, Any]], where: str) -> None:
        """Add the premises of one file; `where` names it in errors."""
        self._sources.append((len(self), where))
        if not premises:
            return
        try:
            names, codes, starts, ends, kinds = zip(*map(_FIELDS, premises), strict=True)
            encoded_names = list(map(str.encode, names))
            joined_names = b"".join(encoded_names)
            if "" in codes or b"user__.n" in joined_names or b"[" in joined_names:
                raise ValueError("there may be premises to drop")
            encoded_codes = list(map(str.encode, codes))
            numbered = [numbers for side in (starts, ends) for numbers in zip(*side, strict=True)]
            if any(set(map(type, numbers)) != {int} for numbers in numbered):
                raise TypeError("arrays take true for 1")
            positions = [array("i", numbers) for numbers in numbered]
            if len(positions) != 4:
                raise ValueError("positions may have another form")
            interned_kinds = list(map(intern, kinds))
        except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
            self._append_one_by_one(premises, where)
            return
        self._names.extend(encoded_names)
        self._codes.extend(encoded_codes)
        for column, numbers in zip(self._positions, positions, strict=True):
            column += numbers
        self._kinds += interned_kinds

    def _append_one_by_one(self, premises: Sequence[Mapping[str, Any]], where: str) -> None:
        """Add premises of a file in which one is to be dropped, has a rare form, or is broken."""
        for i, premise in enumerate(premises):
            try:
                name, code = premise["full_name"], premise["code"]
                if reason := _reason_to_drop(name, code):
                    self.num_dropped[reason] += 1
                    continue
                encoded_name, encoded_code = name.encode(), code.encode()
                position = array("i", (*Pos.of(premise["start"]), *Pos.of(premise["end"])))
                self._kinds.append(intern(premise.get("kind") or ""))
            except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
                what = f"there is no {error}" if isinstance(error, KeyError) else str(error)
                raise DataError(
                    f"{where}: premise {i} of this file ({str(premise)[:100]}): {what}; a premise has texts "
                    "full_name, code and kind, and positions start and end as [line, column]"
                ) from error
            self._names.append(encoded_name)
            self._codes.append(encoded_code)
            for column, number in zip(self._positions, position, strict=True):
                column.append(number)

    def columns(self) -> PremiseColumns:
        """Return all that was added.

        Raises:
            DataError: if a premise has a line or column below 1, or ends before it starts
        """
        positions = np.array(self._positions, dtype=np.int64)  # (4, N)
        starts, ends = positions[0] << 32 | positions[1], positions[2] << 32 | positions[3]
        wrong = (positions < 1).any(axis=0) | (ends < starts)
        if wrong.any():
            number = int(wrong.argmax())
            where = next(where for first, where in reversed(self._sources) if first <= number)
            start, end = positions[:2, number].tolist(), positions[2:, number].tolist()
            raise DataError(
                f"{where}: premise {self._names[number]} stands from {start} to {end}; positions are "
                "[line, column] counted from 1, and the end is not before the start"
            )
        return PremiseColumns(self._names, self._codes, starts, ends, self._kinds)


def _reason_to_drop(name: str | None, code: str) -> str | None:
    """Say why ReProver leaves a premise out, or return None."""
    if name is None:
        return "without a name"
    if "user__.n" in name or code == "":
        return "ill-formed (no code, or user__.n in the name)"
    if name.startswith("[") and name.endswith("]"):
        return "mutual definitions"
    return None
