"""Beam search over an incremental decoder.

Shapes: B states, R live rows of each, C candidates kept for each, T tokens so far, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from generator.t5_decoder import T5Decoder


class NaNLogitsError(ArithmeticError):
    """A state whose logits are NaN: its number in the decoder's batch, and the step (from 1)."""

    def __init__(self, state: int, step: int) -> None:
        super().__init__(f"NaN logits for state {state} at step {step}")
        self.state = state
        self.step = step


@dataclass(frozen=True)
class SpecialTokens:
    """Token ids with a meaning: what every output starts with, what ends it, what fills it up."""

    start: int
    eos: tuple[int, ...]
    pad: int

    @classmethod
    def of(cls, model: Any) -> "SpecialTokens":
        """Reads them from `model.config`, the start token also from its generation settings."""
        config = model.config
        start = getattr(config, "decoder_start_token_id", None)
        if start is None:
            start = getattr(getattr(model, "generation_config", None), "decoder_start_token_id", None)
        if start is None:
            raise ValueError(
                "model.config.decoder_start_token_id is not set: set it to the token that decoding starts with "
                "(T5 uses pad_token_id)."
            )
        eos = config.eos_token_id
        ends = () if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (int(eos),)
        pad = config.pad_token_id
        return cls(int(start), ends, int(pad) if pad is not None else (ends or (0,))[0])


@dataclass(frozen=True)
class BeamSettings:
    """The settings of `generator.decoding.beam_search`, which documents them."""

    num_beams: int
    num_return_sequences: int
    max_new_tokens: int
    length_penalty: float

    @property
    def scores_only_fall(self) -> bool:
        """Whether a longer continuation can never score better."""
        return self.length_penalty <= 0

    @property
    def num_kept(self) -> int:
        """How many finished hypotheses matter: more than are returned only for transformers' stopping rule."""
        return self.num_return_sequences if self.scores_only_fall else self.num_beams


class Finished:
    """The best finished hypotheses of each state, best first; a score of -inf marks a free place."""

    def __init__(self, num_states: int, num_kept: int, device: torch.device) -> None:
        self.scores = torch.full((num_states, num_kept), -torch.inf, device=device)
        self.log_probs = self.scores.clone()
        self.tokens = torch.zeros((num_states, num_kept, 0), dtype=torch.long, device=device)

    def add(self, scores: Tensor, log_probs: Tensor, tokens: Tensor, pad: int) -> None:
        """Merges newly finished hypotheses, (B, R) and (B, R, T); a score of -inf is none."""
        fill = tokens.shape[-1] - self.tokens.shape[-1]
        kept = torch.nn.functional.pad(self.tokens, (0, fill), value=pad)
        num_kept = self.scores.shape[1]
        self.scores, best = torch.cat([self.scores, scores], 1).topk(num_kept)
        self.log_probs = torch.cat([self.log_probs, log_probs], 1).gather(1, best)
        self.tokens = take_rows(torch.cat([kept, tokens], 1), best)

    def keep(self, states: Tensor) -> None:
        """Forgets every state but those numbered."""
        self.scores, self.log_probs, self.tokens = (
            part[states] for part in (self.scores, self.log_probs, self.tokens)
        )


class Results:
    """Where finished states put their candidates, since states leave the batch at different steps."""

    def __init__(
        self, num_states: int, num_candidates: int, max_new_tokens: int, pad: int, device: Any
    ) -> None:
        self.sequences = torch.full((num_states, num_candidates, max_new_tokens), pad, device=device)
        self.log_probs = torch.full((num_states, num_candidates), -torch.inf, device=device)
        self.length = 1

    def put(self, states: Tensor, finished: Finished, done: Tensor) -> None:
        """Stores the candidates of those finished states (numbers `done`), which are `states` of the batch."""
        num_candidates, length = self.log_probs.shape[1], finished.tokens.shape[-1]
        log_probs = finished.log_probs[done, :num_candidates]
        exists = log_probs > -torch.inf
        tokens = finished.tokens[done, :num_candidates]
        self.log_probs[states] = log_probs
        self.sequences[states, :, :length] = torch.where(
            exists.unsqueeze(-1), tokens, self.sequences[states, :, :length]
        )
        self.length = max(self.length, length)


