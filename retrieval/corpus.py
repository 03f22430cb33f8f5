"""The premises of a library: where they stand, and which of them a theorem may cite.

Shape legend: N premises.
"""

from __future__ import annotations

import hashlib
import json
import logging
from bisect import bisect_right
from collections.abc import Iterable, Iterator, KeysView, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common import DataError, Premise
from retrieval.leandojo.columns import ColumnsReader, position_key
from retrieval.leandojo.traces import TracedTactics

_LOG = logging.getLogger(__name__)


class Corpus:
    """The premises of a corpus.jsonl in LeanDojo Benchmark 4 format.

    Premises are numbered in the order of the file; `corpus[number]` makes the object of one.

    Attributes:
        path: the file that was read
        num_dropped: premises left out by ReProver's filters, by reason
    """

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
        self._files: dict[str, int] = {}  # numbers of files, by path
        self._reach: list[int] = []  # bit g of _reach[f] is set if f is g or imports it, directly or not
        self._first = [0]  # premises of file f are numbered from _first[f] to _first[f + 1]
        reader = ColumnsReader()
        for where, record in _read_lines(self.path):
            self._append_file(record, where, reader)
        if not self._files:
            raise DataError(f"{self.path} is empty; a corpus.jsonl has one source file on each line")
        self._columns = reader.columns()
        self._paths = list(self._files)
        self._starts, self._sizes = np.array(self._first[:-1]), np.diff(self._first)
        self._has_premises = self._sizes > 0
        self.num_dropped = reader.num_dropped
        if num_dropped := self.num_dropped.total():
            reasons = ", ".join(f"{number} {reason}" for reason, number in self.num_dropped.items())
            total = len(self) + num_dropped
            _LOG.warning("%s: left out %d of %d premises: %s", self.path, num_dropped, total, reasons)

    def _append_file(self, record: Mapping[str, Any], where: str, reader: ColumnsReader) -> None:
        """Add one source file, and its premises to the reader; `where` names its place in errors."""
        number, first = len(self._files), len(reader)
        try:
            path, imports = record["path"], record["imports"]
            if not (isinstance(path, str) and isinstance(imports, list) and isinstance(record["premises"], list)):
                raise TypeError("a field is of another kind")
            path.encode()
            reach = 1 << number
            for imported in imports:
                if imported not in self._files:
                    raise DataError(f"{where}: {_explain_import(self.path, path, imports, imported)}")
                reach |= self._reach[self._files[imported]]
            reader.append(record["premises"], where)
        except (KeyError, TypeError, UnicodeEncodeError) as error:
            raise DataError(
                f"{where}: not a source file of a corpus ({type(error).__name__}: {error}); it needs path, "
                "a text, and imports and premises, which are lists"
            ) from error
        if self._files.setdefault(path, number) != number:
            raise DataError(f"{where}: {path} appears for the second time; a corpus has each file once")
        self._reach.append(reach)
        self._first.append(self._first[-1] + len(reader) - first)

    @cached_property
    def content_hash(self) -> str:
        """Hash of premises, files and imports, which files that hold premise numbers keep beside them."""
        graph = json.dumps([self._paths, self._first, [f"{reach:x}" for reach in self._reach]])
        return hashlib.sha256(self._columns.digest() + graph.encode()).hexdigest()

    @property
    def paths(self) -> KeysView[str]:
        """Paths of the source files, in import order."""
        return self._files.keys()

    @property
    def num_files(self) -> int:
        """Number of source files, those without premises included."""
        return len(self._files)

    def __len__(self) -> int:
        return len(self._columns)

    def __getitem__(self, number: int) -> Premise:
        if not 0 <= number < len(self):
            raise IndexError(f"there is no premise {number}; the corpus has 0..{len(self) - 1}")
        return self._columns.premise(number, self._paths[bisect_right(self._first, number) - 1])

    def __iter__(self) -> Iterator[Premise]:
        for path, file in self._files.items():
            for number in range(self._first[file], self._first[file + 1]):
                yield self._columns.premise(number, path)

    def knows(self, path: str | Path) -> bool:
        """Tell whether a source file is in the corpus."""
        return _posix(path) in self._files

    def numbers_in_file(self, path: str | Path) -> range:
        """Return the numbers of a file's premises.

        Raises:
            DataError: if the corpus has no such file
        """
        return self._numbers_in(self._file(path))

    def numbers_beside(self, number: int) -> range:
        """Return the numbers of the premises in a premise's file, its own included."""
        return self._numbers_in(bisect_right(self._first, number) - 1)

    def _numbers_in(self, file: int) -> range:
        return range(self._first[file], self._first[file + 1])

    def locate(self, path: str | Path, pos: object) -> int | None:
        """Return the number of the first premise of a file that holds a position, its ends included.

        Args:
            path: a source file; one that the corpus lacks has no premises
            pos: whatever `Pos.of` reads
        """
        file = self._files.get(_posix(path))
        if file is None:
            return None
        own = slice(self._first[file], self._first[file + 1])
        key = position_key(pos)
        holds = (self._columns.starts[own] <= key) & (key <= self._columns.ends[own])
        return own.start + int(holds.argmax()) if holds.any() else None

    def locate_premise(self, path: str | Path, pos: object) -> Premise | None:
        """Return the first premise of a file that holds a position, or None; see `locate`."""
        number = self.locate(path, pos)
        return None if number is None else self[number]

    def accessible_mask(self, path: str | Path, pos: object) -> torch.Tensor:
        """Mark the premises that a theorem may cite.

        Args:
            path: the source file that the theorem is in
            pos: where the theorem starts; whatever `Pos.of` reads

        Returns:
            True for the premises of all files that this one imports, directly or not, and for those of this
            file that end at or before pos; bool (N,), a new tensor each time.

        Raises:
            DataError: if the corpus has no such file

        Source: LeanDojo (arXiv:2306.15626, section 5); ReProver's code goes by name, and so lets in a later premise
        that has the name of an earlier one.
        """
        return self.accessible_masks([(path, pos)])[0]

    def accessible_masks(self, places: Sequence[tuple[str | Path, object]]) -> torch.Tensor:
        """Return `accessible_mask` of several places, as one tensor, bool (B, N)."""
        masks = np.empty((len(places), len(self)), dtype=np.bool_)
        for mask, (path, pos) in zip(masks, places, strict=True):
            file = self._file(path)
            mask[:] = np.repeat(self._reached(file), self._sizes)  # 30 us for Mathlib
            own = slice(self._first[file], self._first[file + 1])
            mask[own] = self._columns.ends[own] <= position_key(pos)
        return torch.from_numpy(masks)

    def accessible_runs(self, path: str | Path, pos: object) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return what `accessible_mask` marks as runs of numbers: the first of each, ascending, and how many it has.

        A file that is imported is a run, and so is each premise of the theorem's own file; none is empty.
        """
        file = self._file(path)
        files = np.flatnonzero(self._reached(file)[:file] & self._has_premises[:file])  # it imports earlier ones alone
        own = slice(self._first[file], self._first[file + 1])
        singles = own.start + np.flatnonzero(self._columns.ends[own] <= position_key(pos))
        firsts = np.concatenate([self._starts[files], singles])
        return firsts, np.concatenate([self._sizes[files], np.ones_like(singles)])

    def imported_by(self, path: str | Path) -> list[str]:
        """Return the files that a file imports, directly or not, in import order; none for an unknown one."""
        file = self._files.get(_posix(path))
        if file is None:
            return []
        return [self._paths[number] for number in np.flatnonzero(self._reached(file)[:file]).tolist()]

    def _reached(self, file: int) -> npt.NDArray[np.bool_]:
        """Whether each file is the given one or imported by it, (number of files,)."""
        packed = np.frombuffer(self._reach[file].to_bytes(self.num_files // 8 + 1, "little"), np.uint8)
        return np.unpackbits(packed, count=self.num_files, bitorder="little").view(np.bool_)

    def _file(self, path: str | Path) -> int:
        file = self._files.get(_posix(path))
        if file is None:
            raise DataError(
                f"{_posix(path)!r} is not a file of the corpus {self.path}; write the path as the corpus does, or "
                "add a line for the file to the corpus"
            )
        return file


def positive_premises(traced: TracedTactics, corpus: Corpus) -> list[list[int]]:
    """Return the numbers of the distinct premises that each step cites, in the order of its text.

    As in ReProver a premise is found by where it is defined, and not by its name. Premises that the corpus lacks
    are left out, and their number is logged.
    """
    positives, num_cited, num_lost = [], 0, 0
    for step in traced:
        numbers = [corpus.locate(path, pos) for path, pos in step.premises]
        positives.append(list(dict.fromkeys(number for number in numbers if number is not None)))
        num_cited += len(numbers)
        num_lost += numbers.count(None)
    if num_lost:
        _LOG.warning("%s: %d of %d cited premises are not in the corpus", traced.path, num_lost, num_cited)
    return positives


def _posix(path: str | Path) -> str:
    return path if isinstance(path, str) else path.as_posix()


def _read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield the place and the content of each line of a JSONL file."""
    try:
        with path.open("rb") as lines:
            for line_nb, line in enumerate(lines, start=1):
                if line.isspace():
                    continue
                where = f"{path}:{line_nb}"
                try:
                    record = json.loads(line.decode())  # of bytes it takes halves of characters
                except (RecursionError, ValueError) as error:
                    raise DataError(f"{where}: this line is not JSON ({error})") from error
                yield where, record
    except OSError as error:
        raise DataError(f"cannot read the corpus {path}: {error.strerror}; give a corpus.jsonl") from error


