"""The premises of a library: which there are, where they stand, which of them a theorem may cite.

A premise is known by its number, its place in the order of the file. Everything is kept in columns (one
buffer of text, arrays of bounds and positions); `Premise` objects are made when they are asked for.

Shape legend: N premises.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, KeysView, Mapping
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common import DataError, Pos, Premise

_LOG = logging.getLogger(__name__)


class Corpus:
    """The premises of a corpus.jsonl in LeanDojo Benchmark 4 format, numbered from 0 in file order.

    Measured by tests/benchmarks/retrieval.py.

    Attributes:
        path: the file that was read
        content_hash: differs between corpora that number or write their premises differently; it is stored
            beside whatever keeps premise numbers
        num_dropped: premises left out, by reason (ReProver's filters)
    """

    # grown by each file, in step with each other
    _COLUMNS = (
        *("_files", "_paths", "_reach", "_first"),
        *("_text", "_bounds", "_kinds", "_starts", "_ends", "num_dropped"),
    )

    def __init__(self, path: str | Path) -> None:
        """Read the file in one pass.

        Args:
            path: corpus.jsonl; each line holds `path`, `imports` (paths of earlier lines) and `premises`
                (`full_name`, `code`, `start`, `end`, `kind`)

        Raises:
            DataError: if the file is missing, a line is broken, a file appears twice, or an import is
                unknown, on a later line, or part of a cycle
        """
        self.path = Path(path)
        self.num_dropped: Counter[str] = Counter()
        self._files: dict[str, int] = {}
        self._paths: list[str] = []
        self._reach: list[int] = []  # bit g of _reach[f]: g is f, or f imports it, directly or not
        self._first = [0]  # premises of file f are numbered from _first[f] to _first[f + 1]
        self._text = bytearray()  # UTF-8: name and code of premise 0, of premise 1, ...
        self._bounds = array("q", [0])  # of names and codes in _text, (2N + 1,)
        self._kinds: list[str] = []
        self._starts = array("q")  # position keys, which order as positions do
        self._ends = array("q")
        self._by_name: dict[str, list[int]] | None = None
        digest = hashlib.sha256()
        try:
            with self.path.open("rb") as lines:
                for line_nb, line in enumerate(lines, start=1):
                    digest.update(line)
                    if line.strip():
                        self._append_line(line, f"{self.path}:{line_nb}")
        except OSError as error:
            raise DataError(f"cannot read the corpus {self.path}: {error.strerror}") from error
        if not self._files:
            raise DataError(f"{self.path} is empty; a corpus.jsonl has one source file on each line")
        self.content_hash = digest.hexdigest()
        self._report_dropped()

    def _append_line(self, line: bytes, where: str) -> None:
        try:
            record = json.loads(line)
        except ValueError as error:
            raise DataError(f"{where}: this line is not JSON: {error}") from error
        self._append_file(record, where)

    def _append_file(self, record: Mapping[str, Any], where: str) -> None:
        """Append one source file; `where` says in error messages what was read."""
        try:
            path, imports, premises = record["path"], list(record["imports"]), record["premises"]
            number = len(self._files)
            if not isinstance(path, str):
                raise TypeError(f"path is {path!r}")
            if self._files.setdefault(path, number) != number:
                raise DataError(f"{where}: {path} appears for the second time; write each file on one line")
            imported = [self._files.get(name, number) for name in imports]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{where}: a source file needs path (text), imports and premises (lists); "
                f"{type(error).__name__}: {error}"
            ) from error
        reach = 1 << number
        for name, imported_number in zip(imports, imported, strict=True):
            if imported_number == number:
                raise DataError(f"{where}: {_explain_import(self.path, path, name)}")
            reach |= self._reach[imported_number]
        self._append_premises(premises, f"{where}: {path}")
        self._paths.append(path)
        self._reach.append(reach)
        self._first.append(len(self._starts))

    def _append_premises(self, premises: Any, where: str) -> None:
        text, bounds = self._text, self._bounds
        premise: Any = None
        try:
            for premise in premises:
                name, code = premise["full_name"], premise["code"]
                if reason := _reason_to_drop(name, code):
                    self.num_dropped[reason] += 1
                    continue
                start, end = _position_key(premise["start"]), _position_key(premise["end"])
                if end < start:
                    raise DataError(f"it ends at {premise['end']}, before its start at {premise['start']}")
                text += name.encode()
                bounds.append(len(text))
                text += code.encode()
                bounds.append(len(text))
                self._kinds.append(intern(premise.get("kind") or ""))
                self._starts.append(start)
                self._ends.append(end)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            name = premise.get("full_name") if isinstance(premise, Mapping) else premise
            reason = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"{where}: premise {name!r}: {reason}; a premise has full_name and code, which are texts, "
                "and start and end, which are [line, column] counted from 1"
            ) from error

    def _report_dropped(self) -> None:
        if num_dropped := self.num_dropped.total():
            reasons = ", ".join(f"{number} {reason}" for reason, number in self.num_dropped.items())
            total = len(self) + num_dropped
            _LOG.warning("%s: left out %d of %d premises: %s", self.path, num_dropped, total, reasons)

    def with_file(self, record: Mapping[str, Any]) -> Corpus:
        """Return a corpus that has one more source file, its premises numbered behind all others.

        This one stays as it is: a user's file that changes is added to the same corpus again.

        Args:
            record: `path`, `imports` and `premises`, as a line of corpus.jsonl has them

        Raises:
            DataError: as for a line of corpus.jsonl
        """
        corpus = copy.copy(self)
        for name in self._COLUMNS:
            setattr(corpus, name, copy.copy(getattr(self, name)))
        corpus._append_file(record, "the added file")
        corpus._by_name = None
        addition = self.content_hash + json.dumps(record, sort_keys=True)
        corpus.content_hash = hashlib.sha256(addition.encode()).hexdigest()
        return corpus

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, number: int) -> Premise:
        if not 0 <= number < len(self):
            raise IndexError(f"premise number {number} is not in 0..{len(self) - 1}")
        name_start, name_end, code_end = self._bounds[2 * number : 2 * number + 3]
        return Premise(
            path=self._paths[bisect_right(self._first, number) - 1],
            full_name=self._text[name_start:name_end].decode(),
            start=_position(self._starts[number]),
            end=_position(self._ends[number]),
            code=self._text[name_end:code_end].decode(),
            kind=self._kinds[number],
        )

    def __iter__(self) -> Iterator[Premise]:
        return (self[number] for number in range(len(self)))

    @property
    def paths(self) -> KeysView[str]:
        """Paths of the source files, in import order."""
        return self._files.keys()

    @property
    def num_files(self) -> int:
        """Number of source files, those without premises included."""
        return len(self._files)

    def numbers_in_file(self, path: str | Path) -> range:
        """Return the numbers of a file's premises.

        Raises:
            DataError: if the corpus has no such file
        """
        file = self._file(path)
        return range(self._first[file], self._first[file + 1])

    def numbers_by_name(self, full_name: str) -> list[int]:
        """Return the numbers of all premises of this full name, which several may share."""
        if self._by_name is None:
            self._by_name = {}
            for number in range(len(self)):
                start, end = self._bounds[2 * number : 2 * number + 2]
                self._by_name.setdefault(self._text[start:end].decode(), []).append(number)
        return list(self._by_name.get(full_name, ()))

    def locate(self, path: str | Path, pos: object) -> int | None:
        """Return the number of the first premise of a file that holds a position, its ends included.

        Args:
            path: a source file; one that the corpus lacks has no premises
            pos: whatever `Pos.of` reads
        """
        file = self._files.get(_posix(path))
        if file is None:
            return None
        key = _position_key(pos)
        numbers = slice(self._first[file], self._first[file + 1])
        for number, (start, end) in enumerate(
            zip(self._starts[numbers], self._ends[numbers], strict=True), numbers.start
        ):
            if start <= key <= end:
                return number
        return None

    def locate_premise(self, path: str | Path, pos: object) -> Premise | None:
        """Return the first premise of a file that holds a position, its ends included (see `locate`)."""
        number = self.locate(path, pos)
        return None if number is None else self[number]

    def accessible_mask(self, path: str | Path, pos: object) -> torch.Tensor:
        """Mark the premises that a theorem may cite.

        Args:
            path: the source file that the theorem is in
            pos: where the theorem starts; whatever `Pos.of` reads

        Returns:
            True for the premises of all files that this one imports, directly or not, and for those of this
            file that end at or before pos; bool (N,). The caller may change it.

        Raises:
            DataError: if the corpus has no such file

        Source: ReProver (arXiv:2306.15626, section 4); unlike its code, this never goes by name.
        """
        file = self._file(path)
        packed = np.frombuffer(self._reach[file].to_bytes(self.num_files // 8 + 1, "little"), dtype=np.uint8)
        reached = np.unpackbits(packed, count=self.num_files, bitorder="little").view(np.bool_)
        mask: npt.NDArray[np.bool_] = np.repeat(reached, np.diff(self._first))
        own = slice(self._first[file], self._first[file + 1])
        mask[own] = np.asarray(self._ends[own]) <= _position_key(pos)
        return torch.from_numpy(mask)

    def _file(self, path: str | Path) -> int:
        file = self._files.get(_posix(path))
        if file is None:
            raise DataError(
                f"{_posix(path)} is not a file of the corpus {self.path}; write the path as the corpus does, "
                "or add the file with Corpus.with_file"
            )
        return file


def _posix(path: str | Path) -> str:
    return path if isinstance(path, str) else path.as_posix()


def _position_key(value: object) -> int:
    """Return an integer that orders as positions do."""
    if type(value) is list and len(value) == 2:  # as in the file: 180,000 premises have two each
        line, column = value
        if type(line) is int and type(column) is int and line > 0 and 0 < column < 1 << 32:
            return line << 32 | column
    pos = Pos.of(value)
    return pos.line_nb << 32 | pos.column_nb


def _position(key: int) -> Pos:
    return Pos(key >> 32, key & 0xFFFFFFFF)


def _reason_to_drop(name: str | None, code: str) -> str | None:
    """Say why ReProver leaves a premise out, or None."""
    if name is None:
        return "without a name"
    if "user__.n" in name or code == "":
        return "ill-formed (no code, or user__.n in the name)"
    if name.startswith("[") and name.endswith("]"):
        return "mutual definitions"
    return None


def _explain_import(corpus_path: Path, path: str, imported: str) -> str:
    """Say what is wrong with an import that is on no earlier line, after reading all lines again."""
    imports: dict[str, list[str]] = {}
    line_nbs: dict[str, int] = {}
    with corpus_path.open("rb") as lines:
        for line_nb, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                imports[record["path"]], line_nbs[record["path"]] = list(record["imports"]), line_nb
            except (KeyError, TypeError, ValueError):
                continue
    imports.setdefault(path, [])
    if imported not in imports:
        return f"{path} imports {imported}, which is no file of the corpus; add it on an earlier line"
    came_from = {imported: path}
    queue = [imported]
    while queue and path not in came_from:
        file = queue.pop()
        for name in imports.get(file, []):
            if name not in came_from:
                came_from[name] = file
                queue.append(name)
    if path not in came_from:
        return (
            f"{path} imports {imported}, which stands below on line {line_nbs[imported]}; "
            "order the lines so that imports come before importers"
        )
    cycle = [path]
    while len(cycle) == 1 or cycle[-1] != path:
        cycle.append(came_from[cycle[-1]])
    return "imports form a cycle: " + " imports ".join(reversed(cycle))
