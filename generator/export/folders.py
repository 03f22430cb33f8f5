"""The folders that `generator.export` writes; what was written is loaded again and compared with the original."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from common import NextstepError
from generator.engines import Decoding
from generator.engines.ctranslate2 import CTranslate2Engine, check_convertible, convert
from generator.engines.native import NativeEngine
from generator.export.source import Source
from retrieval.training.checkpoints import write_settings

Dtype = Literal["float32", "bfloat16", "float16"]

# What the original and the copy are compared on
INPUTS = (
    "p q : Prop\nh : p ∧ q\n⊢ q ∧ p",
    "",
    "⊢ True",
    "<a>Nat.add_comm</a> (n m : ℕ)\n\nn : ℕ\n⊢ n + 0 = n",
    "p : Prop\nh : False\n⊢ p",
    "x y : ℝ\nh : x < y\n⊢ x ≤ y",
    "α : Type\ns t : Set α\n⊢ s ∩ t ⊆ s",
    "n : ℕ\nih : n < 2 ^ n\n⊢ n + 1 < 2 ^ (n + 1)",
)
_TARGET = "exact ⟨h.2, h.1⟩"
MAX_DIFFERENCE = 1e-4  # of float32 logits, relative to the largest where that is above 1
_MAX_TOKENS = 64  # of the greedy outputs that are compared


def write_hugging_face(source: Source, folder: Path, dtype: Dtype) -> float:
    """Write weights, tokenizer and settings for transformers' Auto classes; takes the weights out of `source.model`.

    Args:
        source: what to write
        folder: an empty one
        dtype: of the weights

    Returns:
        The largest difference between the logits of what was written and of the original.

    Raises:
        NextstepError: if what was written does not compute what the original does
    """
    expected = [_logits(source.model, source.tokenizer, text) for text in INPUTS]
    source.tokenizer.save_pretrained(str(folder))
    if source.options:
        write_settings(folder, source.class_name, source.options)
        source.model.generation_config = _generation_config(source)
    source.model.to(getattr(torch, dtype)).save_pretrained(str(folder))
    _write_for_older_versions(source, folder)
    source.model.to("meta")  # no two copies in memory
    _check_tokenizer(source, folder)
    kind: Any = AutoModelForSeq2SeqLM if source.is_encoder_decoder else AutoModelForCausalLM
    model = kind.from_pretrained(str(folder), trust_remote_code=False).eval()
    found = [_logits(model, source.tokenizer, text) for text in INPUTS]
    if not all(torch.isfinite(logits).all() for logits in found):
        raise NextstepError(
            f"the logits in {dtype} are not finite, nothing is written; check the weights, or the dtype"
        )
    difference = max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))
    accepted = MAX_DIFFERENCE * max(1.0, *(float(logits.abs().max()) for logits in expected))
    if dtype == "float32" and difference > accepted:
        raise NextstepError(
            f"the logits of what was written differ by {difference:.1e} from those of {source.origin} (at most "
            f"{accepted:.1e} is accepted), nothing is written; please report this"
        )
    return difference


def _write_for_older_versions(source: Source, folder: Path) -> None:
    """Write the settings so that transformers 4 reads the same model in them as version 5, which wrote them.

    There `tie_word_embeddings` alone tells whether the output layer is the input embedding, and version 5 writes true
    whatever the weights are. A tokenizer's further special tokens have another name, and it drops spaces in front of
    some signs (`mpr ?_` becomes `mpr?_`) unless it is told not to.
    """
    inputs, outputs = source.model.get_input_embeddings(), source.model.get_output_embeddings()
    if outputs is not None and outputs.weight is not inputs.weight:
        _change(folder / "config.json", {"tie_word_embeddings": False})
    _change(folder / "tokenizer_config.json", {"clean_up_tokenization_spaces": False})


def _change(path: Path, changes: Mapping[str, Any]) -> None:
    settings = json.loads(path.read_text(encoding="utf-8")) | changes
    if isinstance(settings.get("extra_special_tokens"), list):
        settings["additional_special_tokens"] = settings.pop("extra_special_tokens")
    path.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _check_tokenizer(source: Source, folder: Path) -> None:
    """Refuse a written tokenizer that gives other ids than the original."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
    for text in INPUTS:
        if tokenizer(text)["input_ids"] != source.tokenizer(text)["input_ids"]:
            raise NextstepError(
                f"the written tokenizer reads {text!r} differently, nothing is written; please report this"
            )


@torch.no_grad()
def _logits(model: Any, tokenizer: Any, text: str) -> Tensor:
    """Logits (T, V) for the target after a text, in float32."""
    limit = getattr(model.config, "max_position_embeddings", None)
    target = tokenizer(_TARGET)["input_ids"]
    if model.config.is_encoder_decoder:
        ids = tokenizer(text)["input_ids"][:limit]
        logits = model(input_ids=torch.tensor([ids]), labels=torch.tensor([target[:limit]])).logits
    else:
        logits = model(input_ids=torch.tensor([(tokenizer(text)["input_ids"] + target)[:limit]])).logits
    rows: Tensor = logits[0].float()
    return rows


def _generation_config(source: Source) -> GenerationConfig:
    """The settings under which `model.generate` finds what the generator finds."""
    config, options = source.model.config, source.options
    settings: dict[str, Any] = {
        "eos_token_id": (config if source.is_encoder_decoder else source.model.generation_config).eos_token_id,
        "pad_token_id": config.pad_token_id,
        "bos_token_id": getattr(config, "bos_token_id", None),
        "do_sample": False,
    }
    if source.is_encoder_decoder:
        settings["decoder_start_token_id"] = config.decoder_start_token_id
    if (num_beams := options.get("num_beams", 1)) > 1:  # else transformers refuses what is for beams
        settings |= {"num_beams": num_beams, "early_stopping": False}
        settings["length_penalty"] = options.get("length_penalty", 0.0)
    if (longest := options.get("max_oup_seq_len", options.get("max_completion_len"))) is not None:
        # max_length counts the start token of a decoder, and the whole prompt where there is no encoder; callers that
        # pass a max_length of their own, as ReProver's README does, replace this one
        settings |= {"max_length": longest + 1} if source.is_encoder_decoder else {"max_new_tokens": longest}
    return GenerationConfig(**settings)


def write_ctranslate2(source: Source, folder: Path, quantization: str) -> float:
    """Write the converted model and the tokenizer for CTranslate2.

    Args:
        source: what to write
        folder: an empty one
        quantization: of the weights, one of `generator.engines.ctranslate2.COMPUTE_TYPES`

    Returns:
        The share of greedy outputs that equal the original's.

    Raises:
        ConfigError: if CTranslate2 cannot run the model
        NextstepError: if what was written in float32 answers otherwise than the original
    """
    check_convertible(source.model)
    source.tokenizer.save_pretrained(str(folder))
    convert(source.model, source.tokenizer, folder, quantization)
    length = 4 * max(len(text) for text in INPUTS)
    converted = CTranslate2Engine.from_folder(folder, source.tokenizer, length, device="cpu")
    greedy = Decoding(max_new_tokens=_MAX_TOKENS)
    found = converted.propose(INPUTS, 1, greedy)
    expected = NativeEngine(source.model, source.tokenizer, length).propose(INPUTS, 1, greedy)
    num_equal = sum(one[0][0] == other[0][0] for one, other in zip(found, expected, strict=True))
    if quantization == "float32" and num_equal < len(INPUTS):
        raise NextstepError(
            f"what was written gives the same greedy output as {source.origin} for only {num_equal} of "
            f"{len(INPUTS)} states, nothing is written; please report this"
        )
    return num_equal / len(INPUTS)
