"""What models from a hub id, a folder, or a description have in common."""

from __future__ import annotations

import difflib
import pickle
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    PreTrainedModel,
    T5Config,
)
from transformers.activations import NewGELUActivation

from common import ByteTokenizer, ConfigError, DataError, NextstepError

# What makes a T5 a ByT5; sizes are those of a model that trains on a laptop's CPU.
BYT5: dict[str, Any] = {
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
_MAX_LAYERS = 1000
ARCHITECTURE_KEYS = ("tokenizer",)
_SIZES = ("d_model", "d_kv", "d_ff", "num_heads", "num_layers", "num_decoder_layers", "vocab_size")


@contextmanager
def hub_errors(
    model_name: str | Path | Mapping[str, Any],
    kind: str,
    example: str = "google/byt5-small",
    option: str = "model_name",
) -> Iterator[None]:
    """Turn what transformers raises for a name or a folder that it cannot load into one line.

    What other programs wrote into a folder can end in any exception of theirs.

    Args:
        model_name: what is loaded
        kind: of model that is wanted
        example: a hub id of one
        option: that names it

    Raises:
        ConfigError: if there is no such model, or it is none of this kind
        DataError: if the files of a folder are broken
    """
    try:
        yield
    except (NextstepError, torch.OutOfMemoryError, NameError, AssertionError):  # not to be explained by the files
        raise
    except Exception as error:
        where = f"{option} {str(model_name)!r} cannot be loaded: "
        reason = reason_of(error)
        if isinstance(error, SafetensorError):
            raise DataError(f"{where}its weights are truncated or broken ({reason}); copy the folder again") from error
        if _is_pickled(error, model_name):
            raise DataError(
                f"{where}its weights are pickled in a way that may not be read, as it could run code; convert them to "
                "safetensors where they come from (load the model there and save_pretrained it again)"
            ) from error
        if not isinstance(error, OSError | ValueError):
            raise DataError(f"{where}{reason}; its files are broken, or of another version of transformers") from error
        if "Unrecognized configuration class" in reason:
            reason = f"it is no {kind}."
        raise ConfigError(
            f"{where}{reason} Give a hub id such as {example}, a folder of save_pretrained, or an architecture to "
            "train from scratch"
        ) from error


def check_sizes(config: Any) -> None:
    """Raise ValueError for a model without layers or positions, with layers without end, or with odd dropout."""
    most = {"num_hidden_layers": _MAX_LAYERS, "num_decoder_layers": _MAX_LAYERS, "max_position_embeddings": 2**31}
    for name, limit in most.items():
        value = getattr(config, name, None)
        if value is not None and not (type(value) is int and 0 < value <= limit):
            raise ValueError(f"{name} is {value!r}; it must be a whole number from 1 to {limit}.")
    for name, value in vars(config).items():
        if "drop" in name and isinstance(value, float) and not 0 <= value <= 1:
            raise ValueError(f"{name} is {value!r}; it must be a probability from 0 to 1.")


def reason_of(error: BaseException) -> str:
    """Return in one line what is wrong; what is not meant for users begins with the kind of the error."""
    lines = str(error).strip().splitlines() or [""]
    if isinstance(error, OSError | SafetensorError) or type(error) is ValueError:
        return lines[0].strip() or type(error).__name__
    return f"{type(error).__name__}: {' '.join(' '.join(lines).split())[:300]}"


def _is_pickled(error: BaseException | None, model_name: object) -> bool:
    """Whether it was a file of torch.load that failed."""
    if isinstance(model_name, Mapping) or not list(Path(str(model_name)).glob("*.bin")):
        return False
    while error is not None:
        if isinstance(error, pickle.UnpicklingError) or re.search(r"weights_only|torch\.load|zip archive", str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def architecture_errors() -> Iterator[None]:
    """Turn what transformers and torch raise for an architecture's values into one line.

    Raises:
        ConfigError: in place of whatever they raise
    """
    try:
        yield
    except (NextstepError, torch.OutOfMemoryError, NameError, AssertionError):  # not to be explained by the files
        raise
    except Exception as error:
        raise ConfigError(
            f"model_name: the values of the architecture make no model: {reason_of(error)}; compare them with the "
            "configuration of a model of the same model_type"
        ) from error


def t5_config(values: Mapping[str, Any], tokenizer: Any) -> T5Config:
    """Return the configuration of a T5 to train from scratch, ByT5's where `values` do not say otherwise.

    Args:
        values: keys of an architecture
        tokenizer: of the model, which says what `values` do not of the vocabulary and of special tokens

    Raises:
        ConfigError: for an unknown key, with the nearest known one, a size that is no positive integer, or a vocabulary
            that is too small for the tokenizer
    """
    known = set(T5Config().to_dict()) | set(BYT5) | set(ARCHITECTURE_KEYS)
    for key in values:
        if key not in known:
            nearest = difflib.get_close_matches(key, sorted(known), n=1)
            hint = f"; did you mean {nearest[0]}?" if nearest else ""
            raise ConfigError(f"model_name: an architecture has no key {key!r}{hint}")
    for key in _SIZES:
        if values.get(key) is not None and not (isinstance(values[key], int) and values[key] > 0):
            raise ConfigError(f"model_name: {key} is {values[key]!r}; it must be a whole number above 0")
    told = _told_by(tokenizer)
    config = T5Config(**{**BYT5, **told, **values})
    check_sizes(config)
    if config.vocab_size < (size := num_token_ids(tokenizer)):
        raise ConfigError(
            f"model_name: vocab_size is {config.vocab_size:,}, but the tokenizer has {size:,} tokens; leave it out"
        )
    return config


def _told_by(tokenizer: Any) -> dict[str, Any]:
    """The keys of an architecture that follow from a tokenizer; a target begins with BOS, or PAD if there is none."""
    size = num_token_ids(tokenizer)
    if isinstance(tokenizer, ByteTokenizer):
        return {"vocab_size": max(size, BYT5["vocab_size"])}
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if pad is None or eos is None:
        raise ConfigError(
            "model_name: the tokenizer has no EOS or no padding token, which texts end with and are filled up with; "
            "set them (tokenizer.pad_token = ...) and save it again"
        )
    start = pad if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    return {"vocab_size": size, "pad_token_id": pad, "eos_token_id": eos, "decoder_start_token_id": start}


def num_token_ids(tokenizer: Any) -> int:
    """Return how many embeddings a tokenizer needs: one more than its largest id, as vocabularies may have holes."""
    return 1 + int(max(tokenizer.get_vocab().values())) if hasattr(tokenizer, "get_vocab") else len(tokenizer)


@torch.no_grad()
def spread_position_biases(model: PreTrainedModel) -> None:
    """Let the heads of a new T5 look at different distances from the start.

    As transformers draws these biases, attention starts as an average over all positions, and learning to
    read a place takes a small model thousands of steps. With a spread of 2 each head prefers some distances
    (tests/benchmarks/learning.py --variants pool20 plain_bias compares).
    """
    for name, parameter in model.named_parameters():
        if name.endswith("relative_attention_bias.weight"):
            parameter.normal_(std=2.0)


def describe(model: PreTrainedModel) -> dict[str, Any]:
    """Return plain values from which `build_encoder` makes a model that the state dict fits."""
    return {key: value for key, value in model.config.to_dict().items() if is_plain(value)}


def is_plain(value: Any) -> bool:
    """Whether a value is stored in a checkpoint without pickling a class."""
    if isinstance(value, list):
        return all(is_plain(v) for v in value)
    if isinstance(value, dict):  # rotary positions have their base and scaling in one
        return all(isinstance(key, str) and is_plain(v) for key, v in value.items())
    return value is None or isinstance(value, str | int | float | bool)


def fuse_activations(model: PreTrainedModel) -> PreTrainedModel:
    """Replace transformers' gelu_new, eight operations with a cube, by torch's one; the values are the same."""
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, NewGELUActivation):
                setattr(module, name, torch.nn.GELU(approximate="tanh"))
    return model


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Let a model recompute its activations in the backward pass: less memory, a third slower."""
    enable = getattr(model, "activation_checkpointing_enable", None)  # transformers 5.20 and later
    (enable or model.gradient_checkpointing_enable)()
