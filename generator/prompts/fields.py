"""What a prompt is written from, and how that is shortened until the prompt fits."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from common import DataError, Premise, fit_state

_BETWEEN_GOALS = "\n\n"
_MAX_COUNTS = 12  # how many texts are tokenised, at most, to find how far one part is shortened


class PromptTooLongError(DataError):
    """A goal needs more tokens than a prompt may take, even with nothing else in it."""


def num_bytes(text: str) -> int:
    """Return the bytes of a text in UTF-8, which is what it takes under a byte tokenizer."""
    return len(text.encode())


@dataclass(frozen=True, slots=True)
class PromptFields:
    """What a prompt is written from; a template leaves out the fields that it has no place for.

    Attributes:
        state: the state to prove
        premises: retrieved premises, or their texts, best first
        context: the source file up to the tactic
        full_name: of the theorem
        proof: the tactics so far
        heading: which theorem it is and what was done in similar states, see `generator.data.inputs`
    """

    state: str
    premises: Sequence[Premise | str] = ()
    context: str = ""
    full_name: str = ""
    proof: str = ""
    heading: str = ""

    def amounts(self, part: str) -> tuple[int, int]:
        """Return the least amount of a part that has to stay, and the amount there is; for the units see `shorten`."""
        if part == "state":
            return num_bytes(goal_of(self.state)), num_bytes(self.state)
        if part == "goals":
            return 1, self.state.count(_BETWEEN_GOALS) + 1
        return 0, len(self.premises) if part == "premises" else len(_lines(getattr(self, part)))

    def shorten(self, part: str, amount: int) -> PromptFields:
        """Keep some amount of one part and leave out the rest of it.

        Args:
            part: "premises", counted in premises, of which the best stay; "context", "proof" or "heading", in lines,
                the last stay; "goals", in goals, the first stay; or "state", in bytes, see `common.fit_state`
            amount: what stays
        """
        if part == "premises":
            return replace(self, premises=self.premises[:amount])
        if part == "goals":
            return replace(self, state=_BETWEEN_GOALS.join(self.state.split(_BETWEEN_GOALS, amount)[:amount]))
        if part == "state":
            return replace(self, state=fit_state(self.state, amount))
        lines = _lines(getattr(self, part))
        return replace(self, **{part: "".join(lines[len(lines) - amount :])})


def goal_of(state: str) -> str:
    """Return the part of a state that is never cut: what is to be proved in its first goal.

    It begins at the last line of the first block that begins with ⊢; without one it is the whole block.

    >>> goal_of("h : p\\n⊢ p ∧ q\\n\\ncase right\\n⊢ q")
    '⊢ p ∧ q'
    """
    first = state.split(_BETWEEN_GOALS, 1)[0]
    starts = [match.start() for match in re.finditer("^⊢", first, re.MULTILINE)]
    return first[starts[-1] :] if starts else first


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """A prompt, and what the state lost so that it fits.

    Attributes:
        text: the prompt
        num_cut_bytes: bytes of the state left out: waiting goals, then the oldest hypotheses
    """

    text: str
    num_cut_bytes: int = 0


def most_that_fits(
    size_with: Callable[[int], int], low: int, high: int, size_high: int, max_size: int, slack: int = 0
) -> tuple[int, int]:
    """Find the largest amount whose size is at most max_size, in few steps since measuring a size takes long.

    Steps of interpolation, which sizes that grow evenly need few of, alternate with halving the interval.

    Args:
        size_with: measures the size of an amount
        low: the least amount; returned, with its size, if not even that fits
        high: an amount that does not fit
        size_high: its size
        max_size: the limit
        slack: a size that is below the limit by no more than this is taken as it is

    Returns:
        The size that was found, and its amount.
    """
    size_low = size_with(low)
    for turn in range(_MAX_COUNTS - 1):
        if size_low >= max_size - slack or high - low <= 1:
            break
        share = 0.5 if turn % 2 else (max_size - size_low) / (size_high - size_low)
        amount = min(max(low + int((high - low) * share), low + 1), high - 1)
        size = size_with(amount)
        if size <= max_size:
            low, size_low = amount, size
        else:
            high, size_high = amount, size
    return size_low, low
