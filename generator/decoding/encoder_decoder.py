"""Beam search and sampling for T5-family encoder-decoders, on the live model.

Same candidates and scores as `transformers.generate`; several times faster for many beams over a long input,
because the rows of a state share its keys and values (see `generator.decoding.t5_decoder`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common import DataError
from generator.decoding import beams, sampling
from generator.decoding.protocol import NaNLogitsError
from generator.decoding.t5_decoder import T5Decoder, check_model


@dataclass(frozen=True)
class Decoded:
    """Candidates of a batch of states: B states, R candidates each, T tokens of the longest.

    Attributes:
        sequences: (B, R, T) int64 without the start token, with EOS where it was written, then padding.
        log_probs: (B, R) float32, the plain sum of token log-probabilities including EOS; -inf marks a candidate
            that does not exist (its row is all padding).
    """

    sequences: Tensor
    log_probs: Tensor


def beam_search(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    num_beams: int,
    num_return_sequences: int,
    max_new_tokens: int,
    length_penalty: float = 0.0,
) -> Decoded:
    """The best candidates of each state, best first, as `transformers.generate(early_stopping=False)` finds them.

    Candidates rank by `log_prob / length ** length_penalty`, the length counting EOS; 0 ranks by probability.
    With a penalty of at most 0 scores can only fall, so a beam ends as soon as it cannot enter the result. With a
    positive one transformers' stopping rule is reproduced, which compares at the present length.
    A hypothesis that reaches `max_new_tokens` without EOS counts as finished there.

    Dropout is off and nothing of the model is changed, whatever its mode; autocast is respected.

    Args:
        model: T5ForConditionalGeneration, or its MT5 or UMT5 relative.
        input_ids: (B, S) token ids, padded on the right.
        attention_mask: (B, S), 1 on tokens and 0 on padding.
        num_beams: hypotheses kept at each step.
        num_return_sequences: candidates to return for each state, at most `num_beams`.
        max_new_tokens: the most tokens of a candidate, EOS included.
        length_penalty: exponent of the length that the sum is divided by for ranking.

    Returns:
        The candidates; fewer than asked for exist where the vocabulary is small.

    Raises:
        ConfigError: for an option out of range.
        DataError: for a state without tokens, or padding that is not on the right.
        TypeError: for a model that is not a T5-family encoder-decoder.
        NaNLogitsError: when logits are NaN; names the state.
    """
    settings = beams.BeamSettings(num_beams, num_return_sequences, max_new_tokens, length_penalty)
    return _decode(model, input_ids, attention_mask, max_new_tokens, lambda decoder, _: beams.search(decoder, settings))


def sample(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    num_samples: int,
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Decoded:
    """Independent samples of each state, in the order drawn, duplicates included.

    The samples of a state share one encoding of it. Each state draws from a seed of its own, taken from
    `generator` in the order of the batch, so a batch draws what the same states would one call at a time.
    `log_probs` are the model's own (temperature 1, nothing filtered), comparable with those of `beam_search`.

    Args:
        model: T5ForConditionalGeneration, or its MT5 or UMT5 relative.
        input_ids: (B, S) token ids, padded on the right.
        attention_mask: (B, S), 1 on tokens and 0 on padding.
        num_samples: samples of each state.
        max_new_tokens: the most tokens of a sample, EOS included; a longer one is cut there.
        temperature: divides the logits; below 1 sharpens.
        top_k: draw from the k likeliest tokens only; 0 is no limit.
        top_p: draw from the likeliest tokens that together reach this probability; 1 is no limit.
        generator: CPU generator that seeds the draws; None uses torch's default one.

    Returns:
        The samples.

    Raises:
        ConfigError: for an option out of range.
        DataError: for a state without tokens, or padding that is not on the right.
        TypeError: for a model that is not a T5-family encoder-decoder.
        NaNLogitsError: when logits are NaN; names the state.
    """
    settings = sampling.SamplingSettings(num_samples, max_new_tokens, temperature, top_k, top_p)
    seeds = sampling.draw_seeds(len(input_ids), generator)
    return _decode(
        model,
        input_ids,
        attention_mask,
        max_new_tokens,
        lambda decoder, order: sampling.draw(decoder, settings, [seeds[state] for state in order]),
    )


_Method = Callable[[T5Decoder, list[int]], tuple[Tensor, Tensor]]


def _decode(model: Any, input_ids: Tensor, attention_mask: Tensor, max_new_tokens: int, method: _Method) -> Decoded:
    """Encodes the states, longest first, runs the method on them and restores their order."""
    model = getattr(model, "_orig_mod", model)  # a model wrapped by torch.compile
    check_model(model)
    lengths = _lengths(input_ids, attention_mask)
    order = sorted(range(len(lengths)), key=lambda state: -lengths[state])
    with torch.inference_mode():
        decoder = T5Decoder(model, [input_ids[state, : lengths[state]] for state in order], max_new_tokens)
        try:
            sequences, log_probs = method(decoder, order)
        except NaNLogitsError as error:
            raise NaNLogitsError(order[error.state], error.step) from None
    place = torch.tensor(order, device=log_probs.device).argsort()
    # indexing outside of inference mode gives ordinary tensors
    return Decoded(sequences[place], log_probs[place])


def _lengths(input_ids: Tensor, attention_mask: Tensor) -> list[int]:
    if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape or not len(input_ids):
        raise DataError(
            f"input_ids has shape {tuple(input_ids.shape)} and attention_mask {tuple(attention_mask.shape)}: "
            "both must be (states, tokens), with at least one state."
        )
    mask = attention_mask.bool()
    lengths: list[int] = mask.sum(1).tolist()
    if 0 in lengths:
        raise DataError(f"state {lengths.index(0)} of the batch has no token: even an empty state is encoded as EOS.")
    is_left_padded = (mask[:, 1:] & ~mask[:, :-1]).any(1)
    if is_left_padded.any():
        state = int(is_left_padded.long().argmax())
        raise DataError(f"state {state} of the batch has padding before a token: pad on the right.")
    return lengths
