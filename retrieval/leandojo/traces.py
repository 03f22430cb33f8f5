"""Traced tactics: the steps of human proofs, read from the files of LeanDojo Benchmark 4.

A training file of the benchmark takes 0.4 GB as JSON and 2.3 times that as Python objects. It is read
here one theorem at a time into one buffer of UTF-8 and a few arrays of numbers, so that a step costs no
Python object until it is asked for, and forked workers share all of it.

Measured by tests/benchmarks/loading.py.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import NO_GOALS, DataError, Pos, format_state, format_tactic, remove_marks
from retrieval.leandojo.json_list import JsonListReader

_WITHOUT_TACTICS = "theorems without traced tactics"
_FROM_NO_GOALS = f'steps from "{NO_GOALS}"'
_EMPTY_TACTIC = "steps with an empty tactic"
_MAX_INT = np.iinfo(np.int32).max


@dataclass(frozen=True, slots=True)
class TracedTactic:
    """One step of a proof: the tactic that was run on a state.

    Attributes:
        url: repository of the proof
        commit: its commit
        file_path: the file in the repository
        full_name: the theorem
        start: where the theorem starts
        tactic_idx: number of the step among the theorem's traced tactics
        state: the state before the step, without a line "2 goals" in front
        tactic: the tactic, premise names in full and between marks
        premises: path and position of the definition of each marked premise, in order
    """

    url: str
    commit: str
    file_path: str
    full_name: str
    start: Pos
    tactic_idx: int
    state: str
    tactic: str
    premises: tuple[tuple[str, Pos], ...]


class TracedTactics(Sequence[TracedTactic]):
    """The steps of one split, in the order of its file.

    Attributes:
        path: the file
        num_theorems: theorems in it, those without a step included
        left_out: how many of what was left out; report it once, see `summary`
        state_lengths: bytes of UTF-8 of each state, int64 (N,)
        tactic_lengths: bytes of each tactic without its marks, int64 (N,)
        marked_tactic_lengths: bytes of each tactic with its marks, int64 (N,)

    N is the number of steps.
    """

    def __init__(self, path: Path, tables: _Tables) -> None:
        """Take over what was read; users call `load`."""
        self.path = path
        self.num_theorems = tables.num_theorems
        self.left_out = {what: number for what, number in tables.left_out.items() if number}
        self._texts, self._bounds, numbers = tables.texts.finish()
        self._theorems = np.frombuffer(tables.theorems, np.int32).reshape(-1, 6)
        self._steps = np.frombuffer(tables.steps, np.int32).reshape(-1, 6)
        self._premises = np.frombuffer(tables.premises, np.int32).reshape(-1, 3)
        for texts in (self._theorems[:, :4], self._steps[:, 2:4], self._premises[:, :1]):
            texts[:] = numbers[texts]
        lengths: npt.NDArray[np.int64] = np.diff(self._bounds)
        self.state_lengths: npt.NDArray[np.int64] = lengths[self._steps[:, 2]]
        self.marked_tactic_lengths: npt.NDArray[np.int64] = lengths[self._steps[:, 3]]
        self.tactic_lengths: npt.NDArray[np.int64] = self.marked_tactic_lengths - self._steps[:, 4]

    @classmethod
    def load(cls, path: str | Path, *, normalize_tactics: bool = True, progress: bool = True) -> TracedTactics:
        """Read `train.json`, `val.json` or `test.json` of any release of the benchmark.

        Args:
            path: the file
            normalize_tactics: write each run of white space in a tactic as one space
            progress: show a progress bar where reading takes more than a second

        Raises:
            DataError: if the file is missing or broken, or a theorem lacks a needed field
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: there is no such file; a split is a file train.json, val.json or test.json")
        size = path.stat().st_size
        tables = _Tables(size, normalize_tactics)
        bar = tqdm(total=size, desc=f"read {path.name}", unit="B", unit_scale=True, delay=1, disable=not progress)
        with open(path, "rb", buffering=0) as file, bar:
            for number, theorem in enumerate(JsonListReader(path, file, bar.update)):
                try:
                    tables.add_theorem(theorem)
                except DataError as error:
                    name = theorem.get("full_name") if isinstance(theorem, dict) else None
                    raise DataError(f"{path}: theorem {number} ({name or 'no name'}){error}") from None
        traced = cls(path, tables)
        _trim_heap()
        return traced

    def __len__(self) -> int:
        return len(self._steps)

    @overload
    def __getitem__(self, index: int) -> TracedTactic: ...
    @overload
    def __getitem__(self, index: slice) -> list[TracedTactic]: ...
    def __getitem__(self, index: int | slice) -> TracedTactic | list[TracedTactic]:
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        index = range(len(self))[index]
        theorem, tactic_idx, state, tactic, _, end = self._steps[index].tolist()
        url, commit, file_path, full_name, line_nb, column_nb = self._theorems[theorem].tolist()
        premises = self._premises[self._steps[index - 1, 5] if index else 0 : end].tolist()
        return TracedTactic(
            url=self._text(url),
            commit=self._text(commit),
            file_path=self._text(file_path),
            full_name=self._text(full_name),
            start=Pos(line_nb, column_nb),
            tactic_idx=tactic_idx,
            state=self._text(state),
            tactic=self._text(tactic),
            premises=tuple((self._text(def_path), Pos(line, column)) for def_path, line, column in premises),
        )

    def _text(self, number: int) -> str:
        start, end = self._bounds[number : number + 2].tolist()
        return self._texts[start:end].tobytes().decode()

    def summary(self) -> str:
        """Say in one line what the file holds and what was left out."""
        line = f"{self.path}: {self.num_theorems:,} theorems, {len(self):,} steps"
        left_out = ", ".join(f"{number:,} {what}" for what, number in self.left_out.items())
        return f"{line}; left out: {left_out}" if left_out else line


