"""The steps that may be looked up: what is compared of their states, their tactics, and where they stand.

Shape legend: N steps, D distinct texts of states, M distinct tactics, T theorems, F files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from common import Context, check_choice, check_positive, remove_marks
from retrieval.leandojo.columns import position_key
from retrieval.leandojo.traces import TracedTactic
from retrieval.step_columns import digest_columns, load_columns, save_columns

FORMAT_VERSION = 2  # 1 had no names of theorems
Part = Literal["goal", "first", "all"]
TURNSTILE = "⊢"


@dataclass(frozen=True)
class StateText:
    """What of a state is compared.

    Attributes:
        part: "first": the first goal with its hypotheses; "goal": what is to be proved there, without them; "all": all
            goals
        max_characters: of these the last, which a tactic acts on
    """

    part: Part = "first"
    max_characters: int = 1200

    def __post_init__(self) -> None:
        check_choice("part", self.part, get_args(Part))
        check_positive(max_characters=self.max_characters)

    def __call__(self, state: str) -> str:
        """Cut it out of a state."""
        text = state if self.part == "all" else state.partition("\n\n")[0]
        if self.part == "goal" and TURNSTILE in text:
            text = text[text.rindex(TURNSTILE) :]
        return text[-self.max_characters :]


class Steps:
    """N steps in columns.

    Attributes:
        text_of: number of the state's text, int32 (N,)
        tactic_of: number of the tactic, int32 (N,)
        theorem_of: number of the theorem, int32 (N,)
        is_free: whether a step may be looked up from anywhere, and not only behind its theorem, bool (N,)
        file_of: number of each theorem's file, int32 (T,)
        position_of: key of where each theorem starts, int64 (T,); see `position_key`
        paths: of the F files
    """

    def __init__(self, arrays: dict[str, torch.Tensor], paths: list[str]) -> None:
        """Take over what was made or read; users call `of` or `load`."""
        self._tensors, self.paths = arrays, paths
        found = {name: tensor.numpy() for name, tensor in arrays.items()}
        self.text_of, self.tactic_of, self.theorem_of = found["text_of"], found["tactic_of"], found["theorem_of"]
        self.is_free: npt.NDArray[np.bool_] = found["is_free"]
        self.file_of, self.position_of = found["file_of"], found["position_of"]
        self.file_of_step = self.file_of[self.theorem_of]  # (N,)
        self._texts, self._tactics, self._names = (
            _Texts(found[f"{of}_bytes"], found[f"{of}_ends"]) for of in ("text", "tactic", "name")
        )
        self._numbers = {path: number for number, path in enumerate(paths)}

    @classmethod
    def of(cls, steps: Iterable[tuple[TracedTactic, bool]], text: StateText) -> Steps:
        """Put steps into columns.

        Args:
            steps: those of a theorem behind each other, and whether each may be looked up from anywhere
            text: what is compared of a state
        """
        texts, tactics, paths, theorems = (dict[Any, int]() for _ in range(4))
        names: list[str] = []
        rows: list[tuple[int, int, int]] = []
        is_free = []
        for step, free in steps:
            origin = step.provenance
            file = paths.setdefault(origin.file_path, len(paths))
            theorem = theorems.setdefault((file, position_key(origin.start)), len(theorems))
            if theorem == len(names):
                names.append(origin.full_name)
            shown, tactic = text(step.state), remove_marks(step.tactic)
            numbers = texts.setdefault(shown, len(texts)), tactics.setdefault(tactic, len(tactics))
            rows.append((*numbers, theorem))
            is_free.append(free)
        columns = np.array(rows, dtype=np.int32).reshape(-1, 3).T
        files, positions = np.array(list(theorems), dtype=np.int64).reshape(-1, 2).T
        arrays = {
            "text_of": columns[0],
            "tactic_of": columns[1],
            "theorem_of": columns[2],
            "is_free": np.array(is_free, dtype=np.bool_),
            "file_of": files.astype(np.int32),
            "position_of": positions,
            **_joined("text", texts),
            **_joined("tactic", tactics),
            **_joined("name", names),
        }
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
        return cls(tensors, list(paths))

    def __len__(self) -> int:
        return len(self.text_of)

    @property
    def num_texts(self) -> int:
        """D."""
        return len(self._texts)

    @property
    def num_tactics(self) -> int:
        """M."""
        return len(self._tactics)

    def text(self, number: int) -> str:
        """Return what is compared of a state, by its number among the D texts."""
        return self._texts[number]

    def tactic(self, number: int) -> str:
        """Return a tactic by its number among the M."""
        return self._tactics[number]

    def name(self, number: int) -> str:
        """Return the full name of a theorem by its number among the T."""
        return self._names[number]

    @property
    def num_theorems(self) -> int:
        """T."""
        return len(self._names)

    def file_number(self, path: str) -> int:
        """Return the number of a file; -1 if no step is in it."""
        return self._numbers.get(path, -1)

    def may_look_up(self, context: Context, imported: Sequence[str], *, only_before: bool) -> npt.NDArray[np.bool_]:
        """Tell which steps may be looked up for a theorem, bool (N,); a theorem's own never.

        Args:
            context: the theorem
            imported: files that its file imports, directly or not
            only_before: whether that is so for free steps too
        """
        own_file = self.file_of_step == self.file_number(context.path)
        allowed = self.is_free & (not only_before)
        if context.theorem_pos is None:
            return allowed
        position = self.position_of[self.theorem_of]
        own = position_key(context.theorem_pos)
        if only_before or not self.is_free.all():
            is_imported = np.zeros(len(self.paths) + 1, dtype=np.bool_)
            is_imported[[self._numbers[path] for path in imported if path in self._numbers]] = True
            allowed |= is_imported[self.file_of_step] | (own_file & (position < own))
        visible: npt.NDArray[np.bool_] = allowed & ~(own_file & (position == own))
        return visible

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
    def load(cls, path: Path) -> Steps:
        """Open what `save` wrote; the arrays are memory-mapped.

        Raises:
            DataError: if the file is missing, broken, or of another version
        """
        return cls(*load_columns(path, FORMAT_VERSION, _KINDS, _check, "steps"))


class _Texts:
    """Texts in one buffer; text n ends at end n."""

    def __init__(self, joined: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64]) -> None:
        self._joined, self._ends = joined, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> str:
        first = int(self._ends[number - 1]) if number else 0
        return self._joined[first : int(self._ends[number])].tobytes().decode(errors="replace")


def _joined(of: str, texts: Iterable[str]) -> dict[str, npt.NDArray[Any]]:
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(each) for each in encoded], dtype=np.int64)
    return {f"{of}_bytes": np.frombuffer(b"".join(encoded), dtype=np.uint8).copy(), f"{of}_ends": ends}


_KINDS = {
    "text_of": torch.int32,
    "tactic_of": torch.int32,
    "theorem_of": torch.int32,
    "is_free": torch.bool,
    "file_of": torch.int32,
    "position_of": torch.int64,
    "text_bytes": torch.uint8,
    "text_ends": torch.int64,
    "tactic_bytes": torch.uint8,
    "tactic_ends": torch.int64,
    "name_bytes": torch.uint8,
    "name_ends": torch.int64,
}


def _check(arrays: dict[str, torch.Tensor], paths: list[str]) -> None:
    """Raise ValueError for arrays that a search would go wrong with."""
    limits = {
        "text_of": len(arrays["text_ends"]),
        "tactic_of": len(arrays["tactic_ends"]),
        "theorem_of": len(arrays["file_of"]),
        "file_of": len(paths),
    }
    for name, limit in limits.items():
        if len(arrays[name]) and not 0 <= int(arrays[name].min()) <= int(arrays[name].max()) < limit:
            raise ValueError(f"{name} has numbers outside 0..{limit - 1}")
    of_steps = {len(arrays[name]) for name in ("text_of", "tactic_of", "theorem_of", "is_free")}
    of_theorems = {len(arrays[name]) for name in ("file_of", "position_of", "name_ends")}
    if len(of_steps) != 1 or len(of_theorems) != 1:
        raise ValueError("its columns differ in length")
    for of in ("text", "tactic", "name"):
        ends = arrays[f"{of}_ends"]
        if len(ends) and not (ends[0] >= 0 and (ends.diff() >= 0).all() and ends[-1] == len(arrays[f"{of}_bytes"])):
            raise ValueError(f"{of}s do not end where they should")
