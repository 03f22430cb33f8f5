"""The steps that may be looked up: what is compared of their states, their tactics, and where they stand.

Shape legend: N steps, D distinct texts of states, M distinct tactics, T theorems, F files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from common import Context, check_choice, check_positive, remove_marks
from retrieval.leandojo.columns import position_key
from retrieval.leandojo.traces import TracedTactic
from retrieval.step_columns import Columns, StepColumns, check_ends, check_lengths, check_range

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


class Steps(StepColumns):
    """N steps in columns.

    Attributes:
        text_of: number of the state's text, int32 (N,)
        tactic_of: number of the tactic, int32 (N,)
        is_free: whether a step may be looked up from anywhere, and not only behind its theorem, bool (N,)
    """

    format_version = 2  # 1 had no names of theorems
    what = "steps"
    kinds: ClassVar = {
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

    def __init__(self, arrays: Columns, paths: list[str]) -> None:
        """Take over what was made or read; users call `of` or `load`."""
        super().__init__(arrays, paths)
        self.text_of, self.tactic_of = self.columns["text_of"], self.columns["tactic_of"]
        self.is_free: npt.NDArray[np.bool_] = self.columns["is_free"]
        self._texts, self._tactics, self._names = (
            _Texts(self.columns[f"{of}_bytes"], self.columns[f"{of}_ends"]) for of in ("text", "tactic", "name")
        )

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

    def tactics(self, numbers: npt.NDArray[np.int64]) -> list[str]:
        """Return the tactics of steps, by their numbers among the N, as they were written there."""
        return [self._tactics[number] for number in self.tactic_of[numbers].tolist()]

    def name(self, number: int) -> str:
        """Return the full name of a theorem by its number among the T."""
        return self._names[number]

    @property
    def num_theorems(self) -> int:
        """T."""
        return len(self._names)

    def may_look_up(self, context: Context, imported: Sequence[str], *, only_before: bool) -> npt.NDArray[np.bool_]:
        """Tell which steps may be looked up for a theorem, bool (N,); a theorem's own never.

        Args:
            context: the theorem
            imported: files that its file imports, directly or not
            only_before: whether free steps have to stand before it too
        """
        return self.visible(context, imported, self.is_free & (not only_before))

    @classmethod
    def check(cls, columns: Columns, paths: list[str]) -> None:
        """See `StepColumns.check`."""
        check_lengths(columns, "text_of", "tactic_of", "theorem_of", "is_free")
        check_lengths(columns, "file_of", "position_of", "name_ends")
        limits = {"text_of": "text_ends", "tactic_of": "tactic_ends", "theorem_of": "file_of"}
        for name, of in limits.items():
            check_range(name, columns[name], 0, len(columns[of]))
        check_range("file_of", columns["file_of"], 0, len(paths))
        for of in ("text", "tactic", "name"):
            check_ends(f"{of}s", columns[f"{of}_ends"], len(columns[f"{of}_bytes"]))


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
