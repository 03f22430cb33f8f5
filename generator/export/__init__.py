"""Trained models as folders for other programs: `python -m generator.export --ckpt_path ... --output_dir ...`.

A Hugging Face folder loads with transformers' Auto classes alone, a CTranslate2 folder with CTranslate2. What was
written is loaded again and compared with the model that it was made from before the folder gets its name.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from common import ConfigError, check_choice
from generator.engines.ctranslate2 import COMPUTE_TYPES, import_ctranslate2
from generator.export.folders import INPUTS, Dtype, write_ctranslate2, write_hugging_face
from generator.export.source import Source, load_source
from generator.model_card import model_card
from retrieval.training import remarks
from retrieval.training.commands import parse_arguments, run
from retrieval.training.files import writing_folder

__all__ = ["Exported", "Source", "export", "load_source"]

Format = Literal["hf", "ctranslate2"]


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
    """Write a trained model as a folder for transformers or CTranslate2.

    Args:
        ckpt_path: a Lightning checkpoint of a generator, a checkpoint folder of DeepSpeed, or a Hugging Face folder, a
            .gguf file or a hub id
        output_dir: folder to write, empty or new
        format: what loads the folder: transformers' Auto classes (hf), or CTranslate2
        dtype: of the weights
        quantization: of the weights of ctranslate2, such as int8, instead of dtype

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
    output_dir, difference, agreement = Path(output_dir), None, None
    with writing_folder(output_dir, f"output_dir {output_dir}") as folder:
        source = load_source(ckpt_path)
        num_parameters = sum(parameter.numel() for parameter in source.model.parameters())
        if format == "hf":
            difference = write_hugging_face(source, folder, dtype)
        else:
            agreement = write_ctranslate2(source, folder, quantization or dtype)
        card = model_card(
            output_dir.resolve().name,
            source.model.config,
            origin=Path(source.origin).name,
            num_parameters=num_parameters,
            weights=quantization or dtype,
            library="transformers" if format == "hf" else "ctranslate2",
            options=source.options,
            begin=source.begin(),
        )
        (folder / "README.md").write_text(card, encoding="utf-8")
    return Exported(output_dir, num_parameters, difference, agreement)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    options = parse_arguments(export, args)
    done = export(**options)
    weights = options["quantization"] or options["dtype"]
    print(f"wrote {done.output_dir}: {done.num_parameters:,} parameters, {weights}")
    if done.max_difference is not None:
        print(f"logits of {len(INPUTS)} examples differ by at most {done.max_difference:.1e} from the original's")
    if done.agreement is not None:
        print(f"{done.agreement:.0%} of the greedy outputs for {len(INPUTS)} states are the original's")
        if done.agreement < 1:
            print("warning: rounding has changed answers; validate the folder, or give a finer quantization")


def cli() -> None:
    """Run the command."""
    remarks.prepare()
    run(main)
