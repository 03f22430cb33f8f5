"""Trained models as folders for other programs: `python -m generator.export --ckpt_path ... --output_dir ...`.

A Hugging Face folder loads with transformers' Auto classes alone, a CTranslate2 folder with CTranslate2. What was
written is loaded again and compared with the model that it was made from before the folder gets its name.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

from common import ConfigError, DataError, NextstepError, check_choice, load_tokenizer
from generator.architectures.adapters import Lora, add_lora, check_base
from generator.architectures.decoder_only import build_causal
from generator.architectures.encoder_decoder import build_seq2seq
from generator.data.completion_encoding import CompletionEncoder
from generator.engines import Decoding
from generator.engines.ctranslate2 import (
    COMPUTE_TYPES,
    CTranslate2Engine,
    check_convertible,
    convert,
    import_ctranslate2,
)
from generator.engines.native import NativeEngine
from generator.model_card import model_card
from retrieval.training.checkpoints import read_checkpoint, read_settings, read_shards, write_settings
from retrieval.training.cli import run

Format = Literal["hf", "ctranslate2"]
Dtype = Literal["float32", "bfloat16", "float16"]

# What the original and the copy are compared on.
_INPUTS = (
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
_MAX_DIFFERENCE = 1e-4  # of float32 logits, relative to the largest where that is above 1
_MAX_TOKENS = 64  # of the greedy outputs that are compared


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


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it agrees with the original.

    Attributes:
        output_dir: the folder
        num_parameters: of the model
        max_difference: largest difference of logits; None for CTranslate2
        agreement: share of equal greedy outputs; None for Hugging Face
    """

    output_dir: Path
    num_parameters: int
    max_difference: float | None = None
    agreement: float | None = None


def export(
    ckpt_path: str | Path,
    output_dir: str | Path,
    format: Format = "hf",
    dtype: Dtype = "float32",
    quantization: str | None = None,
) -> Exported:
    """Write a trained model as a folder that other programs load.

    Args:
        ckpt_path: a Lightning checkpoint of a generator, a checkpoint folder of DeepSpeed, or a Hugging Face folder or
            hub id
        output_dir: a folder that is empty or does not exist
        format: "hf" or "ctranslate2"
        dtype: of the weights
        quantization: of the weights of "ctranslate2", such as int8, instead of dtype

    Raises:
        ConfigError: for an option that cannot be used, or a package that is not installed
        DataError: if the checkpoint is missing or broken, or output_dir cannot be written
        NextstepError: if what was written does not compute what the original does
    """
    check_choice("format", format, get_args(Format))
    check_choice("dtype", dtype, get_args(Dtype))
    if format == "ctranslate2":
        import_ctranslate2()
        check_choice("quantization", quantization or dtype, COMPUTE_TYPES)
    elif quantization is not None:
        raise ConfigError(f"quantization is {quantization!r}, which needs format ctranslate2; for hf give a dtype")
    with _staging(Path(output_dir).resolve()) as folder:
        source = load_source(ckpt_path)
        num_parameters = sum(parameter.numel() for parameter in source.model.parameters())
        with _writing(output_dir):
            difference, agreement = _write(source, folder, format, dtype, quantization)
            card = model_card(
                Path(output_dir).resolve().name,
                source.model.config,
                origin=Path(source.origin).name,
                num_parameters=num_parameters,
                weights=quantization or dtype,
                library="transformers" if format == "hf" else "ctranslate2",
                options=source.options,
                begin=source.begin(),
            )
            (folder / "README.md").write_text(card, encoding="utf-8")
    return Exported(Path(output_dir), num_parameters, difference, agreement)


