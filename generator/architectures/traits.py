"""What a model of transformers can do, and which tokens mean what to it.

Nothing here builds or changes a model: training, decoding and packing ask before they rely on something.
"""

from __future__ import annotations

import inspect
from typing import Any

from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from common import DataError
from retrieval.training.architectures import num_token_ids as num_token_ids

ATTENTIONS = ("eager", "sdpa")


def reason_against_masks(model: Any) -> str | None:
    """Why a mask for each query, with positions, does not say all that a query sees, or None.

    Of the decoder-only models of transformers 5.23 that could be built tiny, 103 pass and find what generate finds.
    """
    attention = getattr(model.config, "_attn_implementation", None)
    if attention not in ATTENTIONS:
        return (
            f"runs attention {attention!r}, which takes no mask for each query (load it with "
            "attn_implementation='sdpa' or 'eager')"
        )
    config = model.config.get_text_config(decoder=True)
    if not any(base.__module__.startswith("transformers.models.") for base in type(model).__mro__):
        return "is not one of transformers' own models, so how it treats masks and positions is unknown"
    parameters = inspect.signature(model.forward).parameters
    for needed in ("attention_mask", "position_ids", "past_key_values", "logits_to_keep"):
        if needed not in parameters:
            return f"has no argument {needed}"
    for layer in DynamicCache(config=model.config).layers:
        if type(layer) not in (DynamicLayer, DynamicSlidingWindowLayer):
            return f"keeps a {type(layer).__name__} instead of keys and values"
    if getattr(config, "attention_chunk_size", None) is not None:
        return "attends within chunks"
    if getattr(config, "alibi", False) or "local" in getattr(config, "attention_layers", ()):
        return "reads distances off the order of its keys"
    return None


def unwrapped(model: Any) -> Any:
    """The model itself, without torch.compile's or peft's shell; adapters live in its layers.

    Raises:
        TypeError: for an adapter that lives in the prompt.
    """
    model = getattr(model, "_orig_mod", model)
    if not hasattr(model, "get_base_model"):
        return model
    if getattr(model.active_peft_config, "is_prompt_learning", False):
        raise TypeError(
            f"{type(model).__name__} puts learned tokens before the prompt, which are not handled here: "
            "use the transformers engine."
        )
    return model.get_base_model()


def is_encoder_decoder(model: Any) -> bool:
    """Whether the model reads its input apart from what it writes, and does not go on with it."""
    return bool(getattr(getattr(model, "config", None), "is_encoder_decoder", False))


def num_layers(config: Any) -> int:
    """Layers that keep keys and values."""
    return len(DynamicCache(config=config).layers)


def attention_windows(config: Any, max_length: int) -> dict[str, int | None]:
    """How far back each type of layer sees, in tokens; None is everything.

    Args:
        config: of the model.
        max_length: tokens of the longest prompt and of what will be written; a longer window is no limit.

    Returns:
        One entry, or one for full and one for sliding attention, named as in `config.layer_types`.
    """
    windows: dict[str, int | None] = {}
    for layer in DynamicCache(config=config).layers:
        window = getattr(layer, "sliding_window", None)
        windows["full_attention" if window is None else "sliding_attention"] = window
    if all(window is None or window >= max_length for window in windows.values()):
        return {"full_attention": None}
    return windows


def token_ids(model: Any, name: str) -> list[int]:
    """The tokens that the model's generation settings and its config give a meaning, without unknown ids.

    All of them, because settings that were changed in one place only would let candidates run on.
    """
    vocabulary = int(model.get_input_embeddings().weight.shape[0])
    found: list[int] = []
    for source in (getattr(model, "generation_config", None), model.config):
        value = getattr(source, name, None)
        ids = list(value) if isinstance(value, list | tuple) else [] if value is None else [value]
        if not all(type(token) is int for token in ids):
            raise DataError(
                f"{name} of the model's settings is {value!r}; it must be the number of a token, or several"
            )
        found += ids
    return [token for token in dict.fromkeys(found) if 0 <= token < vocabulary]


def check_special_tokens(model: Any) -> None:
    """Raise ValueError if the settings of a loaded model give a special token a number that is none."""
    for source in (model.config, getattr(model, "generation_config", None)):
        for name in ("eos_token_id", "pad_token_id", "bos_token_id", "decoder_start_token_id"):
            value = getattr(source, name, None)
            ids = value if name == "eos_token_id" and isinstance(value, list | tuple) else [value]
            if not all(token is None or type(token) is int for token in ids) or (None in ids and len(ids) > 1):
                raise ValueError(f"{name} is {str(value)[:60]}; it must be the number of a token.")


def positions_of(config: Any) -> int | None:
    """Return how many positions a configuration has; None is any number."""
    config = config.get_text_config(decoder=True)
    is_dynamic = (getattr(config, "rope_parameters", None) or {}).get("rope_type") == "dynamic"
    return None if is_dynamic else getattr(config, "max_position_embeddings", None)