def search(decoder: T5Decoder, special: SpecialTokens, settings: BeamSettings) -> tuple[Tensor, Tensor]:
    """Runs beam search for every state of the decoder.

    Returns:
        Token ids (B, C, T) and sums of log-probabilities (B, C), C = `num_return_sequences`.

    Raises:
        NaNLogitsError: when the logits of a state are NaN.
    """
    device, num_states = decoder.embedding.device, decoder.num_states
    results = Results(num_states, settings.num_return_sequences, settings.max_new_tokens, special.pad, device)
    finished = Finished(num_states, settings.num_kept, device)
    ends = torch.tensor(special.eos, dtype=torch.long, device=device)
    batch = torch.arange(num_states, device=device)  # which state of the batch each active state is
    scores = torch.zeros((num_states, 1), device=device)
    tokens = torch.full((num_states, 1, 1), special.start, device=device)

    for step in range(1, settings.max_new_tokens + 1):
        logits = decoder.step(tokens[..., -1])
        totals, parents, latest = _best_continuations(logits, scores, settings.num_beams, max(1, len(ends)))
        is_end = (
            torch.isin(latest, ends)
            if step < settings.max_new_tokens
            else torch.ones_like(latest, dtype=torch.bool)
        )
        tokens = torch.cat([take_rows(tokens, parents), latest.unsqueeze(-1)], -1)

        # only an end among the best `num_beams` counts; the others are there to leave enough beams alive
        finishing = is_end[:, : settings.num_beams]
        any_finishing, any_nan = torch.stack([finishing.any(), totals[:, 0].isnan().any()]).tolist()
        if any_nan:
            raise NaNLogitsError(int(batch[totals[:, 0].isnan()][0]), step)
        if any_finishing:
            log_probs = totals[:, : settings.num_beams].masked_fill(~finishing, -torch.inf)
            finished.add(
                log_probs / step**settings.length_penalty,
                log_probs,
                tokens[:, : settings.num_beams, 1:],
                special.pad,
            )
        scores, best = totals.masked_fill(is_end, -torch.inf).topk(min(settings.num_beams, totals.shape[1]))

        num_alive: list[int] = _count_alive(scores, finished, step, settings).tolist()
        going = [state for state, alive in enumerate(num_alive) if alive]
        if len(going) < len(num_alive):
            done = torch.tensor([state for state, alive in enumerate(num_alive) if not alive], device=device)
            results.put(batch[done], finished, done)
            if not going:
                break
            kept = torch.tensor(going, device=device)
            finished.keep(kept)
            batch, scores, best, parents, tokens = (
                part[kept] for part in (batch, scores, best, parents, tokens)
            )
        best = best[:, : max(num_alive)]
        scores, tokens = scores[:, : max(num_alive)], take_rows(tokens, best)
        decoder.select(parents.gather(1, best), going)
    return results.sequences[..., : results.length], results.log_probs


def _best_continuations(
    logits: Tensor, scores: Tensor, num_beams: int, num_ends: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The best continuations of all rows of a state: enough that `num_beams` of them do not end.

    Args:
        logits: (B, R, V).
        scores: sums of log-probabilities of the rows, (B, R).
        num_beams: how many must be left when the ends are taken away.
        num_ends: the most ends that a row can have.

    Returns:
        Sums of log-probabilities, rows continued and tokens, each (B, C), best first.
    """
    totals = logits + (scores - logits.logsumexp(-1)).unsqueeze(-1)
    num_kept = min((1 + num_ends) * num_beams, totals[0].numel())
    totals, index = totals.flatten(1).topk(num_kept)
    vocabulary = logits.shape[-1]
    return totals, index // vocabulary, index % vocabulary


def _count_alive(scores: Tensor, finished: Finished, step: int, settings: BeamSettings) -> Tensor:
    """How many of the best rows of each state may still enter the result: (B,).

    Where scores only fall, a row is worth continuing while its score (at the next length, at best) beats the
    worst kept one; what it would push aside does not matter either. Otherwise transformers' rule decides for the
    state as a whole, from its best row at the present length.
    """
    worst = finished.scores[:, -1:]
    if settings.scores_only_fall:
        return ((scores / (step + 1) ** settings.length_penalty) > worst).sum(1)
    may_improve = scores[:, :1] / step**settings.length_penalty > worst
    return ((scores > -torch.inf) & may_improve).sum(1)


def take_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Gathers (B, R, T) by (B, R') to (B, R', T)."""
    return values.gather(1, rows.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
