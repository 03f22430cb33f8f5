"""What beam search and sampling need of a model: one step at a time for several rows of each state.

Shapes: B states, R rows a state, T tokens written, V vocabulary.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from torch import Tensor

from generator.t5_decoder import NaNLogitsError, SpecialTokens

__all__ = ["Decoder", "NaNLogitsError", "SpecialTokens", "StopRule"]

# (tokens (B, R, T), which rows still write (B, R)) -> which of these end with their last token (B, R)
StopRule = Callable[[Tensor, Tensor], Tensor]


class Decoder(Protocol):
    """A batch of states that were read, and the rows (beams or samples) being written for each.

    Attributes:
        special: the tokens that start, end and fill up what is written.
        embedding: weight of the input embedding; what is written lives on its device.
        num_states: B.
    """

    special: SpecialTokens
    embedding: Tensor
    num_states: int

    def step(self, tokens: Tensor) -> Tensor:
        """Feeds each row its latest token (B, R); returns logits of the next one, (B, R, V) float32.

        The first call has one row a state, fed the start token.
        """

    def select(self, rows: Tensor, states: Sequence[int] | None = None) -> None:
        """Lets new rows continue old ones, given as numbers (B', R'); `states` (ascending) are those that stay."""
