"""Traced tactics: the steps of human proofs, read from the files of LeanDojo Benchmark 4.

A training file of the benchmark takes 0.4 GB as JSON and 2.3 times that as Python objects. It is read
here one theorem at a time into one buffer of UTF-8 and a few arrays of numbers, so that a step costs no
Python object until it is asked for, and forked workers share all of it.

Measured by tests/benchmarks/loading.py.
"""

from __future__ import annotations

import codecs
import ctypes
import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import NO_GOALS, DataError, Pos, format_state, format_tactic, remove_marks

_WITHOUT_TACTICS = "theorems without traced tactics"
_FROM_NO_GOALS = f'steps from "{NO_GOALS}"'
_EMPTY_TACTIC = "steps with an empty tactic"


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
        lengths = np.diff(self._bounds)
        self.state_lengths = lengths[self._steps[:, 2]]
        self.marked_tactic_lengths = lengths[self._steps[:, 3]]
        self.tactic_lengths = self.marked_tactic_lengths - self._steps[:, 4]

    @classmethod
    def load(
        cls, path: str | Path, *, normalize_tactics: bool = True, progress: bool = True
    ) -> TracedTactics:
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
            for number, theorem in enumerate(_ListReader(path, file, bar)):
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
        self._view = memoryview(self._texts)
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
            self.premises.extend((self.texts.intern(def_path), line_nb, column_nb))
        # marks are ASCII, so that characters and bytes agree
        num_mark_bytes = len(tactic) - len(remove_marks(tactic))
        numbers = self.texts.add(state), self.texts.add(tactic)
        self.steps.extend((self.num_theorems, tactic_idx, *numbers, num_mark_bytes, len(self.premises) // 3))


def _annotated_tactic(step: Mapping[str, Any]) -> tuple[str, list[str], list[tuple[str, Sequence[int]]]]:
    """Return the tactic with its marks, and the names and definitions (path, position) of its premises."""
    annotated = step.get("annotated_tactic")
    if annotated is None:
        return _text(step, "tactic"), [], []
    match annotated:
        case [str(text), list(premises)]:
            pass
        case _:
            raise DataError(
                f": field 'annotated_tactic' must be [text, list of premises], but is {_kind(annotated)}"
            )
    full_names, definitions = [], []
    for premise in premises:
        if not isinstance(premise, dict):
            raise DataError(f": a premise is {_kind(premise)}, not an object")
        full_names.append(_text(premise, "full_name"))
        definitions.append((_text(premise, "def_path"), _position(premise, "def_pos")))
    return text, full_names, definitions


def _text(record: Mapping[str, Any], field: str) -> str:
    value = record.get(field)
    if isinstance(value, str):
        return value
    raise DataError(f": field {field!r} must be a text, but {_found(record, field)}")


def _position(record: Mapping[str, Any], field: str) -> Sequence[int]:
    match record.get(field):
        case [int(line_nb), int(column_nb)] if line_nb > 0 and column_nb > 0:  # what most files hold
            return line_nb, column_nb
        case None:
            raise DataError(f": field {field!r} must be a position, but {_found(record, field)}")
        case value:
            try:
                return tuple(Pos.of(value))
            except DataError as error:
                raise DataError(f": field {field!r}: {error}") from None


def _found(record: Mapping[str, Any], field: str) -> str:
    return f"is {_kind(record[field])}" if field in record else f"there are only {', '.join(record) or 'none'}"


def _kind(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:60]}..."


# ------------------------------------------------------------------------------------------------
# Reading a long JSON list element by element


class _ListReader:
    """The elements of the JSON list in a file, of which it holds one block at a time."""

    BLOCK = 1 << 20  # bytes
    _SPACE = re.compile(r"[ \t\r\n]*")
    _FOREIGN = {
        "<": "it is an HTML or XML page, not the data; download the file again",
        "version https://git-lfs": "it is a Git LFS pointer, not the data; run `git lfs pull`",
    }

    def __init__(self, path: Path, file: BinaryIO, bar: tqdm[Any]) -> None:
        self.path, self.file, self.bar = path, file, bar
        self.text, self.position = "", 0
        self.num_bytes_before = 0  # bytes of the file in front of self.text
        self.num_bytes_read = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._json = json.JSONDecoder()

    def __iter__(self) -> Iterator[Any]:
        if self._next_character() != "[":
            self._fail_at_start()
        self.position += 1
        if self._next_character() != "]":
            while True:
                yield self._element()
                separator = self._next_character()
                if separator == "]":
                    break
                if separator != ",":
                    self._fail("',' or ']' expected between theorems" if separator else "the file ends too early")
                self.position += 1
                self._next_character()
        self.position += 1
        if self._next_character():
            self._fail("something follows the end of the list")

    def _more(self) -> bool:
        """Drop what was used and read another block; False at the end of the file."""
        self.num_bytes_before += len(self.text[: self.position].encode())
        rest = self.text[self.position :]
        # growing, so that an element of many blocks is not tried again for each of them
        block = self.file.read(max(self.BLOCK, len(rest) // 2))
        try:
            self.text = rest + self._decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self.path}: not UTF-8 at about byte {self.num_bytes_read + error.start:,}; a split is a JSON "
                "file: unpack it if it is an archive, else download it again"
            ) from None
        self.position = 0
        self.num_bytes_read += len(block)
        self.bar.update(len(block))
        return bool(block)

    def _next_character(self) -> str:
        """Skip white space; return the character behind it, or nothing at the end of the file."""
        while True:
            match = self._SPACE.match(self.text, self.position)
            self.position = match.end() if match else self.position
            if self.position < len(self.text):
                return self.text[self.position]
            if not self._more():
                return ""

    def _element(self) -> Any:
        while True:
            try:
                element, self.position = self._json.raw_decode(self.text, self.position)
                return element
            except json.JSONDecodeError as error:
                # 12 characters: the longest token that is not a string can be cut at the end of a block
                cut = error.msg.startswith("Unterminated string") or error.pos > len(self.text) - 12
                if not cut:
                    self._fail(f"broken JSON: {error.msg}", error.pos)
                if not self._more():
                    self._fail("the file ends in the middle of a theorem", len(self.text))

    def _fail_at_start(self) -> None:
        for start, what in self._FOREIGN.items():
            if self.text.startswith(start, self.position):
                raise DataError(f"{self.path}: {what}")
        found = f"begins with {self.text[self.position : self.position + 20]!r}" if self.text else "is empty"
        raise DataError(f"{self.path}: the file must be a JSON list of theorems, but {found}")

    def _fail(self, what: str, position: int | None = None) -> None:
        before = self.text[: self.position if position is None else position]
        byte = self.num_bytes_before + len(before.encode())
        raise DataError(f"{self.path}: {what}, at byte {byte:,}; download or export the file again")