@contextlib.contextmanager
def _staging(output_dir: Path) -> Iterator[Path]:
    """A folder beside the output that gets its name when all went well, and else is removed."""
    part = output_dir.with_name(output_dir.name + ".part")
    with _writing(output_dir):
        if output_dir.exists() and (not output_dir.is_dir() or any(output_dir.iterdir())):
            raise ConfigError(f"output_dir {output_dir} exists and is not empty; give a new folder, or remove it")
        try:
            part.mkdir(parents=True)
        except FileExistsError:
            raise ConfigError(f"{part} is left from an export that was killed, or one is running; remove it") from None
    try:
        yield part
        with _writing(output_dir):
            if output_dir.is_dir():
                output_dir.rmdir()
            part.rename(output_dir)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


@contextlib.contextmanager
def _writing(output_dir: str | Path) -> Iterator[None]:
    """Raise DataError naming the folder for what the system refuses."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise DataError(
            f"output_dir {output_dir} cannot be written: {error}; check the path, permissions, and room on the disk"
        ) from error


# ------------------------------------------------------------------------------------------------
# Reading


def load_source(ckpt_path: str | Path) -> Source:
    """Return the model of a checkpoint or folder, with its tokenizer; see `export`."""
    path = Path(ckpt_path)
    if path.is_dir() and not (path / "config.json").is_file():
        return _from_checkpoint(*read_shards(path), path)
    if path.is_file() or path.suffix == ".ckpt":
        checkpoint = read_checkpoint(path)
        return _from_checkpoint(checkpoint, checkpoint["state_dict"], path)
    return _from_hugging_face(str(ckpt_path))


def _from_checkpoint(checkpoint: Mapping[str, Any], state_dict: Mapping[str, Tensor], path: Path) -> Source:
    """The model that a checkpoint describes under "generator", with the weights of `state_dict`."""
    saved = checkpoint.get("generator")
    if saved is None:
        what = "a premise retriever" if "retriever" in checkpoint else "no generator of this project"
        raise DataError(f"checkpoint {path}: is of {what}; give one that python -m generator.main fit has written")
    architecture, options = saved["architecture"], dict(saved.get("options", {}))
    lora = Lora.of(options.pop("lora", None))
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
    return build_causal(architecture, tokenizer) if is_decoder_only else build_seq2seq(architecture)


def _build_adapted(model_name: str, tokenizer: Any, lora: Lora) -> Any:
    """A trained model with adapters, whose weights are to be loaded and then added to its own."""
    # whatever it was saved in: a sum in bf16 would lose most of an adapter
    return add_lora(build_causal(model_name, tokenizer, torch.float32), lora)


def _from_hugging_face(name: str) -> Source:
    try:
        config: Any = AutoConfig.from_pretrained(name)
        if any(architecture.endswith("EncoderModel") for architecture in config.architectures or ()):
            raise ConfigError(f"ckpt_path {name!r}: is an encoder, which writes nothing")
        tokenizer = load_tokenizer(name)
        model: Any = build_seq2seq(name) if config.is_encoder_decoder else build_causal(name, tokenizer)
    except (OSError, ValueError) as error:
        if isinstance(error, NextstepError):
            raise
        raise ConfigError(
            f"ckpt_path {name!r} cannot be loaded: {str(error).strip().splitlines()[0]} Give a Lightning checkpoint, a "
            "DeepSpeed folder, or a Hugging Face folder or hub id"
        ) from error
    settings = read_settings(name) or {"options": {}, "class": ""}
    return Source(model.eval(), tokenizer, name, settings["options"], settings["class"])


# ------------------------------------------------------------------------------------------------
# Writing, and reading again


def _write(
    source: Source, folder: Path, format: Format, dtype: Dtype, quantization: str | None
) -> tuple[float | None, float | None]:
    """Write all but the card; return the difference and the agreement of `Exported`."""
    source.tokenizer.save_pretrained(str(folder))
    if format == "ctranslate2":
        check_convertible(source.model)
        return None, _write_ctranslate2(source, folder, quantization or dtype)
    if source.options:
        write_settings(folder, source.class_name, source.options)
    return _write_hugging_face(source, folder, dtype), None


def _write_hugging_face(source: Source, folder: Path, dtype: Dtype) -> float:
    """Write weights and settings; return by how much the logits of what was written differ."""
    expected = [_logits(source.model, source.tokenizer, text) for text in _INPUTS]
    if source.options:
        source.model.generation_config = _generation_config(source)
    source.model.to(getattr(torch, dtype)).save_pretrained(str(folder))
    source.model.to("meta")  # no two copies in memory
    kind: Any = AutoModelForSeq2SeqLM if source.is_encoder_decoder else AutoModelForCausalLM
    model, tokenizer = kind.from_pretrained(str(folder)).eval(), AutoTokenizer.from_pretrained(str(folder))
    for text in _INPUTS:
        if tokenizer(text)["input_ids"] != source.tokenizer(text)["input_ids"]:
            raise NextstepError(
                f"the written tokenizer reads {text!r} differently, nothing is written; please report this"
            )
    found = [_logits(model, source.tokenizer, text) for text in _INPUTS]
    if not all(torch.isfinite(logits).all() for logits in found):
        raise NextstepError(
            f"the logits in {dtype} are not finite, nothing is written; check the weights, or the dtype"
        )
    difference = max(float((one - other).abs().max()) for one, other in zip(found, expected, strict=True))
    accepted = _MAX_DIFFERENCE * max(1.0, *(float(logits.abs().max()) for logits in expected))
    if dtype == "float32" and difference > accepted:
        raise NextstepError(
            f"the logits of what was written differ by {difference:.1e} from those of {source.origin} (at most "
            f"{accepted:.1e} is accepted), nothing is written; please report this"
        )
    return difference


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


def _write_ctranslate2(source: Source, folder: Path, quantization: str) -> float:
    """Write the converted model; return the share of greedy outputs that equal the original's."""
    convert(source.model, source.tokenizer, folder, quantization)
    length = 4 * max(len(text) for text in _INPUTS)
    converted = CTranslate2Engine.from_folder(folder, source.tokenizer, length, device="cpu")
    greedy = Decoding(max_new_tokens=_MAX_TOKENS)
    found = converted.propose(_INPUTS, 1, greedy)
    expected = NativeEngine(source.model, source.tokenizer, length).propose(_INPUTS, 1, greedy)
    num_equal = sum(one[0][0] == other[0][0] for one, other in zip(found, expected, strict=True))
    if quantization == "float32" and num_equal < len(_INPUTS):
        raise NextstepError(
            f"what was written gives the same greedy output as {source.origin} for only {num_equal} of "
            f"{len(_INPUTS)} states, nothing is written; please report this"
        )
    return num_equal / len(_INPUTS)


