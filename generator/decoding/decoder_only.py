"""Beam search and sampling for decoder-only models, on the live model.

Same candidates and scores as `transformers.generate`; a prompt is encoded and stored once for all candidates of a
state instead of once each (see `generator.decoding.causal_decoder`).
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from common import DataError
from generator.architectures.traits import token_ids, unwrapped
from generator.decoding import beams, sampling
from generator.decoding.causal_decoder import CausalDecoder, check_model
from generator.decoding.encoder_decoder import Decoded
from generator.decoding.stopping import StopStrings


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
    """The best continuations of each prompt, best first, as `transformers.generate(early_stopping=False)` finds them.

    Ranking, ends and limits are those of `generator.decoding.beam_search`; lengths count new tokens only. A beam
    whose text contains one of `stop_sequences` is finished just as by EOS, with the log-probability that it has.

    Dropout is off and nothing of the model is changed, whatever its mode; autocast is respected.

    Args:
        model: what AutoModelForCausalLM loads, with attention sdpa or eager; see `check_model`.
        input_ids: (B, S) token ids of the prompts, padded on either side.
        attention_mask: (B, S), 1 on tokens and 0 on padding. A prompt without tokens starts from BOS.
        num_beams: hypotheses kept at each step.
        num_return_sequences: candidates to return for each state, at most `num_beams`.
        max_new_tokens: the most tokens of a candidate, EOS included.
        length_penalty: exponent of the length that the sum is divided by for ranking.
        stop_sequences: texts that end a candidate, which keeps the tokens that wrote them.
        tokenizer: what decodes candidates; needed with `stop_sequences`.

    Returns:
        The candidates without their prompts; fewer than asked for exist where the vocabulary is small.

    Raises:
        ConfigError: for an option out of range.
        DataError: for a prompt without tokens where the model has no BOS, or beyond the model's context.
        TypeError: for a model whose candidates cannot share a prompt.
        NaNLogitsError: when logits are NaN; names the state.
    """
    stop = StopStrings(stop_sequences, tokenizer) if stop_sequences else None
    settings = beams.BeamSettings(num_beams, num_return_sequences, max_new_tokens, length_penalty, stop)
    return _decode(
        model,
        input_ids,
        attention_mask,
        num_beams,
        max_new_tokens,
        lambda decoder: beams.search(decoder, settings),
    )


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
    """Independent continuations of each prompt, in the order drawn, duplicates included.

    Seeds and log-probabilities are those of `generator.decoding.sample`: a batch draws what the same states would
    one call at a time, and `log_probs` are the model's own (temperature 1, nothing filtered).

    Args:
        model: what AutoModelForCausalLM loads, with attention sdpa or eager; see `check_model`.
        input_ids: (B, S) token ids of the prompts, padded on either side.
        attention_mask: (B, S), 1 on tokens and 0 on padding. A prompt without tokens starts from BOS.
        num_samples: samples of each state.
        max_new_tokens: the most tokens of a sample, EOS included; a longer one is cut there.
        temperature: divides the logits; below 1 sharpens.
        top_k: draw from the k likeliest tokens only; 0 is no limit.
        top_p: draw from the likeliest tokens that together reach this probability; 1 is no limit.
        generator: CPU generator that seeds the draws; None uses torch's default one.
        stop_sequences: texts that end a sample, which keeps the tokens that wrote them.
        tokenizer: what decodes samples; needed with `stop_sequences`.

    Returns:
        The samples without their prompts.

    Raises:
        ConfigError: for an option out of range.
        DataError: for a prompt without tokens where the model has no BOS, or beyond the model's context.
        TypeError: for a model whose candidates cannot share a prompt.
        NaNLogitsError: when logits are NaN; names the state.
    """
    stop = StopStrings(stop_sequences, tokenizer) if stop_sequences else None
    settings = sampling.SamplingSettings(num_samples, max_new_tokens, temperature, top_k, top_p, stop)
    seeds = sampling.draw_seeds(len(input_ids), generator)
    return _decode(
        model,
        input_ids,
        attention_mask,
        num_samples,
        max_new_tokens,
        lambda decoder: sampling.draw(decoder, settings, seeds),
    )


def _decode(
    model: Any,
    input_ids: Tensor,
    attention_mask: Tensor,
    num_rows: int,
    max_new_tokens: int,
    method: Callable[[CausalDecoder], tuple[Tensor, Tensor]],
) -> Decoded:
    """Reads the prompts and runs the method on them."""
    check_model(model)
    model = unwrapped(model)
    prompts = _prompts(model, input_ids, attention_mask)
    _check_context(model, [len(prompt) for prompt in prompts], max_new_tokens)
    # no_grad and not inference_mode: a model may keep tensors of a call (rotary tables), which training then uses
    with torch.no_grad(), _evaluation_mode(model):
        return Decoded(*method(CausalDecoder(model, prompts, num_rows, max_new_tokens)))


def _prompts(model: Any, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """The tokens of each prompt, (S,), without padding."""
    if input_ids.ndim != 2 or input_ids.shape != attention_mask.shape or not len(input_ids):
        raise DataError(
            f"input_ids has shape {tuple(input_ids.shape)} and attention_mask {tuple(attention_mask.shape)}: "
            "both must be (states, tokens), with at least one state."
        )
    prompts = [row[mask] for row, mask in zip(input_ids, attention_mask.bool(), strict=True)]
    bos = token_ids(model, "bos_token_id")
    for state, prompt in enumerate(prompts):
        if not len(prompt):
            if not bos:
                raise DataError(
                    f"state {state} of the batch has no token and the model no BOS token to start from: "
                    "give every prompt at least one token."
                )
            prompts[state] = input_ids.new_tensor(bos[:1])
    return prompts


def _check_context(model: Any, lengths: Sequence[int], max_new_tokens: int) -> None:
    config = model.config.get_text_config(decoder=True)
    limit = getattr(config, "max_position_embeddings", None)
    if (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "dynamic":
        return  # made to be exceeded
    # the last token written is never read
    if limit is not None and max(lengths) + max_new_tokens - 1 > limit:
        state = max(range(len(lengths)), key=lengths.__getitem__)
        raise DataError(
            f"state {state} of the batch has {lengths[state]} tokens and max_new_tokens is {max_new_tokens}: "
            f"the model's context is {limit} tokens. Shorten the prompt or write fewer tokens."
        )


@contextlib.contextmanager
def _evaluation_mode(model: Any) -> Iterator[None]:
    """Evaluation mode, and afterwards each module in the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
