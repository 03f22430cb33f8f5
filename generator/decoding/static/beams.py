"""Beam search as a pure function of buffers that never change their shapes: the same search as `decoding.beams`.

Where that drops rows and states which cannot enter the result any more, here their scores become -inf and they go on
without effect, so that no step needs to know on the host what was found. Every method is a fixed list of operations
on the device: it can be captured as a CUDA graph, and runs as it is anywhere.

Shapes: B states, R rows of each, C continuations considered for each, K hypotheses kept for each, W tokens that
there is room for, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from generator.decoding.beams import best_totals, take_rows
from generator.decoding.protocol import SpecialTokens
from generator.decoding.settings import Decoding
from generator.decoding.static.buffers import Buffers, ends_of, first_nan
from generator.decoding.stopping import StopStrings


@dataclass(frozen=True)
class Found:
    """The best continuations of each state by one token, best first, each (B, C): see `beams._Continuations`."""

    log_probs: Tensor
    rows: Tensor
    latest: Tensor
    is_end: Tensor
    logits: Tensor  # among whose tokens these are, (B, R, V)


class StaticBeams(Buffers):
    """The live rows, best first, and the finished hypotheses of each state."""

    moves_rows = True

    def __init__(
        self,
        num_states: int,
        num_candidates: int,
        decoding: Decoding,
        special: SpecialTokens,
        width: int,
        device: torch.device,
    ) -> None:
        """Takes the memory; `reset` begins a search.

        Args:
            num_states: B.
            num_candidates: returned for each.
            decoding: beams, length penalty and limit.
            special: the tokens that start, end and fill up.
            width: W, at least `decoding.max_new_tokens` rounded up to whole chunks of steps.
            device: where the buffers are.
        """
        self.num_rows, self.num_candidates = decoding.rows_for(num_candidates), num_candidates
        self.max_new_tokens, self.special = decoding.max_new_tokens, special
        self.scores_only_fall = decoding.length_penalty <= 0
        num_kept = num_candidates if self.scores_only_fall else self.num_rows
        rows, kept = (num_states, self.num_rows), (num_states, num_kept)
        self.ends = torch.tensor(special.eos, dtype=torch.long, device=device)
        # by what a sum is divided behind so many tokens
        scale = [max(1, length) ** decoding.length_penalty for length in range(width + 2)]
        self.scale = torch.tensor(scale, dtype=torch.float32, device=device)
        self.num_steps = torch.zeros(1, dtype=torch.long, device=device)
        self.lengths = torch.zeros(num_states, dtype=torch.long, device=device)  # of the hypotheses
        self.nan_steps = torch.zeros(num_states, dtype=torch.long, device=device)
        self.is_done = torch.zeros(num_states, dtype=torch.bool, device=device)
        self.log_probs = torch.zeros(rows, device=device)
        self.rows = torch.zeros(rows, dtype=torch.long, device=device)  # that the present rows continue
        self.latest = torch.zeros(rows, dtype=torch.long, device=device)
        self.history = torch.zeros((*rows, width), dtype=torch.int32, device=device)
        self.scores = torch.zeros(kept, device=device)
        self.kept_log_probs = torch.zeros(kept, device=device)
        self.kept = torch.zeros((*kept, width), dtype=torch.int32, device=device)
        self.found: Found | None = None

    def reset(self, num_states: int) -> None:
        """Begins a search of the first states; the others count as done."""
        self.num_steps.zero_()
        self.lengths.zero_()
        self.nan_steps.zero_()
        self.is_done[:num_states] = False
        self.is_done[num_states:] = True
        self.log_probs.fill_(-torch.inf)
        self.log_probs[:num_states, 0] = 0.0  # all rows are the same as yet
        self.rows.zero_()
        self.latest.fill_(self.special.start)
        self.history.fill_(self.special.pad)
        self.scores.fill_(-torch.inf)
        self.kept_log_probs.fill_(-torch.inf)
        self.kept.fill_(self.special.pad)

    def extend(self, logits: Tensor) -> None:
        """Considers every next token of every row; `found` holds the best.

        Args:
            logits: (B, R, V) float32.
        """
        self.found = self._best(logits, max(1, len(self.ends)))

    def settle(self) -> None:
        """Keeps what has finished, and goes on with the best rows that may still enter the result."""
        found = self.found
        assert found is not None
        is_nan = found.log_probs[:, 0].isnan() & ~self.is_done
        self.nan_steps.copy_(torch.where(is_nan & (self.nan_steps == 0), self.num_steps + 1, self.nan_steps))
        self._collect(found)
        self._prune(found)
        self.num_steps.add_(1)

    def _best(self, logits: Tensor, num_ends: int) -> Found:
        # what a dead row would say must not matter, NaN neither
        alive = logits.masked_fill((self.log_probs == -torch.inf).unsqueeze(-1), 0.0)
        log_probs, index = best_totals(alive, self.log_probs, self.num_rows, num_ends)
        rows, latest = index // logits.shape[-1], index % logits.shape[-1]
        is_end = ends_of(latest, self.ends) | (self.num_steps + 1 >= self.max_new_tokens)
        return Found(log_probs, rows, latest, is_end, logits)

    def _collect(self, found: Found) -> None:
        """An end counts among the best R only, the rest are spare rows."""
        num_rows, step = self.num_rows, self.num_steps
        log_probs = found.log_probs[:, :num_rows].masked_fill(~found.is_end[:, :num_rows], -torch.inf)
        self.lengths.copy_(torch.where((log_probs > -torch.inf).any(1), step + 1, self.lengths))
        tokens = take_rows(self.history, found.rows[:, :num_rows])
        tokens.index_copy_(2, step, found.latest[:, :num_rows, None].to(tokens.dtype))
        scores, best = torch.cat([self.scores, log_probs / self.scale[step + 1]], 1).topk(self.scores.shape[1])
        self.scores.copy_(scores)
        self.kept_log_probs.copy_(torch.cat([self.kept_log_probs, log_probs], 1).gather(1, best))
        self.kept.copy_(take_rows(torch.cat([self.kept, tokens], 1), best))

    def _prune(self, found: Found) -> None:
        """See `beams._BeamSearch._count_alive` for which rows are worth going on with."""
        step = self.num_steps
        log_probs, best = found.log_probs.masked_fill(found.is_end, -torch.inf).topk(self.num_rows)
        worst = self.scores[:, -1:]
        if self.scores_only_fall:
            is_alive = log_probs / self.scale[step + 2] > worst
        else:
            is_alive = (log_probs > -torch.inf) & (log_probs[:, :1] / self.scale[step + 1] > worst)
        self.log_probs.copy_(log_probs.masked_fill(~is_alive | self.is_done.unsqueeze(1), -torch.inf))
        self.is_done.logical_or_(~is_alive.any(1))
        self.rows.copy_(found.rows.gather(1, best))
        self.latest.copy_(found.latest.gather(1, best))
        history = take_rows(self.history, self.rows)
        self.history.copy_(history.index_copy_(2, step, self.latest.unsqueeze(-1).to(history.dtype)))

    def look(self) -> bool:
        """Waits for the device, and tells whether all states are done.

        Raises:
            NaNLogitsError: when the logits of a state were NaN.
        """
        all_done, any_nan = torch.stack([self.is_done.all(), self.nan_steps.any()]).tolist()
        if any_nan:
            raise first_nan(self.nan_steps)
        return bool(all_done)

    def end_by_text(self, stop: StopStrings, step: int) -> bool:
        """Marks the continuations that complete a stop text; tells whether more than usual were considered.

        Args:
            stop: the texts.
            step: how many tokens the continuations have.
        """
        found = self.found
        assert found is not None
        self._mark(found, stop, step)
        num_ends, width = max(1, len(self.ends)), found.is_end.shape[1]
        # a stop text, unlike an end token, may end any number of a row's continuations
        while step < self.max_new_tokens and found.is_end.shape[1] < found.logits[0].numel():
            if not ((~found.is_end).sum(1) < self.num_rows).any():
                break
            num_ends *= 2
            self.found = found = self._best(found.logits, num_ends)
            self._mark(found, stop, step)
        return found.is_end.shape[1] != width

    def _mark(self, found: Found, stop: StopStrings, step: int) -> None:
        tokens = torch.cat([take_rows(self.history[..., : step - 1], found.rows), found.latest.unsqueeze(-1)], -1)
        found.is_end.logical_or_(stop.ends(tokens, ~found.is_end & (found.log_probs > -torch.inf)))

    def results(self, num_states: int) -> tuple[Tensor, Tensor]:
        """Tokens and log-probabilities of the candidates, as in `generator.decoding.Decoded`."""
        num_candidates = self.num_candidates
        log_probs = self.kept_log_probs[:num_states, :num_candidates].clone()
        exists = (log_probs > -torch.inf).unsqueeze(-1)
        tokens = self.kept[:num_states, :num_candidates, : max(1, int(self.lengths.max()))].long()
        return tokens.where(exists, self.special.pad), log_probs
