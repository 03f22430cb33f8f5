"""Tiny bodies of both families for bit tasks, and runs of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from generator.domains.bits.datamodule import BitDataModule
from generator.domains.bits.model import BitModel
from tests.fakes import quiet_trainer

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
LLAMA = {
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
BODIES = {"gpt2": {**GPT2, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}, "llama": LLAMA}
ALL = {"trained_groups": ["all"]}


def build(body: str = "llama", **options: Any) -> BitModel:
    torch.manual_seed(0)
    return BitModel(dict(BODIES[body]), **{"input_std": 0.02, **ALL, **options})


def data(n: int = 4, **options: Any) -> BitDataModule:
    domain_options = {"n": n, **options.pop("domain_options", {})}
    few = {"num_train": 400, "num_val": 10, "num_test": 10, "batch_size": 8}
    return BitDataModule(domain_options=domain_options, **{**few, **options})


def fit(folder: Path, model: BitModel, module: BitDataModule, ckpt_path: Any = None, **options: Any) -> pl.Trainer:
    trainer = quiet_trainer(folder, **{"max_steps": 12, "limit_val_batches": 0, **options})
    trainer.fit(model, module, ckpt_path=ckpt_path)
    return trainer
