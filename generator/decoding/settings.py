"""What is asked of decoding: how many tokens, found by which search or drawn from which part of the distribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from common import MAX_LENGTH, ConfigError, check_positive


@dataclass(frozen=True)
class Sampling:
    """Independent samples as candidates, instead of beam search; the most probable ones first.

    Attributes:
        temperature: divides the logits; below 1 sharpens
        top_k: draw from the k likeliest tokens only; 0 is no limit
        top_p: draw from the likeliest tokens that together reach this probability; 1 is no limit
        seed: of the draws, with the text of the input: an input has the same samples whatever is asked beside it
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise ConfigError(
                f"temperature is {self.temperature}; it must be positive and finite. For the likeliest candidate use "
                "beam search with one beam"
            )
        if self.top_k < 0:
            raise ConfigError(f"top_k is {self.top_k}; it must be 0 (no limit) or a number of tokens")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p is {self.top_p}; it must be above 0 and at most 1 (no limit)")


@dataclass(frozen=True)
class Decoding:
    """How candidates are found.

    Attributes:
        max_new_tokens: tokens of a candidate, EOS included; a longer one is cut there
        num_beams: of beam search; None means as many as candidates are asked for
        length_penalty: beam search ranks by log-probability / length ** this; 0 is the probability
        sampling: how samples are drawn; None searches for the best candidates instead
        stop: a candidate ends with the first of these strings, which stays in its text: without one it was cut off.
            Of encoder-decoders, only engine transformers takes them
    """

    max_new_tokens: int = 512
    num_beams: int | None = None
    length_penalty: float = 0.0
    sampling: Sampling | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_positive(MAX_LENGTH, max_new_tokens=self.max_new_tokens)
        check_positive(num_beams=self.num_beams)
        check_strings(stop=self.stop)

    def rows_for(self, num_candidates: int) -> int:
        """Return how many rows of an input, its beams or its samples, are written side by side.

        Raises:
            ConfigError: if num_beams is set and smaller
        """
        if self.sampling is not None or self.num_beams is None:
            return num_candidates
        if self.num_beams < num_candidates:
            raise ConfigError(
                f"num_beams is {self.num_beams} but {num_candidates} candidates are asked for: a beam search returns "
                "at most num_beams. Raise num_beams, leave it out, or ask for fewer"
            )
        return self.num_beams


def check_strings(**options: Sequence[str]) -> None:
    """Raise ConfigError for the first option that is not a list of strings, none of them empty."""
    for name, value in options.items():
        if isinstance(value, str) or not all(isinstance(string, str) and string for string in value):
            raise ConfigError(f"{name} is {value!r}; it must be a list of strings, none of them empty")
