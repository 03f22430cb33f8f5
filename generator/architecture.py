"""Encoder-decoder models from a hub id, a folder, or a description."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel, T5Config
from transformers import T5ForConditionalGeneration as T5
from transformers.activations import NewGELUActivation

from common import ConfigError, read_architecture

# What makes a T5 a ByT5; sizes are those of a model that trains on a laptop's CPU.
_BYT5: dict[str, Any] = {
    "vocab_size": 384,
    "feed_forward_proj": "gated-gelu",
    "decoder_start_token_id": 0,
    "d_model": 256,
    "d_kv": 64,
    "d_ff": 512,
    "num_heads": 4,
    "num_layers": 4,
    "num_decoder_layers": 2,
    "dropout_rate": 0.1,
}
_OWN_KEYS = ("tokenizer", "untied")


def build_seq2seq(model_name: str | Path | Mapping[str, Any]) -> PreTrainedModel:
    """Return a model to fine-tune or to train from scratch.

    Args:
        model_name: a hub id or a folder of `save_pretrained` (weights are loaded), or an architecture: a
            mapping or a YAML file with T5Config's keys, ByT5's shape by default (weights are drawn from
            torch's global generator), or what `describe` returned

    Raises:
        ConfigError: if there is no such model, it is no encoder-decoder, or an architecture's key is unknown
    """
    architecture = read_architecture(model_name)
    if architecture is not None:
        return fuse_activations(_from_architecture(architecture))
    try:
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_pretrained(str(model_name))
    except (OSError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        if "Unrecognized configuration class" in reason:
            reason = "it is no encoder-decoder model."
        raise ConfigError(
            f"model_name {str(model_name)!r} cannot be loaded: {reason} Give a hub id such as "
            "google/byt5-small, a folder of save_pretrained, or an architecture to train from scratch"
        ) from error
    return fuse_activations(model)


def fuse_activations(model: PreTrainedModel) -> PreTrainedModel:
    """Replace transformers' gelu_new, eight operations with a cube, by torch's one; the values are the same.

    A training step of a small ByT5 on a CPU takes NUM% less time (tests/benchmarks/training.py).
    """
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
    return model


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """Return plain values from which `build_seq2seq` makes a model that the state dict fits."""
    config = {k: v for k, v in model.config.to_dict().items() if _is_plain(v)}
    return {**config, "untied": not _is_tied(model)}


def _from_architecture(architecture: dict[str, Any]) -> PreTrainedModel:
    untied = bool(architecture.get("untied", False))
    values = {k: v for k, v in architecture.items() if k not in _OWN_KEYS}
    if "transformers_version" in values:  # a whole configuration, written by describe
        config: PreTrainedConfig = AutoConfig.for_model(**values)
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)
    else:
        _check_keys(values)
        model = T5(T5Config(**{**_BYT5, **values}))
    if untied:
        # a tied parameter would receive the input embedding's weights and then the output layer's
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def _check_keys(values: Mapping[str, Any]) -> None:
    known = set(T5Config().to_dict()) | set(_BYT5) | set(_OWN_KEYS)
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ConfigError(f"model_name: an architecture has no key {key!r}{hint}")
    for key in ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers", "vocab_size"):
        if values.get(key) is not None and not (isinstance(values[key], int) and values[key] > 0):
            raise ConfigError(f"model_name: {key} is {values[key]!r}; it must be a whole number above 0")


def _is_tied(model: PreTrainedModel) -> bool:
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    return outputs is None or outputs.weight is inputs.weight


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(v) for v in value)
    return value is None or isinstance(value, str | int | float | bool)
