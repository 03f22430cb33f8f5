"""Steps of known proofs that cite premises, in columns: what their states look like, where they stand, what they cite.

Shape legend: S steps, D distinct texts of states, T theorems, F files, C citations, Q distinct places that are cited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from common import Context, Pos
from retrieval.corpus import Corpus
from retrieval.leandojo.columns import position_key
from retrieval.leandojo.traces import TracedTactic
from retrieval.step_columns import digest_columns, load_columns, save_columns

FORMAT_VERSION = 1


class Citations:
    """S steps, each with the places of the premises that it cites.

    A premise goes by where it is defined, as the data says, so that any corpus that holds it will do.

    Attributes:
        text_of: number of the state's text among the D, int32 (S,)
        theorem_of: number of the theorem, int32 (S,)
        file_of: number of each theorem's file, int32 (T,)
        position_of: key of where each theorem starts, int64 (T,); see `position_key`
        cited_ends: where the citations of each step end, int64 (S,)
        cited: number of the place that each citation means, int32 (C,)
        paths: of the F files
    """

    def __init__(self, arrays: dict[str, torch.Tensor], paths: list[str]) -> None:
        """Take over what was made or read; users call `of` or `load`."""
        self._tensors, self.paths = arrays, paths
        found = {name: tensor.numpy() for name, tensor in arrays.items()}
        self.text_of, self.theorem_of = found["text_of"], found["theorem_of"]
        self.file_of, self.position_of = found["file_of"], found["position_of"]
        self.cited_ends, self.cited = found["cited_ends"], found["cited"]
        self._places = found["place_file"], found["place_line"], found["place_column"]
        self._numbers = {path: number for number, path in enumerate(paths)}
        self._file_of_step = self.file_of[self.theorem_of]  # (S,)
        self._position_of_step = self.position_of[self.theorem_of]

    @classmethod
    def of(cls, steps: Iterable[TracedTactic], text: Callable[[str], str]) -> tuple[Citations, list[str]]:
        """Put the steps that cite a premise into columns, and return the D texts of their states beside them.

        Args:
            steps: of any proofs
            text: cuts out of a state what is compared
        """
        texts, paths, theorems, places = (dict[Any, int]() for _ in range(4))
        rows: list[tuple[int, int]] = []
        cited: list[int] = []
        ends: list[int] = []
        for step in steps:
            if not step.premises:
                continue
            origin = step.provenance
            file = paths.setdefault(origin.file_path, len(paths))
            theorem = theorems.setdefault((file, position_key(origin.start)), len(theorems))
            rows.append((texts.setdefault(text(step.state), len(texts)), theorem))
            for path, pos in step.premises:
                start = Pos.of(pos)
                place = (paths.setdefault(path, len(paths)), start.line_nb, start.column_nb)
                cited.append(places.setdefault(place, len(places)))
            ends.append(len(cited))
        of_steps = np.array(rows, dtype=np.int32).reshape(-1, 2).T
        of_theorems = np.array(list(theorems), dtype=np.int64).reshape(-1, 2).T
        of_places = np.array(list(places), dtype=np.int32).reshape(-1, 3).T
        arrays = {
            "text_of": of_steps[0],
            "theorem_of": of_steps[1],
            "file_of": of_theorems[0].astype(np.int32),
            "position_of": of_theorems[1],
            "cited_ends": np.array(ends, dtype=np.int64),
            "cited": np.array(cited, dtype=np.int32),
            "place_file": of_places[0],
            "place_line": of_places[1],
            "place_column": of_places[2],
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return cls(tensors, list(paths)), list(texts)

    def __len__(self) -> int:
        return len(self.text_of)

    @property
    def num_texts(self) -> int:
        """D."""
        return int(self.text_of.max()) + 1 if len(self) else 0

    @property
    def num_places(self) -> int:
        """Q."""
        return len(self._places[0])

    def located(self, corpus: Corpus) -> npt.NDArray[np.int64]:
        """Return the number that each of the Q places has in a corpus, -1 where it has none, int64 (Q,)."""
        files, lines, columns = (column.tolist() for column in self._places)
        found = (
            corpus.locate(self.paths[file], Pos(line, column))
            for file, line, column in zip(files, lines, columns, strict=True)
        )
        return np.array([-1 if number is None else number for number in found], dtype=np.int64)

    def may_look_up(self, context: Context, imported: Sequence[str] | None) -> npt.NDArray[np.bool_]:
        """Tell which steps may be looked up for a theorem, bool (S,); its own never.

        Args:
            context: the theorem
            imported: files that its file imports, directly or not: only steps in these, and those before the theorem in
                its own file, may be looked up; None: all others may
        """
        own_file = self._file_of_step == self._numbers.get(context.path, -1)
        position = None if context.theorem_pos is None else position_key(context.theorem_pos)
        if imported is None:
            own = own_file & (self._position_of_step == position) if position is not None else np.zeros_like(own_file)
            others: npt.NDArray[np.bool_] = ~own
            return others
        is_imported = np.zeros(len(self.paths), dtype=np.bool_)
        is_imported[[self._numbers[path] for path in imported if path in self._numbers]] = True
        before = own_file & (self._position_of_step < (-1 if position is None else position))
        allowed: npt.NDArray[np.bool_] = is_imported[self._file_of_step] | before
        return allowed

    def cited_by(self, steps: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return the places that some steps cite, one step's behind the other's, and how many each cites."""
        ends = self.cited_ends[steps]
        starts = np.where(steps > 0, self.cited_ends[steps - 1], 0)
        counts = ends - starts
        before = np.repeat(starts - (counts.cumsum() - counts), counts)
        cited: npt.NDArray[np.int32] = self.cited[before + np.arange(int(counts.sum()))]
        return cited, counts

    def digest(self) -> str:
        """Return a hash of all of it."""
        return digest_columns(self._tensors, self.paths)

    def save(self, path: Path) -> None:
        """Write one safetensors file.

        Raises:
            DataError: if the system refuses to write
        """
        save_columns(path, self._tensors, self.paths, FORMAT_VERSION)

    @classmethod
    def load(cls, path: Path) -> Citations:
        """Open what `save` wrote; the arrays are memory-mapped.

        Raises:
            DataError: if the file is missing, broken, or of another version
        """
        return cls(*load_columns(path, FORMAT_VERSION, _KINDS, _check, "citations"))


