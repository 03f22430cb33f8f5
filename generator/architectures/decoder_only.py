"""Decoder-only models from a hub id, a folder, or a description, whose special tokens are those of their tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from common import ConfigError, read_architecture
from generator.architectures.traits import check_special_tokens, num_token_ids, positions_of, token_ids
from retrieval.training.architectures import architecture_errors, check_sizes, hub_errors

_OWN_KEYS = ("tokenizer", "untied")
_SPECIAL = ("pad_token_id", "eos_token_id", "bos_token_id")
_EXAMPLE = "deepseek-ai/deepseek-coder-1.3b-base"


def build_causal(
    model_name: str | Path | Mapping[str, Any], tokenizer: Any, dtype: str | torch.dtype = torch.float32
) -> PreTrainedModel:
    """Return a model to fine-tune or to train from scratch.

    Args:
        model_name: a hub id or a folder of `save_pretrained` (weights are loaded), or an architecture: a mapping or
            YAML file with the `model_type` of transformers ("gpt2", "llama", ...) and its configuration's keys
            (float32 weights are drawn from torch's global generator)
        tokenizer: of the model; what an architecture does not say of the vocabulary and of special tokens, it says.
            Its EOS, with which completions are trained to end, ends what the model writes, whatever else does
        dtype: of loaded weights; trained ones are float32, since in bf16 small steps are lost in rounding. "auto" is
            that of the file, for weights that stay as they are

    Raises:
        ConfigError: if there is no such model, it is not decoder-only, an architecture's key is unknown, or the
            tokenizer has more tokens than the model
    """
    architecture = read_architecture(model_name)
    if architecture is not None:
        with architecture_errors():
            model = _from_architecture(architecture, tokenizer)
    else:
        with hub_errors(model_name, "decoder-only model", example=_EXAMPLE):
            config = AutoConfig.from_pretrained(str(model_name), trust_remote_code=False)
            check_sizes(config.get_text_config(decoder=True))
            options: Any = {"config": config, "dtype": dtype}
            model = AutoModelForCausalLM.from_pretrained(str(model_name), **options, trust_remote_code=False)
            check_special_tokens(model)
    _check_vocabulary(model, tokenizer)
    _end_with(model, tokenizer.eos_token_id)
    return model


def _from_architecture(architecture: dict[str, Any], tokenizer: Any) -> PreTrainedModel:
    values = {key: value for key, value in architecture.items() if key not in _OWN_KEYS}
    if "model_type" not in values:
        raise ConfigError("an architecture needs model_type, such as gpt2 or llama, beside its configuration's keys")
    if "transformers_version" not in values:  # otherwise a whole configuration, of a checkpoint
        # a model type's own special tokens are those of another tokenizer
        special = {name: getattr(tokenizer, name, None) for name in _SPECIAL}
        values = {"vocab_size": num_token_ids(tokenizer), **special, **values}
        model_type = str(values["model_type"])
        try:
            known = AutoConfig.for_model(model_type).to_dict()
        except ValueError:
            raise ConfigError(
                f"model_type {model_type!r} is none of transformers'; for example gpt2 or llama"
            ) from None
        unknown = sorted(set(values) - set(known) - {"vocab_size", *_SPECIAL})
        if unknown:
            raise ConfigError(
                f"an architecture of {model_type} has no {unknown[0]!r}; it takes {', '.join(sorted(known))}"
            )
    config = AutoConfig.for_model(**values)
    check_sizes(config.get_text_config(decoder=True))
    model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model


def num_positions(model_name: str | Path) -> int | None:
    """Return how many positions the model of a hub id or folder has; None is any number."""
    with hub_errors(model_name, "decoder-only model", example=_EXAMPLE):
        return positions_of(AutoConfig.from_pretrained(str(model_name), trust_remote_code=False))


# ------------------------------------------------------------------------------------------------
# Tokens


def _check_vocabulary(model: PreTrainedModel, tokenizer: Any) -> None:
    """Raise ConfigError if the tokenizer gives ids that the model has no embedding for, or none at all."""
    if not tokenizer("p : Prop", add_special_tokens=False)["input_ids"]:
        raise ConfigError("the tokenizer reads nothing of a text; its vocabulary is missing, so copy the folder again")
    embedding: Any = model.get_input_embeddings()
    size, num_ids = int(embedding.weight.shape[0]), num_token_ids(tokenizer)
    if num_ids > size:
        raise ConfigError(
            f"the tokenizer has {num_ids:,} tokens, but the model's vocabulary is {size:,}; leave vocab_size out of an "
            "architecture, give a trained model its own tokenizer, or resize its embeddings (transformers' "
            "resize_token_embeddings) and save both together"
        )


def _end_with(model: PreTrainedModel, eos_id: int | None) -> None:
    """Let a token end what the model writes, beside those that do so already.

    It stands in the generation settings, which decoding reads here, in transformers and in vLLM, and in the
    configuration, which checkpoints keep.
    """
    ends = list(dict.fromkeys([*([] if eos_id is None else [eos_id]), *token_ids(model, "eos_token_id")]))
    if not ends:
        return
    value = ends if len(ends) > 1 else ends[0]
    settings = model.generation_config
    assert settings is not None, "every model of AutoModelForCausalLM generates"
    settings.eos_token_id = value
    with contextlib.suppress(StrictDataclassError):  # a few configurations have room for one token only
        model.config.eos_token_id = value
