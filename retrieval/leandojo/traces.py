"""Traced tactics: the steps of human proofs, read from the files of LeanDojo Benchmark 4.

A training file of the benchmark takes 0.4 GB as JSON and 2.3 times that as Python objects. It is read
here one theorem at a time into one buffer of UTF-8 and a few arrays of numbers, so that a step costs no
Python object until it is asked for, and forked workers share all of it.

Measured by tests/benchmarks/loading.py.
"""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt
from tqdm import tqdm

from common import MARK_START, NO_GOALS, Context, DataError, Pos, format_state, remove_marks
from retrieval.leandojo.json_list import JsonListReader
from retrieval.leandojo.provenance import Provenance
from retrieval.leandojo.tactic_text import TacticNames, TacticText
from retrieval.leandojo.text_column import DistinctTexts, digest_of
from retrieval.leandojo.theorem_fields import as_object, list_field, marked_tactic, position_field, text_field

_WITHOUT_TACTICS = "theorems without traced tactics"
_FROM_NO_GOALS = f'steps from "{NO_GOALS}"'
_EMPTY_STATE = "steps with an empty state"
_EMPTY_TACTIC = "steps with an empty tactic"


@dataclass(frozen=True, slots=True)
class TracedTactic:
    """One step of a proof: the tactic that was run on a state.

    Attributes:
        provenance: where the step comes from
        state: the state before the step, without a line "2 goals" in front
        tactic: the tactic, its premises between marks
        premises: path and position of the definition of each marked premise, in order
    """

    provenance: Provenance
    state: str
    tactic: str
    premises: tuple[tuple[str, Pos], ...]

    @property
    def context(self) -> Context:
        """What a prover asks with where the step was made."""
        origin = self.provenance
        return Context(origin.file_path, origin.full_name, origin.start, self.state)


class TracedTactics(Sequence[TracedTactic]):
    """The steps of one split, in the order of its file.

    Attributes:
        path: the file
        num_theorems: theorems in it, those without a step included
        num_unmarked: steps whose premises are not marked in the tactic, since the annotated tactic has another text
        left_out: how many of what was left out; report it once, see `summary`
        state_lengths: bytes of UTF-8 of each state, int64 (N,)
        tactic_lengths: bytes of each tactic without its marks, int64 (N,)
        marked_tactic_lengths: bytes of each tactic with its marks, int64 (N,)

    N is the number of steps.
    """

    def __init__(self, path: Path, tables: _Tables) -> None:
        """Take over what was read; users call `load`."""
        self.path = path
        self.num_theorems, self.num_unmarked = tables.num_theorems, tables.num_unmarked
        self.left_out = {what: number for what, number in tables.left_out.items() if number}
        self._texts, numbers = tables.texts.finish()
        self._theorems = np.frombuffer(tables.theorems, np.int32).reshape(-1, 6)
        self._steps = np.frombuffer(tables.steps, np.int32).reshape(-1, 6)
        self._premises = np.frombuffer(tables.premises, np.int32).reshape(-1, 3)
        for texts in (self._theorems[:, :4], self._steps[:, 2:4], self._premises[:, :1]):
            texts[:] = numbers[texts]
        lengths = self._texts.lengths
        self.state_lengths: npt.NDArray[np.int64] = lengths[self._steps[:, 2]]
        self.marked_tactic_lengths: npt.NDArray[np.int64] = lengths[self._steps[:, 3]]
        self.tactic_lengths: npt.NDArray[np.int64] = self.marked_tactic_lengths - self._steps[:, 4]

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        tactic_names: TacticNames = "written",
        normalize_tactics: bool = False,
        progress: bool = True,
    ) -> TracedTactics:
        """Read `train.json`, `val.json` or `test.json` of any release of the benchmark.

        Args:
            path: the file
            tactic_names: "written" or "full"; see `TacticText`
            normalize_tactics: leave out white space that no prover reads; see `normalize_tactic`
            progress: show a progress bar where reading takes more than a second

        Raises:
            ConfigError: if tactic_names is neither
            DataError: if the file is missing or broken, or a theorem lacks a needed field
        """
        path = Path(path)
        if not path.is_file():
            raise DataError(f"{path}: there is no such file; a split is a file train.json, val.json or test.json")
        size = path.stat().st_size
        tables = _Tables(TacticText(tactic_names, normalize_tactics))
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
        texts = self._texts
        return TracedTactic(
            provenance=Provenance(
                url=texts[url],
                commit=texts[commit],
                file_path=texts[file_path],
                full_name=texts[full_name],
                start=Pos(line_nb, column_nb),
                tactic_idx=tactic_idx,
            ),
            state=texts[state],
            tactic=texts[tactic],
            premises=tuple((texts[def_path], Pos(line, column)) for def_path, line, column in premises),
        )

    @property
    def num_bytes(self) -> int:
        """Bytes of all distinct texts."""
        return len(self._texts.joined)

    def digest(self) -> bytes:
        """Return a hash of all steps, and of what they are steps of."""
        arrays = (np.ascontiguousarray(each) for each in (self._theorems, self._steps, self._premises))
        return digest_of(self._texts.joined, self._texts.bounds, *arrays)

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


class _Tables:
    """Theorems, steps and premises as rows of numbers, while a file is being read; texts go by their numbers."""

    def __init__(self, text: TacticText) -> None:
        self.text = text
        self.texts = DistinctTexts()
        self.theorems = array("i")  # url, commit, file_path, full_name, line, column
        self.steps = array("i")  # theorem, tactic_idx, state, tactic, bytes of its marks, end of its premises
        self.premises = array("i")  # def_path, line, column
        self.num_theorems = self.num_unmarked = 0
        self.left_out = dict.fromkeys((_WITHOUT_TACTICS, _FROM_NO_GOALS, _EMPTY_STATE, _EMPTY_TACTIC), 0)

    def add_theorem(self, theorem: object) -> None:
        """Add the steps of one theorem; the message of a DataError follows the theorem's name."""
        record = as_object(theorem, "a theorem")
        names = [text_field(record, name) for name in ("url", "commit", "file_path", "full_name")]
        start = position_field(record, "start")
        steps = list_field(record, "traced_tactics")
        if not steps:
            self.left_out[_WITHOUT_TACTICS] += 1
        for tactic_idx, step in enumerate(steps):
            try:
                self._add_step(tactic_idx, as_object(step, "a tactic"))
            except DataError as error:
                raise DataError(f", tactic {tactic_idx}{error}") from None
        self.theorems.extend([*map(self.texts.intern, names[:3]), self.texts.add(names[3]), *start])
        self.num_theorems += 1

    def _add_step(self, tactic_idx: int, step: Mapping[str, Any]) -> None:
        state = format_state(text_field(step, "state_before"))
        if state == NO_GOALS:
            self.left_out[_FROM_NO_GOALS] += 1
            return
        if not state.strip():
            self.left_out[_EMPTY_STATE] += 1
            return
        tactic, definitions = marked_tactic(step, self.text)
        if not remove_marks(tactic).strip():
            self.left_out[_EMPTY_TACTIC] += 1
            return
        self.num_unmarked += bool(definitions) and MARK_START not in tactic
        for def_path, line_nb, column_nb in definitions:
            self.premises.fromlist([self.texts.intern(def_path), line_nb, column_nb])
        # marks are ASCII, so that characters and bytes agree
        num_mark_bytes = len(tactic) - len(remove_marks(tactic))
        numbers = self.texts.add(state), self.texts.add(tactic)
        self.steps.fromlist([self.num_theorems, tactic_idx, *numbers, num_mark_bytes, len(self.premises) // 3])
