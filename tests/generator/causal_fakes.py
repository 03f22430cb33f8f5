"""A tiny CausalGenerator, and data as it reads it."""

from typing import Any

import torch

from generator.causal import CausalGenerator
from generator.instruct_datamodule import InstructDataModule

GPT2 = {"model_type": "gpt2", "n_embd": 48, "n_layer": 2, "n_head": 4, "n_positions": 400}
GPT2 |= {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
SIZES = {"max_seq_len": 192, "max_completion_len": 48}


def build(architecture: Any = GPT2, **options: Any) -> CausalGenerator:
    torch.manual_seed(0)
    return CausalGenerator(architecture, **{"num_beams": 3, "template": "llmstep", **SIZES, **options})


def data(path: Any, **options: Any) -> InstructDataModule:
    return InstructDataModule(str(path), GPT2, **{"template": "llmstep", "batch_size": 8, **SIZES, **options})


def first_batch(module: InstructDataModule, stage: str = "fit") -> dict[str, Any]:
    """Of the training data, or of the validation data where the stage is another."""
    module.setup(stage)
    return next(iter(module.train_dataloader() if stage == "fit" else module.val_dataloader()))
