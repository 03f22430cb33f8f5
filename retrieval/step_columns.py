"""Known steps in columns: where they stand, which of them a theorem may look up, and the file that they are kept in.

Shape legend: N steps, T theorems, F files.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from common import Context, DataError
from retrieval.leandojo.columns import position_key
from retrieval.training.files import writing_file

Columns = dict[str, torch.Tensor]


class StepColumns(ABC):
    """N steps of proofs that are known.

    Attributes:
        format_version: of the file
        kinds: the type of each column, which has one dimension
        what: the columns hold, for errors
        theorem_of: number of each step's theorem, int32 (N,)
        file_of: number of each theorem's file, int32 (T,)
        position_of: key of where each theorem starts, int64 (T,); see `position_key`
        file_of_step: number of each step's file, int32 (N,)
        paths: of the F files
    """

    format_version: ClassVar[int]
    kinds: ClassVar[Mapping[str, torch.dtype]]
    what: ClassVar[str]

    def __init__(self, arrays: Columns, paths: list[str]) -> None:
        """Take over what was made or read."""
        self._tensors, self.paths = arrays, paths
        self.columns = {name: tensor.numpy() for name, tensor in arrays.items()}
        self.theorem_of, self.file_of, self.position_of = (
            self.columns[name] for name in ("theorem_of", "file_of", "position_of")
        )
        self.file_of_step = self.file_of[self.theorem_of]
        self._position_of_step = self.position_of[self.theorem_of]
        self._numbers = {path: number for number, path in enumerate(paths)}

    def __len__(self) -> int:
        return len(self.theorem_of)

    def file_number(self, path: str) -> int:
        """Return the number of a file; -1 if no step names it."""
        return self._numbers.get(path, -1)

    def visible(
        self, context: Context, imported: Sequence[str], is_free: npt.NDArray[np.bool_]
    ) -> npt.NDArray[np.bool_]:
        """Tell which steps may be looked up for a theorem, bool (N,); a theorem's own never.

        Args:
            context: the theorem; where its position is not known, free steps alone are seen
            imported: files that its file imports, directly or not
            is_free: which may be looked up from anywhere, bool (N,); others only if they stand before the theorem in
                its file, or in an imported one
        """
        if context.theorem_pos is None:
            return is_free
        own_file = self.file_of_step == self.file_number(context.path)
        position = position_key(context.theorem_pos)
        allowed = is_free
        if not is_free.all():
            is_imported = np.zeros(len(self.paths) + 1, dtype=np.bool_)
            is_imported[[self._numbers[path] for path in imported if path in self._numbers]] = True
            before = own_file & (self._position_of_step < position)
            allowed = is_free | is_imported[self.file_of_step] | before
        seen: npt.NDArray[np.bool_] = allowed & ~(own_file & (self._position_of_step == position))
        return seen

    # -------------------------------------------------------------------------------------------- files

    def digest(self) -> str:
        """Return a hash of all of it."""
        digest = hashlib.sha256(json.dumps(self.paths).encode())
        for name in sorted(self._tensors):
            digest.update(self._tensors[name].numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: Path) -> None:
        """Write one safetensors file.

        Raises:
            DataError: if the system refuses to write
        """
        metadata = {"nextstep": json.dumps({"format_version": self.format_version, "paths": self.paths})}
        with writing_file(path) as part:
            save_file(self._tensors, part, metadata)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Open what `save` wrote; the columns are memory-mapped.

        Raises:
            DataError: if the file is missing, broken, or of another version
        """
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {})["nextstep"])
            if about["format_version"] != cls.format_version:
                raise ValueError(f"format version {about['format_version']}; this program reads {cls.format_version}")
            columns, paths = load_file(path), about["paths"]
            cls._check_kinds(columns, paths)
            cls.check(columns, paths)
        except (KeyError, OSError, RecursionError, SafetensorError, TypeError, ValueError) as error:
            why = f"there is no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{path}: holds no {cls.what} ({why}); make the folder again") from error
        return cls(columns, paths)

    @classmethod
    @abstractmethod
    def check(cls, columns: Columns, paths: list[str]) -> None:
        """Raise ValueError for columns of the right kinds that a search would go wrong with."""

    @classmethod
    def _check_kinds(cls, columns: Columns, paths: Any) -> None:
        if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
            raise ValueError("paths are no list of texts")
        for name, kind in cls.kinds.items():
            if columns[name].dtype != kind or columns[name].ndim != 1:
                raise ValueError(f"{name} is {columns[name].dtype} of shape {tuple(columns[name].shape)}")


def check_range(name: str, column: torch.Tensor, least: int, limit: int) -> None:
    """Raise ValueError for a column with numbers outside least..limit - 1."""
    if len(column) and not least <= int(column.min()) <= int(column.max()) < limit:
        raise ValueError(f"{name} has numbers outside {least}..{limit - 1}")


def check_lengths(columns: Columns, *names: str) -> None:
    """Raise ValueError for columns of different lengths."""
    if len({len(columns[name]) for name in names}) > 1:
        raise ValueError("its columns differ in length")


def check_ends(what: str, ends: torch.Tensor, total: int) -> None:
    """Raise ValueError for a column that does not say where each part of a buffer ends."""
    if len(ends) and not (ends[0] >= 0 and bool((ends.diff() >= 0).all()) and int(ends[-1]) == total):
        raise ValueError(f"{what} do not end where they should")
