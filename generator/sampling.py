"""Sampling over an incremental decoder.

Shapes: B states, R rows of each that still write, n samples of each, T tokens so far, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from generator.beams import NaNLogitsError, SpecialTokens
from generator.t5_decoder import T5Decoder

# Dropping rows that have ended copies the cache of the others, so it waits until a quarter has ended.
MAX_ROW_SHARE = 0.75


@dataclass(frozen=True)
class SamplingSettings:
    """The settings of `generator.decoding.sample`, which documents them."""

    num_samples: int
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float


def draw_seeds(num_states: int, generator: torch.Generator | None) -> list[int]:
    """One seed for each state, drawn one after another, so that batching does not change them."""
    return [int(torch.randint(2**62, (), generator=generator)) for _ in range(num_states)]


def draw(
    decoder: T5Decoder, special: SpecialTokens, settings: SamplingSettings, seeds: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Draws `num_samples` samples of every state of the decoder.

    Args:
        decoder: the encoded states.
        special: start, end and padding tokens.
        settings: how many, how long, from which part of the distribution.
        seeds: one for each state.

    Returns:
        Token ids (B, n, T) and sums of the model's log-probabilities (B, n).

    Raises:
        NaNLogitsError: when the logits of a state are NaN.
    """
    device, num_states = decoder.embedding.device, decoder.num_states
    shape = (num_states, settings.num_samples)
    noise = _noise(settings, seeds).to(device)
    ends = torch.tensor(special.eos, dtype=torch.long, device=device)
    sequences = torch.full((*shape, settings.max_new_tokens), special.pad, device=device)
    log_probs = torch.zeros(shape, device=device)
    batch = torch.arange(num_states, device=device)  # which state of the batch each active state is
    rows = torch.arange(settings.num_samples, device=device).expand(shape)  # which sample each row writes
    is_writing = torch.ones(shape, dtype=torch.bool, device=device)
    latest = torch.full((num_states, 1), special.start, device=device)

    for step in range(1, settings.max_new_tokens + 1):
        logits = decoder.step(latest)
        if logits.isnan().any():
            raise NaNLogitsError(int(batch[logits.isnan().flatten(1).any(1)][0]), step)
        if step == 1:  # all samples of a state start from the same row
            logits = logits.expand(-1, settings.num_samples, -1)
            decoder.select(torch.zeros_like(rows))
        where = (batch.unsqueeze(1), rows)
        latest = pick(filtered(logits, settings), noise[*where, step - 1])
        gained = logits.log_softmax(-1).gather(-1, latest.unsqueeze(-1)).squeeze(-1)
        latest = latest.where(is_writing, special.pad)
        sequences[*where, step - 1] = latest
        log_probs[where] += gained.where(is_writing, 0.0)
        is_writing = is_writing & ~torch.isin(latest, ends)

        num_writing: list[int] = is_writing.sum(1).tolist()
        going = [state for state, writing in enumerate(num_writing) if writing]
        if not going:
            break
        if len(going) < len(num_writing) or max(num_writing) <= MAX_ROW_SHARE * rows.shape[1]:
            kept = torch.tensor(going, device=device)
            order = is_writing[kept].long().argsort(1, descending=True, stable=True)[:, : max(num_writing)]
            batch = batch[kept]
            rows, latest, is_writing = (part[kept].gather(1, order) for part in (rows, latest, is_writing))
            decoder.select(order, going)
    return sequences[..., :step], log_probs


def filtered(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """The probabilities to draw from, (..., V) float64: temperature first, then top_k, then top_p."""
    logits = logits.double() / settings.temperature
    if 0 < settings.top_k < logits.shape[-1]:
        smallest = logits.topk(settings.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    probabilities = logits.softmax(-1)
    if settings.top_p < 1:
        ordered, index = probabilities.sort(-1, descending=True)
        # a token stays while those before it do not reach top_p; the likeliest always stays
        is_beyond = ordered.cumsum(-1) - ordered >= settings.top_p
        probabilities = torch.zeros_like(ordered).scatter(-1, index, ordered.masked_fill(is_beyond, 0.0))
    return probabilities


def pick(probabilities: Tensor, noise: Tensor) -> Tensor:
    """Draws by inverting the cumulative distribution, which needs one number per row.

    Args:
        probabilities: (B, R, V), not necessarily of sum 1.
        noise: (B, R), uniform in [0, 1).

    Returns:
        Tokens (B, R).
    """
    cumulative = probabilities.cumsum(-1)
    target = noise.unsqueeze(-1) * cumulative[..., -1:]
    token = torch.searchsorted(cumulative, target, right=True).squeeze(-1)
    return token.clamp(max=probabilities.shape[-1] - 1)


def _noise(settings: SamplingSettings, seeds: Sequence[int]) -> Tensor:
    """Uniform numbers (B, n, max_new_tokens) in float64, those of a state from its seed alone."""
    size = (settings.num_samples, settings.max_new_tokens)
    return torch.stack(
        [
            torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
            for seed in seeds
        ]
    )
