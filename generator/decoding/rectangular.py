"""Beam search and sampling of padded batches, with the arguments that `transformers.generate` has for them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from common import ConfigError, DataError, check_positive
from generator.architectures.traits import is_encoder_decoder, unwrapped
from generator.decoding.ragged import Decoded, decode
from generator.decoding.settings import Decoding, Sampling, check_strings


def beam_search(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    num_beams: int,
    num_return_sequences: int,
    max_new_tokens: int,
    length_penalty: float = 0.0,
    stop_sequences: Sequence[str] = (),
    tokenizer: Any = None,
) -> Decoded:
    """The best candidates of each state, best first, as `transformers.generate(early_stopping=False)` finds them.

    Candidates rank by `log_prob / length ** length_penalty`, the length counting new tokens with EOS; 0 ranks by
    probability. With a penalty of at most 0 scores can only fall, so a beam ends as soon as it cannot enter the
    result. With a positive one transformers' stopping rule is reproduced, which compares at the present length.
    A hypothesis that reaches `max_new_tokens` without EOS counts as finished there, and one whose text contains one
    of `stop_sequences` just as with EOS, with the log-probability that it has.

    Dropout is off and nothing of the model is changed, whatever its mode; autocast is respected.

    Args:
        model: T5ForConditionalGeneration or its MT5 or UMT5 relative; or what AutoModelForCausalLM loads, with
            attention sdpa or eager.
        input_ids: (B, S) token ids, padded on the right; for a decoder-only model on either side.
        attention_mask: (B, S), 1 on tokens and 0 on padding. Without a token, a decoder-only model starts from BOS.
        num_beams: hypotheses kept at each step.
        num_return_sequences: candidates to return for each state, at most `num_beams`.
        max_new_tokens: the most tokens of a candidate, EOS included.
        length_penalty: exponent of the length that the sum is divided by for ranking.
        stop_sequences: texts that end a candidate, which keeps the tokens that wrote them.
        tokenizer: what decodes candidates; needed with `stop_sequences`.

    Returns:
        The candidates; fewer than asked for exist where the vocabulary is small.

    Raises:
        ConfigError: for an option out of range.
        DataError: for a state without tokens where the model has no BOS, or beyond its context; for padding on the
            left of an encoder's input.
        TypeError: for a model of another kind, or a decoder-only model whose candidates cannot share a prompt.
        NaNLogitsError: when logits are NaN; names the state.
    """
    check_positive(num_beams=num_beams, num_return_sequences=num_return_sequences)
    if num_return_sequences > num_beams:
        raise ConfigError(
            f"num_return_sequences is {num_return_sequences} but num_beams is {num_beams}: a beam search returns at "
            "most num_beams candidates. Raise num_beams or ask for fewer."
        )
    stop = _checked_stop(stop_sequences, tokenizer)
    decoding = Decoding(max_new_tokens, num_beams, length_penalty, stop=stop)
    states = _unpadded(model, input_ids, attention_mask)
    return decode(model, states, num_return_sequences, decoding, tokenizer=tokenizer)


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
    stop_sequences: Sequence[str] = (),
    tokenizer: Any = None,
) -> Decoded:
    """Independent samples of each state, in the order drawn, duplicates included.

    The samples of a state share one encoding of it. Each state draws from a seed of its own, taken from
    `generator` in the order of the batch, so a batch draws what the same states would one call at a time.
    `log_probs` are the model's own (temperature 1, nothing filtered), comparable with those of `beam_search`.

    Args:
        model: as in `beam_search`.
        input_ids: (B, S) token ids, padded as there.
        attention_mask: (B, S), 1 on tokens and 0 on padding.
        num_samples: samples of each state.
        max_new_tokens: the most tokens of a sample, EOS included; a longer one is cut there.
        temperature: divides the logits; below 1 sharpens.
        top_k: draw from the k likeliest tokens only; 0 is no limit.
        top_p: draw from the likeliest tokens that together reach this probability; 1 is no limit.
        generator: CPU generator that seeds the draws; None uses torch's default one.
        stop_sequences: texts that end a sample, which keeps the tokens that wrote them.
        tokenizer: what decodes samples; needed with `stop_sequences`.

    Returns:
        The samples.

    Raises:
        ConfigError: for an option out of range; for the other errors see `beam_search`.
    """
    check_positive(num_samples=num_samples)
    stop = _checked_stop(stop_sequences, tokenizer)
    decoding = Decoding(max_new_tokens, sampling=Sampling(temperature, top_k, top_p), stop=stop)
    states = _unpadded(model, input_ids, attention_mask)
    return decode(model, states, num_samples, decoding, tokenizer=tokenizer, generator=generator)


def _checked_stop(stop_sequences: Sequence[str], tokenizer: Any) -> tuple[str, ...]:
    check_strings(stop_sequences=stop_sequences)
    if stop_sequences and tokenizer is None:
        raise ConfigError(
            f"stop_sequences is {list(stop_sequences)} but there is no tokenizer to decode candidates with: "
            "pass tokenizer=, or leave stop_sequences empty."
        )
    return tuple(stop_sequences)


def _unpadded(model: Any, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """The tokens of each state, (S,)."""
    if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape or not len(input_ids):
        raise DataError(
            f"input_ids has shape {tuple(input_ids.shape)} and attention_mask {tuple(attention_mask.shape)}: "
            "both must be (states, tokens), with at least one state."
        )
    mask = attention_mask.bool()
    begins_late = (mask[:, 1:] & ~mask[:, :-1]).any(1)
    if begins_late.any() and is_encoder_decoder(unwrapped(model)):
        state = int(begins_late.long().argmax())
        raise DataError(f"state {state} of the batch has padding before a token: pad on the right.")
    return [ids[is_token] for ids, is_token in zip(input_ids, mask, strict=True)]