# ------------------------------------------------------------------------------------------------
# The command line


def main(args: list[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    parser = argparse.ArgumentParser(
        prog="python -m generator.export",
        description="Write a trained model as a folder for transformers or CTranslate2.",
    )
    parser.add_argument(
        "--ckpt_path",
        required=True,
        help="a Lightning checkpoint, a DeepSpeed checkpoint folder, or a Hugging Face folder or hub id",
    )
    parser.add_argument("--output_dir", type=Path, required=True, help="folder to write, empty or new")
    parser.add_argument("--format", choices=get_args(Format), default="hf", help="(default: hf)")
    parser.add_argument("--dtype", choices=get_args(Dtype), default="float32", help="of the weights (default: float32)")
    parser.add_argument("--quantization", choices=COMPUTE_TYPES, help="of ctranslate2's weights, instead of dtype")
    options = parser.parse_args(args)
    done = export(**vars(options))
    print(f"wrote {done.output_dir}: {done.num_parameters:,} parameters, {options.quantization or options.dtype}")
    if done.max_difference is not None:
        print(f"logits of {len(_INPUTS)} examples differ by at most {done.max_difference:.1e} from the original's")
    if done.agreement is not None:
        print(f"{done.agreement:.0%} of the greedy outputs for {len(_INPUTS)} states are the original's")
        if done.agreement < 1:
            print("warning: rounding has changed answers; validate the folder, or give a finer quantization")


def cli() -> None:
    """Run the console script."""
    run(main)


if __name__ == "__main__":
    cli()