_KINDS = {
    "text_of": torch.int32,
    "theorem_of": torch.int32,
    "file_of": torch.int32,
    "position_of": torch.int64,
    "cited_ends": torch.int64,
    "cited": torch.int32,
    "place_file": torch.int32,
    "place_line": torch.int32,
    "place_column": torch.int32,
}


def _check(arrays: dict[str, torch.Tensor], paths: list[str]) -> None:
    """Raise ValueError for arrays that a search would go wrong with."""
    sizes = {name: len(arrays[name]) for name in _KINDS}
    for names in (("text_of", "theorem_of", "cited_ends"), ("file_of", "position_of")):
        if len({sizes[name] for name in names}) > 1:
            raise ValueError("its columns differ in length")
    if len({sizes[name] for name in ("place_file", "place_line", "place_column")}) > 1:
        raise ValueError("its places differ in length")
    limits = {"theorem_of": "file_of", "cited": "place_file"}
    for name, limit in {name: sizes[of] for name, of in limits.items()}.items():
        _check_range(name, arrays[name], 0, limit)
    for name in ("file_of", "place_file"):
        _check_range(name, arrays[name], 0, len(paths))
    _check_range("text_of", arrays["text_of"], 0, max(1, sizes["text_of"]))
    for name in ("place_line", "place_column"):
        _check_range(name, arrays[name], 1, 2**31 - 1)
    ends = arrays["cited_ends"]
    if len(ends) and not (ends[0] >= 0 and bool((ends.diff() >= 0).all()) and int(ends[-1]) == sizes["cited"]):
        raise ValueError("citations do not end where they should")


def _check_range(name: str, array: torch.Tensor, least: int, limit: int) -> None:
    if len(array) and not least <= int(array.min()) <= int(array.max()) < limit:
        raise ValueError(f"{name} has numbers outside {least}..{limit - 1}")
