"""Sampling over an incremental decoder.

Shapes: B states, R rows of each, n samples of each, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from generator.decoding.protocol import Decoder, NaNLogitsError
from generator.decoding.settings import Sampling
from generator.decoding.stopping import StopStrings

# Dropping rows that have ended copies the cache of the others, so it waits until a quarter has ended, or rows part.
MAX_WRITING_SHARE = 0.75


Generators = torch.Generator | Sequence[torch.Generator] | None  # of all states, or one of each


def draw_noise(num_states: int, num_samples: int, max_new_tokens: int, generator: Generators = None) -> Tensor:
    """Uniform numbers in [0, 1), one for each token of each sample: (B, n, max_new_tokens) float64.

    Those of a state follow from a seed of its own. The seeds are drawn from the generator (None is torch's default
    one) one after another, so a batch of states has what its states would have alone; or each from its own generator.
    """
    own = generator if isinstance(generator, Sequence) else [generator] * num_states
    seeds = [int(torch.randint(2**62, (), generator=each)) for each in own]
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
    """The samples of the whole batch, and the rows that write them.

    Samples that have written the same so far share a row, whose next tokens are drawn for each of them: where a model
    is sure, as of punctuation, a hundred samples cost what a few do. G states that still write, R rows of each.
    """

    def __init__(self, decoder: Decoder, sampling: Sampling, noise: Tensor, stop: StopStrings | None) -> None:
        self.decoder, self.sampling, self.stop = decoder, sampling, stop
        device, shape = decoder.embedding.device, noise.shape[:2]
        self.noise = noise.to(device)
        self.ends = torch.tensor(decoder.special.eos, dtype=torch.long, device=device)
        self.sequences = torch.full(noise.shape, decoder.special.pad, device=device)
        self.log_probs = torch.zeros(shape, device=device)
        # of the states that still write: their numbers (G,), the row of each sample (G, n), whether it still writes,
        # its last token; and the last token of each row (G, R)
        self.states = torch.arange(shape[0], device=device)
        self.rows = torch.zeros(shape, dtype=torch.long, device=device)
        self.is_writing = torch.ones(shape, dtype=torch.bool, device=device)
        self.tokens = self.rows
        self.latest = torch.full((shape[0], 1), decoder.special.start, device=device)

    def extend(self, step: int) -> None:
        """Draws the next token of every sample."""
        logits = self.decoder.step(self.latest)
        tokens = pick(filtered(logits, self.sampling), self.noise[self.states, :, step - 1], self.rows)
        place = torch.arange(len(self.states), device=tokens.device).unsqueeze(1), self.rows
        gained = logits.log_softmax(-1)[(*place, tokens)].where(self.is_writing, 0.0)
        if gained.isnan().any():
            raise NaNLogitsError(int(self.states[gained.isnan().any(1)][0]), step)
        self.tokens = tokens.where(self.is_writing, self.decoder.special.pad)
        self.sequences[self.states, :, step - 1] = self.tokens
        self.log_probs[self.states] += gained
        self.is_writing = self.is_writing & ~torch.isin(self.tokens, self.ends)
        if self.stop is not None:
            written = self.sequences[self.states, :, :step]
            self.is_writing = self.is_writing & ~self.stop.ends(written, self.is_writing)

    def prune(self) -> bool:
        """Goes on with the states that still write, and a row for each different text; tells whether there are any."""
        going = self.is_writing.any(1).nonzero()[:, 0]
        if not len(going):
            return False
        num_rows, num_classes = self.latest.shape[1], max(int(self.tokens.max()), self.decoder.special.pad) + 1
        writing = self.is_writing[going]
        texts = (torch.arange(len(going), device=going.device).unsqueeze(1) * num_rows + self.rows[going]) * num_classes
        texts, text_of = torch.unique((texts + self.tokens[going])[writing], return_inverse=True)
        parents, tokens = texts // num_classes, texts % num_classes  # parents count through all states
        states, parents = parents // num_rows, parents % num_rows
        counts = states.bincount(minlength=len(going))
        places = torch.arange(len(texts), device=going.device) - (counts.cumsum(0) - counts)[states]
        size = int(counts.max())
        if len(going) == len(self.states) and size > MAX_WRITING_SHARE * num_rows and not _has_twins(states, parents):
            self.latest = torch.full_like(self.latest, self.decoder.special.pad)
            self.latest[states, parents] = tokens  # each row goes on with one text, and those that ended idle
            return True
        rows = torch.zeros((len(going), size), dtype=torch.long, device=going.device)
        rows[states, places] = parents
        self.latest = torch.full_like(rows, self.decoder.special.pad)
        self.latest[states, places] = tokens
        self.rows = torch.zeros_like(self.rows[going])
        self.rows[writing] = places[text_of]
        self.states, self.is_writing = self.states[going], writing
        self.decoder.select(rows, going.tolist())
        return True


def _has_twins(states: Tensor, parents: Tensor) -> bool:
    """Whether a row goes on in two ways; rows are in order."""
    return bool(((states[1:] == states[:-1]) & (parents[1:] == parents[:-1])).any())


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


def pick(probabilities: Tensor, noise: Tensor, rows: Tensor | None = None) -> Tensor:
    """Draws by inverting the cumulative distribution, which needs one number a draw.

    Args:
        probabilities: (B, R, V), of any positive sum.
        noise: (B, n), uniform in [0, 1).
        rows: from which distribution each is drawn, (B, n); None draws one of each, and n is R.

    Returns:
        Tokens (B, n).
    """
    cumulative, num_classes = probabilities.cumsum(-1), probabilities.shape[-1]
    if rows is None:
        target = noise.unsqueeze(-1) * cumulative[..., -1:]
        return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=num_classes - 1)
    # a search by halves reads a few numbers a draw, where searchsorted wants a copy of its distribution
    states = torch.arange(len(rows), device=rows.device).unsqueeze(1)
    start, flat = (states * cumulative.shape[1] + rows) * num_classes, cumulative.reshape(-1)
    target = noise * flat[start + num_classes - 1]
    low, high = torch.zeros_like(rows), torch.full_like(rows, num_classes - 1)
    for _ in range((num_classes - 1).bit_length()):
        middle = (low + high) // 2
        is_beyond = flat[start + middle] > target
        low, high = (
            torch.where(is_beyond, low, middle + 1).clamp(max=num_classes - 1),
            torch.where(is_beyond, middle, high),
        )
    return low
