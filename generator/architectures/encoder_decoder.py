"""Encoder-decoder models from a hub id, a folder, or a description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM, PreTrainedConfig, PreTrainedModel
from transformers import T5ForConditionalGeneration as T5

from common import load_tokenizer, read_architecture
from generator.architectures.traits import check_special_tokens
from retrieval.training.architectures import (
    architecture_errors,
    check_sizes,
    fuse_activations,
    hub_errors,
    spread_position_biases,
    t5_config,
)
from retrieval.training.architectures import describe as describe_config
from retrieval.training.gguf_files import read_config, read_model

_OWN_KEYS = ("tokenizer", "untied")


def build_seq2seq(model_name: str | Path | Mapping[str, Any], tokenizer: Any = None) -> PreTrainedModel:
    """Return a model to fine-tune or to train from scratch.

    Args:
        model_name: a hub id or a folder of `save_pretrained` (weights are loaded), or an architecture: a
            mapping or a YAML file with T5Config's keys, ByT5's shape by default (weights are drawn from
            torch's global generator), or what `describe` returned
        tokenizer: of the model, by default the one that model_name names; what an architecture does not say of the
            vocabulary and of special tokens, it says

    Raises:
        ConfigError: if there is no such model, it is no encoder-decoder, an architecture's key is unknown, or the
            tokenizer has more tokens than the model
    """
    architecture = read_architecture(model_name)
    if architecture is not None:
        with architecture_errors():
            return fuse_activations(_from_architecture(architecture, tokenizer))
    with hub_errors(model_name, "encoder-decoder model"):
        config = read_config(str(model_name))
        check_sizes(config)
        # weights in bf16 would not move under a small learning rate
        model: PreTrainedModel = read_model(AutoModelForSeq2SeqLM, str(model_name), config=config, dtype=torch.float32)
        check_special_tokens(model)
    return fuse_activations(model)


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """Return plain values from which `build_seq2seq` makes a model that the state dict fits."""
    return {**describe_config(model), "untied": not _is_tied(model)}


def _from_architecture(architecture: dict[str, Any], tokenizer: Any) -> PreTrainedModel:
    untied = bool(architecture.get("untied", False))
    values = {k: v for k, v in architecture.items() if k not in _OWN_KEYS}
    if "transformers_version" in values:  # a whole configuration, written by describe
        config: PreTrainedConfig = AutoConfig.for_model(**values)
        check_sizes(config)
        model: PreTrainedModel = AutoModelForSeq2SeqLM.from_config(config)
    else:
        model = T5(t5_config(values, load_tokenizer(architecture) if tokenizer is None else tokenizer))
        spread_position_biases(model)
    if untied:
        # a tied parameter would receive the input embedding's weights and then the output layer's
        model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
    return model


def _is_tied(model: PreTrainedModel) -> bool:
    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    return outputs is None or outputs.weight is inputs.weight
