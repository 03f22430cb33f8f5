"""Decoder-only models from a hub id, a folder, or a description, whose special tokens are those of their tokenizer."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from common import ConfigError, read_architecture
from generator.architectures.traits import check_special_tokens, num_token_ids, positions_of, token_ids
from retrieval.training.architectures import architecture_errors, check_sizes, hub_errors
from retrieval.training.gguf_files import read_config, read_model

_OWN_KEYS = ("tokenizer", "untied")
SPECIAL_TOKENS = ("pad_token_id", "eos_token_id", "bos_token_id")
_EXAMPLE = "deepseek-ai/deepseek-coder-1.3b-base"


def build_causal(
    model_name: str | Path | Mapping[str, Any], tokenizer: Any, dtype: str | torch.dtype = torch.float32
) -> PreTrainedModel:
    """Return a model to fine-tune or to train from scratch.

    Args:
        model_name: a hub id, a folder of `save_pretrained` or a .gguf file (weights are loaded, and dequantised), or an
            architecture: a mapping or YAML file with the `model_type` of transformers ("gpt2", "llama", ...) and its
            configuration's keys (float32 weights are drawn from torch's global generator)
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
            config = architecture_config(architecture, tokenizer_values(tokenizer))
            model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    else:
        model = load_causal(str(model_name), dtype)
    check_vocabulary(model, tokenizer)
    end_with(model, tokenizer.eos_token_id)
    return model


def load_causal(model_name: str | Path, dtype: str | torch.dtype = torch.float32) -> PreTrainedModel:
    """Return the model of a hub id, a folder or a .gguf file, with its weights; see `build_causal`."""
    with hub_errors(model_name, "decoder-only model", example=_EXAMPLE):
        config = load_config(model_name)
        model: PreTrainedModel = read_model(AutoModelForCausalLM, model_name, config=config, dtype=dtype)
        check_special_tokens(model)
    return model


def load_config(model_name: str | Path) -> PreTrainedConfig:
    """Return the configuration of a hub id, a folder or a .gguf file."""
    with hub_errors(model_name, "decoder-only model", example=_EXAMPLE):
        config: PreTrainedConfig = read_config(model_name)
        check_sizes(config.get_text_config(decoder=True))
    return config


def tokenizer_values(tokenizer: Any) -> dict[str, Any]:
    """Return what a tokenizer says of a configuration: the size of the vocabulary, and special tokens."""
    return {"vocab_size": num_token_ids(tokenizer), **{name: getattr(tokenizer, name, None) for name in SPECIAL_TOKENS}}


def architecture_config(architecture: Mapping[str, Any], defaults: Mapping[str, Any]) -> PreTrainedConfig:
    """Return the configuration that an architecture describes.

    Args:
        architecture: see `build_causal`
        defaults: what it need not say, see `tokenizer_values`
    """
    values = {key: value for key, value in architecture.items() if key not in _OWN_KEYS}
    if "model_type" not in values:
        raise ConfigError("an architecture needs model_type, such as gpt2 or llama, beside its configuration's keys")
    if "transformers_version" not in values:  # otherwise a whole configuration, of a checkpoint
        # a model type's own special tokens are those of another tokenizer
        values = {**defaults, **values}
        model_type = str(values["model_type"])
        try:
            known = AutoConfig.for_model(model_type).to_dict()
        except ValueError:
            raise ConfigError(
                f"model_type {model_type!r} is none of transformers'; for example gpt2 or llama"
            ) from None
        unknown = sorted(set(values) - set(known) - {"vocab_size", *SPECIAL_TOKENS})
        if unknown:
            raise ConfigError(
                f"an architecture of {model_type} has no {unknown[0]!r}; it takes {', '.join(sorted(known))}"
            )
    config: PreTrainedConfig = AutoConfig.for_model(**values)
    check_sizes(config.get_text_config(decoder=True))
    return config


def num_positions(model_name: str | Path) -> int | None:
    """Return how many positions the model of a hub id, a folder or a .gguf file has; None is any number."""
    return positions_of(load_config(model_name))


# ------------------------------------------------------------------------------------------------
# Tokens


def check_vocabulary(model: PreTrainedModel, tokenizer: Any) -> None:
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


def end_with(model: PreTrainedModel, eos_id: int | None) -> None:
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
