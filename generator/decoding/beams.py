"""Beam search over an incremental decoder.

Shapes: B states still searched, R live rows of each, C continuations considered for each, T tokens so far
(the start token first), V vocabulary.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from generator.decoding.protocol import Decoder, NaNLogitsError
from generator.decoding.settings import Decoding
from generator.decoding.stopping import StopStrings


def search(
    decoder: Decoder, num_candidates: int, decoding: Decoding, stop: StopStrings | None = None
) -> tuple[Tensor, Tensor]:
    """Runs beam search for every state of the decoder.

    Args:
        decoder: the states, read.
        num_candidates: returned for each, at most `decoding.num_beams`.
        decoding: beams, length penalty and limit.
        stop: what ends candidates beside EOS.

    Returns:
        Tokens and sums of log-probabilities of the candidates, as in `generator.decoding.Decoded`.

    Raises:
        NaNLogitsError: when the logits of a state are NaN.
    """
    beam_search = _BeamSearch(decoder, num_candidates, decoding, stop)
    for step in range(1, decoding.max_new_tokens + 1):
        found = beam_search.extend(step)
        beam_search.collect(found, step)
        if not beam_search.prune(found, step):
            break
    return beam_search.results.sequences[..., : beam_search.results.length], beam_search.results.log_probs


@dataclass(frozen=True)
class _Continuations:
    """The best continuations of the rows of each state by one token, best first.

    `log_probs` (B, C) are sums, `rows` (B, C) say which row is continued, `tokens` is (B, C, T) and `is_end`
    (B, C) marks those that are complete.
    """

    log_probs: Tensor
    rows: Tensor
    tokens: Tensor
    is_end: Tensor


class _BeamSearch:
    """The live rows, best first, and the finished hypotheses of the states that are still searched."""

    def __init__(self, decoder: Decoder, num_candidates: int, decoding: Decoding, stop: StopStrings | None) -> None:
        self.decoder, self.stop = decoder, stop
        self.num_beams, self.max_new_tokens = decoding.rows_for(num_candidates), decoding.max_new_tokens
        self.length_penalty = decoding.length_penalty
        # more hypotheses are kept than are returned only for transformers' stopping rule
        num_kept = num_candidates if self.scores_only_fall else self.num_beams
        device, num_states = decoder.embedding.device, decoder.num_states
        self.ends = torch.tensor(decoder.special.eos, dtype=torch.long, device=device)
        self.batch = torch.arange(num_states, device=device)  # the number of each searched state in the batch
        self.log_probs = torch.zeros((num_states, 1), device=device)
        self.tokens = torch.full((num_states, 1, 1), decoder.special.start, device=device)
        self.finished = _Finished(num_states, num_kept, device)
        self.results = _Results(decoder, num_candidates, decoding.max_new_tokens)

    @property
    def scores_only_fall(self) -> bool:
        """Whether a longer continuation can never score better."""
        return self.length_penalty <= 0

    def extend(self, step: int) -> _Continuations:
        """Considers every next token of every row."""
        logits = self.decoder.step(self.tokens[..., -1])
        num_ends = max(1, len(self.ends))
        found = self._best(logits, num_ends, step)
        # a stop text, unlike an end token, may end any number of a row's continuations
        while self.stop is not None and self._lacks_rows(found, logits, step):
            num_ends *= 2
            found = self._best(logits, num_ends, step)
        return found

    def _best(self, logits: Tensor, num_ends: int, step: int) -> _Continuations:
        log_probs, index = best_totals(logits, self.log_probs, self.num_beams, num_ends)
        rows, latest = index // logits.shape[-1], index % logits.shape[-1]
        is_end = torch.isin(latest, self.ends)
        if step == self.max_new_tokens:
            is_end = torch.ones_like(is_end)
        tokens = torch.cat([take_rows(self.tokens, rows), latest.unsqueeze(-1)], -1)
        if self.stop is not None:
            is_end = is_end | self.stop.ends(tokens[..., 1:], ~is_end)
        return _Continuations(log_probs, rows, tokens, is_end)

    def _lacks_rows(self, found: _Continuations, logits: Tensor, step: int) -> bool:
        """Whether so many continuations end that fewer than `num_beams` go on, though there are more."""
        if step == self.max_new_tokens or found.is_end.shape[1] == logits[0].numel():
            return False
        return bool(((~found.is_end).sum(1) < self.num_beams).any())

    def collect(self, found: _Continuations, step: int) -> None:
        """Keeps what has finished; an end counts among the best `num_beams` only, the rest are spare rows."""
        num_beams = self.num_beams
        is_end, is_nan = found.is_end[:, :num_beams], found.log_probs[:, 0].isnan()
        any_end, any_nan = torch.stack([is_end.any(), is_nan.any()]).tolist()
        if any_nan:
            raise NaNLogitsError(int(self.batch[is_nan][0]), step)
        if any_end:
            log_probs = found.log_probs[:, :num_beams].masked_fill(~is_end, -torch.inf)
            scores = log_probs / step**self.length_penalty
            self.finished.add(scores, log_probs, found.tokens[:, :num_beams, 1:], self.decoder.special.pad)

    def prune(self, found: _Continuations, step: int) -> bool:
        """Goes on with the rows that may still enter the result; tells whether there are any."""
        unfinished = found.log_probs.masked_fill(found.is_end, -torch.inf)
        log_probs, best = unfinished.topk(min(self.num_beams, unfinished.shape[1]))
        num_alive: list[int] = self._count_alive(log_probs, step).tolist()
        going = [state for state, alive in enumerate(num_alive) if alive]
        rows, tokens = found.rows, found.tokens
        if len(going) < len(num_alive):
            done = [state for state, alive in enumerate(num_alive) if not alive]
            self.results.put(self.batch[done], self.finished, done)
            if not going:
                return False
            self.finished.keep(going)
            self.batch, log_probs, best = self.batch[going], log_probs[going], best[going]
            rows, tokens = rows[going], tokens[going]
        best = best[:, : max(num_alive)]
        self.log_probs, self.tokens = log_probs[:, : max(num_alive)], take_rows(tokens, best)
        self.decoder.select(rows.gather(1, best), going)
        return True

    def _count_alive(self, log_probs: Tensor, step: int) -> Tensor:
        """How many of the best rows (B, R) of each state may still enter the result.

        Where scores only fall, a row is worth continuing while its score, at the next length at best, beats the
        worst kept one; the continuations that a worse row would push aside could not enter either. Otherwise
        transformers' rule decides for the state as a whole, from its best row at the present length.
        """
        worst = self.finished.scores[:, -1:]
        if self.scores_only_fall:
            is_alive: Tensor = log_probs / (step + 1) ** self.length_penalty > worst
        else:
            is_alive = (log_probs > -torch.inf) & (log_probs[:, :1] / step**self.length_penalty > worst)
        return is_alive.sum(1)


class _Finished:
    """The best finished hypotheses of each state, best first; a score of -inf marks a free place."""

    def __init__(self, num_states: int, num_kept: int, device: torch.device) -> None:
        self.scores = torch.full((num_states, num_kept), -torch.inf, device=device)
        self.log_probs = self.scores.clone()
        self.tokens = torch.zeros((num_states, num_kept, 0), dtype=torch.long, device=device)

    def add(self, scores: Tensor, log_probs: Tensor, tokens: Tensor, pad: int) -> None:
        """Merges new hypotheses, (B, C) and (B, C, T); a score of -inf is none."""
        kept = F.pad(self.tokens, (0, tokens.shape[-1] - self.tokens.shape[-1]), value=pad)
        self.scores, best = torch.cat([self.scores, scores], 1).topk(self.scores.shape[1])
        self.log_probs = torch.cat([self.log_probs, log_probs], 1).gather(1, best)
        self.tokens = take_rows(torch.cat([kept, tokens], 1), best)

    def keep(self, states: list[int]) -> None:
        self.scores, self.log_probs = self.scores[states], self.log_probs[states]
        self.tokens = self.tokens[states]


class _Results:
    """The candidates of the whole batch, filled in as states finish."""

    def __init__(self, decoder: Decoder, num_candidates: int, max_new_tokens: int) -> None:
        shape, device = (decoder.num_states, num_candidates), decoder.embedding.device
        self.sequences = torch.full((*shape, max_new_tokens), decoder.special.pad, device=device)
        self.log_probs = torch.full(shape, -torch.inf, device=device)
        self.length = 1

    def put(self, states: Tensor, finished: _Finished, done: list[int]) -> None:
        """Stores the hypotheses of the searched states `done`, which are `states` of the batch."""
        num_candidates, length = self.log_probs.shape[1], finished.tokens.shape[-1]
        log_probs, tokens = finished.log_probs[done, :num_candidates], finished.tokens[done, :num_candidates]
        exists = (log_probs > -torch.inf).unsqueeze(-1)
        self.log_probs[states] = log_probs
        self.sequences[states, :, :length] = torch.where(exists, tokens, self.sequences[states, :, :length])
        self.length = max(self.length, length)


def best_totals(logits: Tensor, log_probs: Tensor, num_beams: int, num_ends: int) -> tuple[Tensor, Tensor]:
    """The best continuations of a state, so many that `num_beams` of them do not end.

    Args:
        logits: (B, R, V).
        log_probs: sums of the rows so far, (B, R).
        num_beams: how many must be left when all that end are taken away.
        num_ends: how many of a row's tokens end it.

    Returns:
        Sums with the next token and positions among the R * V continuations, each (B, C), best first.
    """
    totals = logits + (log_probs - logits.logsumexp(-1)).unsqueeze(-1)
    num_considered = min((1 + num_ends) * num_beams, totals[0].numel())
    best = totals.flatten(1).topk(num_considered)
    return best.values, best.indices


def take_rows(values: Tensor, rows: Tensor) -> Tensor:
    """Gathers (B, R, T) by (B, R') to (B, R', T)."""
    return values.gather(1, rows.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
