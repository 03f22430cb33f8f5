"""What beam search and sampling need of a model: one step at a time for several rows of each state.

Shapes: B states, R rows a state, T tokens written, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from common import ConfigError, NextstepError


class NaNLogitsError(NextstepError, FloatingPointError):
    """A state whose logits are NaN.

    Attributes:
        state: its number in the batch
        step: the token whose logits they are, from 1
        text: of the state, where it is known
    """

    def __init__(self, state: int, step: int, text: str | None = None) -> None:
        super().__init__(state, step, text)  # what pickle makes another one from
        self.state, self.step, self.text = state, step, text

    def __str__(self) -> str:
        found = f"logits are NaN at step {self.step}"
        what = f"{found} for state {self.state} of the batch" if self.text is None else f"input {self.text!r}: {found}"
        return f"{what}: check the weights (a diverged run?) or compute in float32 or bfloat16 instead of float16."


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids with a meaning: what every output starts with, what ends it, what fills it up."""

    start: int
    eos: tuple[int, ...]
    pad: int

    @classmethod
    def of(cls, model: Any) -> "SpecialTokens":
        """Reads them from `model.config`; the start token, where that has none, from the generation settings."""
        config = model.config
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(getattr(model, "generation_config", None), "decoder_start_token_id", None)
        if start is None:
            raise ConfigError(
                "model.config.decoder_start_token_id is not set: set it to the token that decoding starts with "
                "(T5 uses pad_token_id)."
            )
        eos = config.eos_token_id
        ends = () if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (int(eos),)
        pad = config.pad_token_id
        return cls(int(start), ends, int(pad) if pad is not None else (ends or (0,))[0])


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
        """Feeds each row its latest token; the first call has one row a state, fed the start token.

        Args:
            tokens: (B, R) int64.

        Returns:
            Logits of the next token, (B, R, V) float32.
        """

    def select(self, rows: Tensor, states: Sequence[int] | None = None) -> None:
        """Lets new rows continue old ones; a state that is not named leaves the batch.

        Args:
            rows: (B', R') int64, for each new row the number of the old row of its state that it continues.
            states: the B' states that stay, ascending; None keeps all.
        """