def hash_state(state: str) -> str:
    """Return 16 hexadecimal digits that stand for a state."""
    return hashlib.blake2b(state.encode(errors="surrogatepass"), digest_size=8).hexdigest()


def _trim_heap() -> None:
    """Give the memory that reading freed back to the system.

    glibc keeps what lies below its last block: on a file of 122 MB with one theorem of 8 MB the process
    has then grown by 0.65x the file, else by 0.50x.
    """
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (AttributeError, OSError, TypeError):
        pass  # another C library, with its own ways


# ------------------------------------------------------------------------------------------------
# What is kept of the theorems


class _TextStore:
    """Texts by number, as UTF-8 in one buffer."""

    def __init__(self, max_bytes: int) -> None:
        # memory that is not written is not taken from the system, and finish() gives back what was not used
        self._texts = np.empty(max_bytes, dtype=np.uint8)
        self._view = self._texts.data
        self._bounds = array("q", [0])
        self._hashes = array("q")
        self._numbers: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Keep a text; return its number."""
        try:
            encoded = text.encode()
        except UnicodeEncodeError:
            raise DataError(f": {text[:80]!r} holds half a surrogate pair; export the file again") from None
        start = self._bounds[-1]
        self._view[start : start + len(encoded)] = encoded
        self._bounds.append(start + len(encoded))
        self._hashes.append(hash(encoded))
        return len(self._hashes) - 1

    def intern(self, text: str) -> int:
        """Keep a text that comes back often, such as a path; return its number."""
        number = self._numbers.get(text)
        if number is None:
            number = self._numbers[text] = self.add(text)
        return number

    def finish(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int32]]:
        """Keep each distinct text once.

        Returns:
            The buffer, cut to its content; the bounds of the distinct texts in it (their number + 1); and
            for each number that was given out the number of the distinct text.
        """
        # Here and not while reading: a dictionary of all hashes takes a fifth of the memory of all texts.
        hashes = np.frombuffer(self._hashes, dtype=np.int64)
        bounds = np.frombuffer(self._bounds, dtype=np.int64)
        _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
        same_as = first[inverse]
        is_new = same_as == np.arange(len(hashes))
        for number in np.flatnonzero(~is_new).tolist():
            if self._encoded(number) != self._encoded(int(same_as[number])):  # two texts of one hash
                same_as[number], is_new[number] = number, True
        self._close_gaps(np.flatnonzero(np.diff(is_new, prepend=False, append=False)).reshape(-1, 2))
        new_bounds = np.concatenate([[0], np.cumsum(np.diff(bounds)[is_new])])
        self._view.release()
        self._texts.resize(int(new_bounds[-1]), refcheck=False)
        return self._texts, new_bounds, (np.cumsum(is_new, dtype=np.int32) - 1)[same_as]

    def _encoded(self, number: int) -> bytes:
        return bytes(self._view[self._bounds[number] : self._bounds[number + 1]])

    def _close_gaps(self, runs: npt.NDArray[np.int64]) -> None:
        """Move the texts of each run, from first to last excluded, to the end of the run before it."""
        end = 0
        for start, stop in np.frombuffer(self._bounds, dtype=np.int64)[runs].tolist():
            if start > end:
                self._view[end : end + stop - start] = self._view[start:stop]
            end += stop - start


class _Tables:
    """Theorems, steps and premises as rows of numbers, while a file is being read."""

    def __init__(self, num_bytes: int, normalize_tactics: bool) -> None:
        self.normalize_tactics = normalize_tactics
        # A text is at most as long as its JSON, and names written in full stand in the file as well
        self.texts = _TextStore(num_bytes)
        self.theorems = array("i")  # url, commit, file_path, full_name, line, column
        self.steps = array("i")  # theorem, tactic_idx, state, tactic, bytes of its marks, end of its premises
        self.premises = array("i")  # def_path, line, column
        self.num_theorems = 0
        self.left_out = dict.fromkeys((_WITHOUT_TACTICS, _FROM_NO_GOALS, _EMPTY_TACTIC), 0)

    def add_theorem(self, theorem: object) -> None:
        """Add the steps of one theorem; the message of a DataError follows the theorem's name."""
        if not isinstance(theorem, dict):
            raise DataError(f": it is {_kind(theorem)}, not an object with the fields of a theorem")
        names = [_text(theorem, field) for field in ("url", "commit", "file_path", "full_name")]
        start = _position(theorem, "start")
        steps = theorem.get("traced_tactics")
        if not isinstance(steps, list):
            raise DataError(f": field 'traced_tactics' must be a list, but {_found(theorem, 'traced_tactics')}")
        if not steps:
            self.left_out[_WITHOUT_TACTICS] += 1
        for tactic_idx, step in enumerate(steps):
            try:
                self._add_step(tactic_idx, step)
            except DataError as error:
                raise DataError(f", tactic {tactic_idx}{error}") from None
        self.theorems.extend([*map(self.texts.intern, names[:3]), self.texts.add(names[3])])
        self.theorems.extend(start)
        self.num_theorems += 1

    def _add_step(self, tactic_idx: int, step: object) -> None:
        if not isinstance(step, dict):
            raise DataError(f": it is {_kind(step)}, not an object with the fields of a tactic")
        state = format_state(_text(step, "state_before"))
        if state == NO_GOALS:
            self.left_out[_FROM_NO_GOALS] += 1
            return
        annotated, full_names, definitions = _annotated_tactic(step)
        try:
            tactic = format_tactic(annotated, full_names, self.normalize_tactics)
        except DataError as error:
            raise DataError(f": {error}") from None
        if not tactic:
            self.left_out[_EMPTY_TACTIC] += 1
            return
        for def_path, (line_nb, column_nb) in definitions:
            self.premises.fromlist([self.texts.intern(def_path), line_nb, column_nb])
        # marks are ASCII, so that characters and bytes agree
        num_mark_bytes = len(tactic) - len(remove_marks(tactic))
        numbers = self.texts.add(state), self.texts.add(tactic)
        self.steps.fromlist([self.num_theorems, tactic_idx, *numbers, num_mark_bytes, len(self.premises) // 3])


_Definition = tuple[str, tuple[int, int]]  # path, and line and column in it


def _annotated_tactic(step: Mapping[str, Any]) -> tuple[str, list[str], list[_Definition]]:
    """Return the tactic with its marks, and the full names and the definitions of its premises."""
    annotated = step.get("annotated_tactic")
    if annotated is None:
        return _text(step, "tactic"), [], []
    if not (isinstance(annotated, list) and len(annotated) == 2 and isinstance(annotated[1], list)):
        raise DataError(f": field 'annotated_tactic' must be [text, list of premises], but is {_kind(annotated)}")
    text, premises = annotated
    if not isinstance(text, str):
        raise DataError(f": the text of field 'annotated_tactic' is {_kind(text)}")
    full_names, definitions = [], []
    for premise in premises:
        if not isinstance(premise, dict):
            raise DataError(f": a premise of field 'annotated_tactic' is {_kind(premise)}, not an object")
        full_names.append(_text(premise, "full_name"))
        definitions.append((_text(premise, "def_path"), _position(premise, "def_pos")))
    return text, full_names, definitions


def _text(record: Mapping[str, Any], field: str) -> str:
    value = record.get(field)
    if isinstance(value, str):
        return value
    raise DataError(f": field {field!r} must be a text, but {_found(record, field)}")


def _position(record: Mapping[str, Any], field: str) -> tuple[int, int]:
    value = record.get(field)
    if value is None:
        raise DataError(f": field {field!r} must be a position, but {_found(record, field)}")
    if type(value) is list and len(value) == 2:  # what most files hold, without a Pos for each
        line_nb, column_nb = value
        if type(line_nb) is type(column_nb) is int and 0 < line_nb < _MAX_INT and 0 < column_nb < _MAX_INT:
            return line_nb, column_nb
    try:
        pos = Pos.of(value)
    except DataError as error:
        raise DataError(f": field {field!r}: {error}") from None
    if max(pos) > _MAX_INT:
        raise DataError(f": field {field!r} is {pos}, which is beyond any file")
    return pos.line_nb, pos.column_nb


def _found(record: Mapping[str, Any], field: str) -> str:
    return f"is {_kind(record[field])}" if field in record else f"there are only {', '.join(record) or 'none'}"


def _kind(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."
