"""What `generator.export` starts from: a model and its tokenizer, read from a checkpoint or a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from common import ConfigError, DataError, load_tokenizer
from generator.architectures.adapters import Lora, add_lora, check_base
from generator.architectures.decoder_only import build_causal
from generator.architectures.encoder_decoder import build_seq2seq
from generator.data.completion_encoding import CompletionEncoder
from generator.data.dataset import InputLimits
from generator.data.inputs import InputParts, PremiseParts
from generator.data.instruct_dataset import PromptFormat
from generator.training.next_step_generator import CandidateOptions
from retrieval.training.architectures import hub_errors
from retrieval.training.checkpoints import SETTINGS_FILE, is_checkpoint, read_checkpoint, read_settings, read_shards
from retrieval.training.gguf_files import read_config
from retrieval.training.options import check_types, names_of


@dataclass
class Source:
    """A model to export.

    Attributes:
        model: in float32, on the CPU, in evaluation mode
        tokenizer: what `load_tokenizer` returns
        origin: what it was loaded from
        options: the generator's settings of prompting and decoding, as a checkpoint keeps them; none of a Hugging Face
            folder, unless `export` wrote it
        class_name: of the generator that the options are for
    """

    model: Any
    tokenizer: Any
    origin: str
    options: dict[str, Any] = field(default_factory=dict)
    class_name: str = ""

    @property
    def is_encoder_decoder(self) -> bool:
        """Which of transformers' Auto classes loads it."""
        return bool(self.model.config.is_encoder_decoder)

    def begin(self) -> str:
        """What a decoder-only model's tokenizer puts in front of a prompt, as text."""
        if self.is_encoder_decoder or self.tokenizer.eos_token_id is None:
            return ""
        ids = CompletionEncoder(self.tokenizer).prompt_ids([""])[0]
        return "".join(self.tokenizer.convert_ids_to_tokens(ids)) if ids else ""


def load_source(ckpt_path: str | Path) -> Source:
    """Return the model of a checkpoint or folder, with its tokenizer; see `export`."""
    path, name = Path(ckpt_path), str(ckpt_path)
    if path.is_dir() and not (path / "config.json").is_file():
        if (settings := read_settings(path)) is not None:  # of generator.nearest or generator.mix
            raise ConfigError(
                f"{path}: holds a {settings['class']}, and no model to export; load_generator opens it as it is"
            )
        return _from_checkpoint(*read_shards(path), path)
    if is_checkpoint(path):
        checkpoint = read_checkpoint(path)
        return _from_checkpoint(checkpoint, checkpoint["state_dict"], path)
    return _from_hugging_face(name)


def _from_checkpoint(checkpoint: Mapping[str, Any], state_dict: Mapping[str, Tensor], path: Path) -> Source:
    """The model that a checkpoint describes under "generator", with the weights of `state_dict`."""
    saved = checkpoint.get("generator")
    if saved is None:
        what = "a premise retriever" if "retriever" in checkpoint else "no generator of this project"
        raise DataError(f"checkpoint {path}: is of {what}; give one that python -m generator.main fit has written")
    architecture, options = saved["architecture"], dict(saved.get("options", {}))
    lora = Lora.of(options.pop("lora", None))
    if checkpoint.get("hyper_parameters", {}).get("output_bias"):  # of generator.frozen
        raise ConfigError(
            f"checkpoint {path}: its output layer has a bias, which models of transformers have not, so it cannot be "
            "exported; train it with output_bias: false, or load it with generator.load_generator"
        )
    if lora is not None:  # then the checkpoint holds adapters alone, and `architecture` says where the model is
        check_base(path, architecture)
    tokenizer = load_tokenizer(architecture)
    model = _build(architecture, tokenizer).float() if lora is None else _build_adapted(architecture, tokenizer, lora)
    prefix = "generator."
    weights = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    try:
        model.load_state_dict(weights if lora is None else {**model.state_dict(), **weights})
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:400]
        raise DataError(f"checkpoint {path}: its weights do not fit the model that it describes: {reason}") from error
    model = model if lora is None else model.merge_and_unload()
    return Source(model.eval(), tokenizer, str(path), options, str(saved.get("class", "")))


def _build(architecture: Mapping[str, Any], tokenizer: Any) -> Any:
    """A model of the described shape; its weights are to be loaded."""
    is_decoder_only = "transformers_version" in architecture and not architecture.get("is_encoder_decoder", False)
    return build_causal(architecture, tokenizer) if is_decoder_only else build_seq2seq(architecture, tokenizer)


def _build_adapted(model_name: str, tokenizer: Any, lora: Lora) -> Any:
    """A trained model with adapters, whose weights are to be loaded and then added to its own."""
    # whatever it was saved in: a sum in bf16 would lose most of an adapter
    return add_lora(build_causal(model_name, tokenizer, torch.float32), lora)


def _from_hugging_face(name: str) -> Source:
    with hub_errors(name, "model that writes", option="ckpt_path"):
        config: Any = read_config(name)
        if any(str(architecture).endswith("EncoderModel") for architecture in config.architectures or ()):
            raise ConfigError(f"ckpt_path {name!r}: is an encoder, which writes nothing")
        tokenizer = load_tokenizer(name)
        model: Any = build_seq2seq(name) if config.is_encoder_decoder else build_causal(name, tokenizer)
    settings = read_settings(name) or {"options": {}, "class": ""}
    for group in (
        InputLimits,
        InputParts,
        PremiseParts,
        PromptFormat,
        CandidateOptions,
    ):  # which refuse what is out of range
        known = {key: value for key, value in settings["options"].items() if key in names_of(group)}
        check_types(group, known, str(Path(name) / SETTINGS_FILE))
        group(**known)
    return Source(model.eval(), tokenizer, name, settings["options"], settings["class"])
