"""Decoder-only models from a hub id, a folder, or a description, and adapters on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from common import ConfigError, read_architecture
from retrieval.architecture import hub_errors
from retrieval.extras import import_extra

_BYTES = {"vocab_size": 384, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}  # of the byte tokenizer
_OWN_KEYS = ("tokenizer", "untied")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters: the model stays as it is, and so little is trained that one GPU has room for it.

    Source: arXiv:2106.09685.

    Attributes:
        r: rank
        alpha: the adapter's output is scaled by alpha / r
        dropout: of the adapter's input
        target_modules: names of the layers that get one; peft's choice for the model if not given
    """

    r: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    target_modules: Sequence[str] | None = None


def build_causal(
    model_name: str | Path | Mapping[str, Any], dtype: str | torch.dtype = torch.float32
) -> PreTrainedModel:
    """Return a model to fine-tune or to train from scratch.

    Args:
        model_name: a hub id or a folder of `save_pretrained` (weights are loaded), or an architecture: a mapping or
            YAML file with the `model_type` of transformers ("gpt2", "llama", ...) and its configuration's keys, for
            the byte tokenizer if nothing else is said (weights are drawn from torch's global generator)
        dtype: of loaded weights; trained ones are float32, since in bf16 small steps are lost in rounding. "auto" is
            that of the file, for weights that stay as they are

    Raises:
        ConfigError: if there is no such model, it is not decoder-only, or an architecture's key is unknown
    """
    architecture = read_architecture(model_name)
    if architecture is not None:
        return _from_architecture(architecture)
    with hub_errors(model_name, "decoder-only model", example="deepseek-ai/deepseek-coder-1.3b-base"):
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(str(model_name), dtype=dtype)
    return model


def _from_architecture(architecture: dict[str, Any]) -> PreTrainedModel:
    values = {key: value for key, value in architecture.items() if key not in _OWN_KEYS}
    if "model_type" not in values:
        raise ConfigError("an architecture needs model_type, such as gpt2 or llama, beside its configuration's keys")
    if "transformers_version" not in values:  # otherwise a whole configuration, of a checkpoint
        values = {**(_BYTES if architecture.get("tokenizer", "bytes") == "bytes" else {}), **values}
        model_type = str(values["model_type"])
        try:
            known = AutoConfig.for_model(model_type).to_dict()
        except ValueError:
            raise ConfigError(
                f"model_type {model_type!r} is none of transformers'; for example gpt2 or llama"
            ) from None
        unknown = sorted(set(values) - set(known) - set(_BYTES))
        if unknown:
            raise ConfigError(
                f"an architecture of {model_type} has no {unknown[0]!r}; it takes {', '.join(sorted(known))}"
            )
    model: PreTrainedModel = AutoModelForCausalLM.from_config(AutoConfig.for_model(**values))
    return model


def add_lora(model: PreTrainedModel, lora: Lora) -> Any:
    """Return the model with adapters, the only weights that are trained.

    Raises:
        ConfigError: if peft is not installed, or does not know which layers to adapt
    """
    peft = import_extra("peft", "lora", "lora")
    options: dict[str, Any] = {"r": lora.r, "lora_alpha": lora.alpha, "lora_dropout": lora.dropout}
    if lora.target_modules is not None:
        options["target_modules"] = list(lora.target_modules)
    try:
        return peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **options))
    except ValueError as error:
        layers = sorted({name.rpartition(".")[2] for name, layer in model.named_modules() if hasattr(layer, "weight")})
        raise ConfigError(f"lora: {error}; set lora.target_modules to some of {', '.join(layers)}") from error


def adapter_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the adapters' part of a state dict."""
    return {name: weight for name, weight in state.items() if "lora_" in name}
