"""Sampling over an incremental decoder.

Shapes: B states still drawn for, R rows of each that still write, n samples of each, V vocabulary.
"""

import torch
from torch import Tensor

from generator.decoding.protocol import Decoder, NaNLogitsError
from generator.decoding.settings import Sampling
from generator.decoding.stopping import StopStrings

# Dropping rows that have ended copies the cache of the others, so it waits until a quarter has ended.
MAX_WRITING_SHARE = 0.75


def draw_noise(
    num_states: int, num_samples: int, max_new_tokens: int, generator: torch.Generator | None = None
) -> Tensor:
    """Uniform numbers in [0, 1), one for each token of each sample: (B, n, max_new_tokens) float64.

    Those of a state follow from a seed of its own. The seeds are drawn from the generator (None is torch's default
    one) one after another, so a batch of states has what its states would have alone.
    """
    seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(num_states)]
    size = (num_samples, max_new_tokens)
    return torch.stack(
        [torch.rand(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) for seed in seeds]
    )


def draw(decoder: Decoder, sampling: Sampling, noise: Tensor, stop: StopStrings | None = None) -> tuple[Tensor, Tensor]:
    """Draws samples of every state of the decoder.

    Args:
        decoder: the states, read.
        sampling: from which part of the distribution to draw.
        noise: of `draw_noise`, which says how many samples and tokens there are.
        stop: what ends samples beside EOS.

    Returns:
        Tokens and sums of the model's log-probabilities, as in `generator.decoding.Decoded`.

    Raises:
        NaNLogitsError: when the logits of a state are NaN.
    """
    drawn = _Samples(decoder, sampling, noise, stop)
    for step in range(1, noise.shape[-1] + 1):
        drawn.extend(step)
        if not drawn.prune():
            break
    return drawn.sequences[..., :step], drawn.log_probs


class _Samples:
    """The samples of the whole batch, and the rows that still write some of them."""

    def __init__(self, decoder: Decoder, sampling: Sampling, noise: Tensor, stop: StopStrings | None) -> None:
        self.decoder, self.sampling, self.stop = decoder, sampling, stop
        device, shape = decoder.embedding.device, noise.shape[:2]
        self.noise = noise.to(device)
        self.ends = torch.tensor(decoder.special.eos, dtype=torch.long, device=device)
        self.sequences = torch.full(noise.shape, decoder.special.pad, device=device)
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
            logits = logits.expand(-1, self.samples.shape[1], -1)
            self.decoder.select(torch.zeros_like(self.samples))
        tokens = pick(filtered(logits, self.sampling), self.noise[self.states, self.samples, step - 1])
        gained = logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
        if gained.isnan().any():
            raise NaNLogitsError(int(self.states[gained.isnan().any(1)][0]), step)
        self.latest = tokens.where(self.is_writing, self.decoder.special.pad)
        self.sequences[self.states, self.samples, step - 1] = self.latest
        self.log_probs[self.states, self.samples] += gained.where(self.is_writing, 0.0)
        self.is_writing = self.is_writing & ~torch.isin(self.latest, self.ends)
        if self.stop is not None:
            written = self.sequences[self.states, self.samples, :step]
            self.is_writing = self.is_writing & ~self.stop.ends(written, self.is_writing)

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


def filtered(logits: Tensor, sampling: Sampling) -> Tensor:
    """The probabilities to draw from, (..., V) float64: temperature first, then top_k, then top_p.

    What top_k and top_p leave does not sum to 1; `pick` does not need it to.
    """
    logits = logits.double() / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        smallest = logits.topk(sampling.top_k).values[..., -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    probabilities = logits.softmax(-1)
    if sampling.top_p < 1:
        ordered, index = probabilities.sort(-1, descending=True)
        # a token stays while those before it do not reach top_p, so the likeliest always stays
        is_beyond = ordered.cumsum(-1) - ordered >= sampling.top_p
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
