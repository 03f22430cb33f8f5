"""Sampling as a pure function of buffers that never change their shapes: the same draws as `decoding.sampling`.

Shapes: B states, n samples of each, W tokens that there is room for, V vocabulary.
"""

from __future__ import annotations

import torch
from torch import Tensor

from generator.decoding.protocol import SpecialTokens
from generator.decoding.sampling import filtered, pick
from generator.decoding.settings import Decoding
from generator.decoding.static.buffers import Buffers, ends_of, first_nan
from generator.decoding.stopping import StopStrings


class StaticSamples(Buffers):
    """The samples of each state; those that have ended go on with padding."""

    moves_rows = False

    def __init__(
        self,
        num_states: int,
        num_candidates: int,
        decoding: Decoding,
        special: SpecialTokens,
        width: int,
        device: torch.device,
    ) -> None:
        """Takes the memory; `reset` and `take_noise` begin.

        Args:
            num_states: B.
            num_candidates: n.
            decoding: the part of the distribution, and the limit.
            special: the tokens that start, end and fill up.
            width: W, see `StaticBeams`.
            device: where the buffers are.
        """
        assert decoding.sampling is not None
        self.num_rows, self.sampling, self.special = num_candidates, decoding.sampling, special
        self.max_new_tokens = decoding.max_new_tokens
        rows = (num_states, num_candidates)
        self.ends = torch.tensor(special.eos, dtype=torch.long, device=device)
        self.num_steps = torch.zeros(1, dtype=torch.long, device=device)
        self.nan_steps = torch.zeros(num_states, dtype=torch.long, device=device)
        self.noise = torch.zeros((*rows, width), dtype=torch.float64, device=device)
        self.sequences = torch.zeros((*rows, width), dtype=torch.int32, device=device)
        self.lengths = torch.zeros(rows, dtype=torch.long, device=device)
        self.log_probs = torch.zeros(rows, device=device)
        self.is_writing = torch.zeros(rows, dtype=torch.bool, device=device)
        self.found = None  # nothing that the host would look at
        self.latest = torch.zeros(rows, dtype=torch.long, device=device)

    def reset(self, num_states: int) -> None:
        """Begins to draw for the first states; the others count as done."""
        self.num_steps.zero_()
        self.nan_steps.zero_()
        self.sequences.fill_(self.special.pad)
        self.lengths.zero_()
        self.log_probs.zero_()
        self.is_writing[:num_states] = True
        self.is_writing[num_states:] = False
        self.latest.fill_(self.special.start)

    def take_noise(self, noise: Tensor) -> None:
        """Takes the numbers of `draw_noise` for the first states."""
        self.noise[: len(noise), :, : noise.shape[-1]] = noise

    def extend(self, logits: Tensor) -> None:
        """Draws the next token of every row.

        Args:
            logits: (B, n, V) float32.
        """
        noise = self.noise.index_select(2, self.num_steps).squeeze(-1)
        tokens = pick(filtered(logits, self.sampling), noise)
        gained = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        is_nan = (gained.isnan() & self.is_writing).any(1)
        self.nan_steps.copy_(torch.where(is_nan & (self.nan_steps == 0), self.num_steps + 1, self.nan_steps))
        self.latest.copy_(tokens.where(self.is_writing, self.special.pad))
        self.sequences.index_copy_(2, self.num_steps, self.latest.unsqueeze(-1).to(self.sequences.dtype))
        self.lengths.add_(self.is_writing)
        self.log_probs.add_(gained.where(self.is_writing, 0.0))

    def settle(self) -> None:
        """Lets the rows end that have written an end token, or as much as they may."""
        self.num_steps.add_(1)
        self.is_writing.logical_and_(~ends_of(self.latest, self.ends) & (self.num_steps < self.max_new_tokens))

    def look(self) -> bool:
        """See `StaticBeams.look`."""
        any_writing, any_nan = torch.stack([self.is_writing.any(), self.nan_steps.any()]).tolist()
        if any_nan:
            raise first_nan(self.nan_steps)
        return not any_writing

    def end_by_text(self, stop: StopStrings, step: int) -> bool:
        """Lets the rows end that have just completed a stop text; never considers more than usual."""
        self.is_writing.logical_and_(~stop.ends(self.sequences[..., :step], self.is_writing))
        return False

    def results(self, num_states: int) -> tuple[Tensor, Tensor]:
        """Tokens and log-probabilities of the samples, as in `generator.decoding.Decoded`."""
        sequences = self.sequences[:num_states, :, : int(self.lengths.max())]
        return sequences.long(), self.log_probs[:num_states].clone()
