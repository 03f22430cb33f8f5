"""Sampling over an incremental decoder.

Shapes: B states still drawn for, R rows of each that still write, n samples of each, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common import ConfigError, check_positive
from generator.decoding.protocol import Decoder, NaNLogitsError, StopRule

# Dropping rows that have ended copies the cache of the others, so it waits until a quarter has ended.
MAX_WRITING_SHARE = 0.75


@dataclass(frozen=True)
class SamplingSettings:
    """The settings of `generator.decoding.sample`, which documents them; `stop` ends samples beside EOS.

    Raises:
        ConfigError: for an option out of range.
    """

    num_samples: int
    max_new_tokens: int
    temperature: float
    top_k: int
    top_p: float
    stop: StopRule | None = None

    def __post_init__(self) -> None:
        check_positive(num_samples=self.num_samples, max_new_tokens=self.max_new_tokens)
        check_sampling(self.temperature, self.top_k, self.top_p)


def check_sampling(temperature: float, top_k: int, top_p: float) -> None:
    """Raises ConfigError for an option of sampling that is out of range."""
    if not 0 < temperature < float("inf"):
        raise ConfigError(
            f"temperature is {temperature}; it must be positive and finite. For the likeliest candidate use beam "
            "search with one beam"
        )
    if top_k < 0:
        raise ConfigError(f"top_k is {top_k}; it must be 0 (no limit) or a number of tokens")
    if not 0 < top_p <= 1:
        raise ConfigError(f"top_p is {top_p}; it must be above 0 and at most 1 (no limit)")


def draw_seeds(num_states: int, generator: torch.Generator | None) -> list[int]:
    """One seed for each state, drawn one after another, so that batching does not change them."""
    return [int(torch.randint(2**62, (), generator=generator)) for _ in range(num_states)]


def draw(decoder: Decoder, settings: SamplingSettings, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Draws `num_samples` samples of every state of the decoder.

    Args:
        decoder: the encoded states.
        settings: how many, how long, from which part of the distribution.
        seeds: one for each state.

    Returns:
        Tokens and sums of the model's log-probabilities, as in `generator.decoding.Decoded`.

    Raises:
        NaNLogitsError: when the logits of a state are NaN.
    """
    sampling = _Sampling(decoder, settings, seeds)
    for step in range(1, settings.max_new_tokens + 1):
        sampling.extend(step)
        if not sampling.prune():
            break
    return sampling.sequences[..., :step], sampling.log_probs


class _Sampling:
    """The samples of the whole batch, and the rows that still write some of them."""

    def __init__(self, decoder: Decoder, settings: SamplingSettings, seeds: Sequence[int]) -> None:
        self.decoder, self.settings = decoder, settings
        device, shape = decoder.embedding.device, (decoder.num_states, settings.num_samples)
        self.noise = _noise(settings, seeds).to(device)
        self.ends = torch.tensor(decoder.special.eos, dtype=torch.long, device=device)
        self.sequences = torch.full((*shape, settings.max_new_tokens), decoder.special.pad, device=device)
        self.log_probs = torch.zeros(shape, device=device)
        # of each row: its state in the batch (B, 1), its sample (B, R), whether it still writes, its last token
        self.states = torch.arange(shape[0], device=device).unsqueeze(1)
        self.samples = torch.arange(shape[1], device=device).expand(shape)
        self.is_writing = torch.ones(shape, dtype=torch.bool, device=device)
        self.latest = torch.full((shape[0], 1), decoder.special.start, device=device)

    def extend(self, step: int) -> None:
        """Draws the next token of every row."""
        logits = self.decoder.step(self.latest)
        if step == 1:  # all samples of a state continue the same row
            logits = logits.expand(-1, self.settings.num_samples, -1)
            self.decoder.select(torch.zeros_like(self.samples))
        tokens = pick(filtered(logits, self.settings), self.noise[self.states, self.samples, step - 1])
        gained = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        if gained.isnan().any():
            raise NaNLogitsError(int(self.states[gained.isnan().any(1)][0]), step)
        self.latest = tokens.where(self.is_writing, self.decoder.special.pad)
        self.sequences[self.states, self.samples, step - 1] = self.latest
        self.log_probs[self.states, self.samples] += gained.where(self.is_writing, 0.0)
        self.is_writing = self.is_writing & ~torch.isin(self.latest, self.ends)
        if self.settings.stop is not None:
            written = self.sequences[self.states, self.samples, :step]
            self.is_writing = self.is_writing & ~self.settings.stop(written, self.is_writing)

    def prune(self) -> bool:
        """Goes on with the states and rows that still write; tells whether there are any."""
        num_writing: list[int] = self.is_writing.sum(1).tolist()
        going = [state for state, writing in enumerate(num_writing) if writing]
        if not going:
            return False
        num_rows = max(num_writing)
        if len(going) == len(num_writing) and num_rows > MAX_WRITING_SHARE * self.samples.shape[1]:
            return True
        rows = self.is_writing[going].long().argsort(dim=1, descending=True, stable=True)[:, :num_rows]
        self.states, self.samples = self.states[going], self.samples[going].gather(1, rows)
        self.latest, self.is_writing = self.latest[going].gather(1, rows), self.is_writing[going].gather(1, rows)
        self.decoder.select(rows, going)
        return True


def filtered(logits: Tensor, settings: SamplingSettings) -> Tensor:
    """The probabilities to draw from, (..., V) float64: temperature first, then top_k, then top_p.

    What top_k and top_p leave does not sum to 1; `pick` does not need it to.
    """
    logits = logits.double() / settings.temperature
    if 0 < settings.top_k < logits.shape[-1]:
        smallest = logits.topk(settings.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    probabilities = logits.softmax(-1)
    if settings.top_p < 1:
        ordered, index = probabilities.sort(-1, descending=True)
        # a token stays while those before it do not reach top_p, so the likeliest always stays
        is_beyond = ordered.cumsum(-1) - ordered >= settings.top_p
        probabilities = torch.zeros_like(ordered).scatter(-1, index, ordered.masked_fill(is_beyond, 0.0))
    return probabilities


def pick(probabilities: Tensor, noise: Tensor) -> Tensor:
    """Draws by inverting the cumulative distribution, which needs one number a row.

    Args:
        probabilities: (B, R, V), of any positive sum.
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
        [torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    )