def _explain_import(corpus_path: Path, path: str, imports: Iterable[str], imported: str) -> str:
    """Say what is wrong with an import that no earlier line has, after reading all lines."""
    graph = {path: list(imports)}
    places = {}
    for where, record in _read_lines(corpus_path):
        try:
            graph.setdefault(str(record["path"]), list(record["imports"]))
            places[record["path"]] = where
        except (KeyError, TypeError):
            continue  # that line is reported once this one is mended
    if imported not in graph:
        return f"{path} imports {imported}, which is no file of the corpus; add its line above this one"
    cycle = _shortest_path(graph, imported, path)
    if cycle:
        return "the imports form a cycle: " + " imports ".join([path, *cycle])
    return f"{path} imports {imported}, which stands below, at {places[imported]}; order files by import"


def _shortest_path(graph: Mapping[str, list[str]], start: str, end: str) -> list[str]:
    """Return files from start to end, both included, each of which imports the next; [] where there are none."""
    came_from: dict[str, str | None] = {start: None}
    for file in (queue := [start]):
        for name in graph.get(file, []):
            if name not in came_from:
                came_from[name] = file
                queue.append(name)
    path = []
    file_before = end if end in came_from else None
    while file_before is not None:
        path.append(file_before)
        file_before = came_from[file_before]
    return path[::-1]
