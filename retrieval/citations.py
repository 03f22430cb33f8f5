"""Steps of known proofs that cite premises, in columns: what their states look like, where they stand, what they cite.

Shape legend: S steps, D distinct texts of states, T theorems, F files, C citations, Q distinct places that are cited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from common import Context, Pos
from retrieval.corpus import Corpus
from retrieval.leandojo.columns import position_key
from retrieval.leandojo.traces import TracedTactic
from retrieval.step_columns import Columns, StepColumns, check_ends, check_lengths, check_range


class Citations(StepColumns):
    """S steps, each with the places of the premises that it cites.

    A premise goes by where it is defined, as the data says, so that any corpus that holds it will do.

    Attributes:
        text_of: number of the state's text among the D, int32 (S,)
        cited_ends: where the citations of each step end, int64 (S,)
        cited: number of the place that each citation means, int32 (C,)
    """

    format_version = 1
    what = "citations"
    kinds: ClassVar = {
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

    def __init__(self, arrays: Columns, paths: list[str]) -> None:
        """Take over what was made or read; users call `of` or `load`."""
        super().__init__(arrays, paths)
        self.text_of, self.cited_ends, self.cited = (self.columns[name] for name in ("text_of", "cited_ends", "cited"))
        self._places = tuple(self.columns[f"place_{of}"] for of in ("file", "line", "column"))

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
        return self.visible(context, imported or (), np.full(len(self), imported is None))

    def cited_by(self, steps: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
        """Return the places that some steps cite, one step's behind the other's, and how many each cites."""
        ends = self.cited_ends[steps]
        starts = np.where(steps > 0, self.cited_ends[steps - 1], 0)
        counts = ends - starts
        before = np.repeat(starts - (counts.cumsum() - counts), counts)
        cited: npt.NDArray[np.int32] = self.cited[before + np.arange(int(counts.sum()))]
        return cited, counts

    @classmethod
    def check(cls, columns: Columns, paths: list[str]) -> None:
        """See `StepColumns.check`."""
        for names in (
            ("text_of", "theorem_of", "cited_ends"),
            ("file_of", "position_of"),
            ("place_file", "place_line", "place_column"),
        ):
            check_lengths(columns, *names)
        check_range("theorem_of", columns["theorem_of"], 0, len(columns["file_of"]))
        check_range("cited", columns["cited"], 0, len(columns["place_file"]))
        for name in ("file_of", "place_file"):
            check_range(name, columns[name], 0, len(paths))
        check_range("text_of", columns["text_of"], 0, max(1, len(columns["text_of"])))
        for name in ("place_line", "place_column"):
            check_range(name, columns[name], 1, 2**31 - 1)
        check_ends("citations", columns["cited_ends"], len(columns["cited"]))
