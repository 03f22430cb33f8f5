"""What an encoder-decoder reads: retrieved premises, the state, and what else helps; training and inference alike."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from common import Premise, format_augmented_state

_SEPARATOR = "\n\n"


@dataclass(frozen=True)
class InputParts:
    """What an encoder-decoder reads beside the state and retrieved premises.

    Attributes:
        tell_theorem: the file and the name of the theorem stand in front of the input, in up to a quarter of it
    """

    tell_theorem: bool = False

    def heading(self, path: str, full_name: str, max_len: int) -> str:
        """Return what stands in front of everything, with what separates it; "" if that is nothing.

        >>> InputParts(tell_theorem=True).heading("theories/Lists/List.v", "Coq.Lists.List.app_nil_r", 512)
        'theories/Lists/List app_nil_r\\n\\n'

        Args:
            path: file of the theorem, "" if it is not known
            full_name: of the theorem, "" if it is not known; what it has in front of the file's own name is left out
            max_len: tokens of an input
        """
        if not self.tell_theorem:
            return ""
        file = PurePosixPath(path)
        _, has_stem, rest = f".{full_name}".rpartition(f".{file.stem}.") if file.stem else ("", "", "")
        name = rest if has_stem else full_name
        text = " ".join(part for part in (str(file.with_suffix("")) if file.name else "", name) if part)
        shown = text.encode()[-max(0, max_len // 4 - len(_SEPARATOR)) :].decode(errors="ignore")
        return shown + _SEPARATOR if shown and max_len // 4 > len(_SEPARATOR) else ""


def write_input(
    heading: str,
    state: str,
    premises: Sequence[Premise],
    max_len: int,
    p_drop: float = 0.0,
    rng: random.Random | None = None,
) -> str:
    """Write a heading, premises and the state as one input; the state never loses more than what the heading takes.

    Args:
        heading: see `InputParts.heading`
        state: the state to prove
        premises: and the rest: see `common.format_augmented_state`
        max_len: tokens that the input may take
        p_drop: probability of leaving out each premise
        rng: decides which are left out
    """
    return heading + format_augmented_state(state, premises, max_len - len(heading.encode()), p_drop, rng)
