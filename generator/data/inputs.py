"""What an encoder-decoder reads: a heading, retrieved premises, and the state; in training and inference alike.

The heading, which decoder-only models read too, is what helps beside premises: which theorem it is, and what was done
in similar states.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from common import (
    ConfigError,
    Context,
    Premise,
    check_positive,
    drop_premises,
    fit_state,
    format_augmented_state,
)
from generator.nearest.generator import NearestTacticGenerator
from generator.nearest.ranked import learnt_of
from retrieval.leandojo.text_column import TextColumn
from retrieval.leandojo.traces import TracedTactics
from retrieval.training.checkpoints import read_settings
from retrieval.training.kept_tokens import Kept, keep_beside

_SEPARATOR = "\n\n"
_ASKED_AT_ONCE = 256  # states


@dataclass(frozen=True)
class InputParts:
    """What a generator reads beside the state and retrieved premises.

    Attributes:
        tell_theorem: file and name of the theorem stand in front of the input, in up to a quarter of it
        nearest_path: folder of `python -m generator.nearest`; the tactics that it proposes stand in front of the input,
            whole, in up to half of it
        num_nearest: how many of them
    """

    tell_theorem: bool = False
    nearest_path: str | None = None
    num_nearest: int = 5

    def __post_init__(self) -> None:
        check_positive(num_nearest=self.num_nearest)
        if self.nearest_path is not None:
            object.__setattr__(self, "nearest_path", str(Path(self.nearest_path).resolve()))  # found from anywhere

    @property
    def reads_theorem(self) -> bool:
        """Whether the input for a state depends on file and theorem."""
        return self.tell_theorem or self.nearest_path is not None


@dataclass(frozen=True)
class PremiseParts:
    """How an encoder-decoder is told retrieved premises.

    Attributes:
        premise_share: share of what the heading leaves, from 0 to below 1, that premises may take from a state that is
            too long. With 0 (ReProver) they get what a state leaves, which in short inputs is mostly nothing
        premise_names_only: premises are told by their names, as `<a>name</a>`, without their code; two or three of
            them take the room of one
    """

    premise_share: float = 0.0
    premise_names_only: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.premise_share < 1:
            raise ConfigError(
                f"premise_share is {self.premise_share}; it must be at least 0 and below 1, such as 0.4; the rest "
                "is the state's"
            )

    def told(self, premise: Premise) -> Premise:
        """Return a premise as it is told: its code is what `Premise.serialize` writes."""
        return replace(premise, code=premise.full_name) if self.premise_names_only else premise


class HeadingWriter:
    """Writes headings; the lookup is opened when it is first asked."""

    def __init__(self, parts: InputParts, max_len: int) -> None:
        """Keep the options.

        Args:
            parts: of the heading
            max_len: tokens of an input

        Raises:
            ConfigError: if nearest_path is no lookup's folder
        """
        self.parts, self.max_len = parts, max_len
        if parts.nearest_path is not None and read_settings(parts.nearest_path) is None:
            raise ConfigError(
                f"nearest_path {parts.nearest_path}: holds no lookup; make one with python -m generator.nearest"
            )

    def __call__(self, contexts: Sequence[Context]) -> list[str]:
        """Return the heading of each state's input, with what separates it from the rest; "" where it is empty."""
        headings = [self._theorem(context) if self.parts.tell_theorem else "" for context in contexts]
        if self.parts.nearest_path is not None:
            proposed = self._lookup.propose(contexts, self.parts.num_nearest)
            for number, candidates in enumerate(proposed):
                headings[number] += numbered([tactic for tactic, _ in candidates], self.max_len // 2)
        return headings

    def all_of(self, traces: TracedTactics, *, progress: bool) -> TextColumn:
        """Return the headings of all steps of a split; what the lookup says of them is kept beside the data.

        58,130 steps of Coq's standard library and a lookup of words: 4 ms each, one thread of an Intel Xeon.
        """

        def make() -> Kept:
            column = TextColumn()
            with tqdm(total=len(traces), desc="look up steps", delay=1, disable=not progress) as bar:
                for first in range(0, len(traces), _ASKED_AT_ONCE):
                    steps = traces[first : first + _ASKED_AT_ONCE]
                    contexts = [step.context for step in steps]
                    column.extend([heading.encode() for heading in self(contexts)])
                    bar.update(len(steps))
            return {"joined": np.frombuffer(column.joined, dtype=np.uint8).copy(), "bounds": column.bounds}, {}

        made_of = self.parts.nearest_path and read_settings(self.parts.nearest_path)
        if not made_of:
            arrays, _ = make()
        else:
            lookup = [made_of, *learnt_of(Path(str(self.parts.nearest_path)))]  # no tokenizer is asked
            key = [traces.digest(), *lookup, self.parts.tell_theorem, self.parts.num_nearest, self.max_len]
            arrays, _ = keep_beside(traces.path, traces.num_bytes, lambda: key, make)
        column, joined = TextColumn(), arrays["joined"].tobytes()
        bounds = arrays["bounds"].tolist()
        column.extend([joined[start:end] for start, end in zip(bounds, bounds[1:], strict=False)])
        return column

    @cached_property
    def _lookup(self) -> NearestTacticGenerator:
        assert self.parts.nearest_path is not None
        return NearestTacticGenerator.load(self.parts.nearest_path)

    def _theorem(self, context: Context) -> str:
        text = theorem_line(context.path, context.theorem_full_name)
        room = self.max_len // 4 - len(_SEPARATOR)
        shown = text.encode()[-room:].decode(errors="ignore") if room > 0 else ""
        return shown + _SEPARATOR if shown else ""


def theorem_line(path: str, full_name: str) -> str:
    """Return file and theorem in a line; what the name has in front of the file's own name is left out.

    >>> theorem_line("theories/Lists/List.v", "Coq.Lists.List.app_nil_r")
    'theories/Lists/List app_nil_r'
    """
    file = PurePosixPath(path)
    _, has_stem, rest = f".{full_name}".rpartition(f".{file.stem}.") if file.stem else ("", "", "")
    name = rest if has_stem else full_name
    return " ".join(part for part in (str(file.with_suffix("")) if file.name else "", name) if part)


def numbered(tactics: Sequence[str], max_bytes: int) -> str:
    """Return tactics as numbered lines, the first nearest to what follows; one that does not fit is left out.

    >>> numbered(["intros n m", "simpl"], 32)
    '2 simpl\\n1 intros n m\\n\\n'
    """
    lines, room = [], max_bytes - 1
    for number, tactic in enumerate(tactics, start=1):
        line = f"{number} {' '.join(tactic.split())}\n"
        if len(line.encode()) <= room:
            lines.append(line)
            room -= len(line.encode())
    return "".join(reversed(lines)) + "\n" if lines else ""


def write_input(
    heading: str,
    state: str,
    premises: Sequence[Premise],
    max_len: int,
    p_drop: float = 0.0,
    rng: random.Random | None = None,
    premise_share: float = 0.0,
) -> str:
    """Write a heading, premises and the state as one input; premises and state share what the heading leaves.

    >>> from common import Pos
    >>> premises = [Premise("A.v", "A.foo", Pos(1, 1), Pos(1, 9), "Lemma foo : p")]
    >>> write_input("", "h : p\\nhq : q\\nhr : r\\n⊢ q", premises, 37, premise_share=0.7)
    'Lemma <a>A.foo</a> : p\\n\\nhr : r\\n⊢ q'

    Args:
        heading: see `HeadingWriter`
        state: the state to prove
        premises: as `PremiseParts.told` gives them, best first; see `common.format_augmented_state`
        max_len: tokens that the input may take
        p_drop: probability of leaving out each premise
        rng: decides which are left out
        premise_share: see `PremiseParts`
    """
    left = max_len - len(heading.encode())
    chosen = drop_premises(premises, p_drop, rng)
    reserved = _bytes_of_those_that_fit(chosen, int(max(0, left - 1) * premise_share))
    return heading + format_augmented_state(fit_state(state, left - 1 - reserved), chosen, left)


def _bytes_of_those_that_fit(premises: Sequence[Premise], room: int) -> int:
    """Bytes of the premises that fit into the room one after another, the best first."""
    taken = 0
    for premise in premises if room else ():
        num_bytes = len(premise.serialize().encode()) + len(_SEPARATOR)
        taken += num_bytes if taken + num_bytes <= room else 0
    return taken
