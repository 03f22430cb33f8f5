"""Models are trained in training mode, wherever they come from: dropout is on, activations are recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from generator.causal import CausalGenerator
from generator.datamodule import GeneratorDataModule
from generator.instruct_datamodule import InstructDataModule
from generator.model import RetrievalAugmentedGenerator
from retrieval.datamodule import RetrievalDataModule
from retrieval.model import PremiseRetriever
from tests.fakes import TINY, quiet_trainer, write_splits
from tests.generator.causal_fakes import GPT2
from tests.retrieval.fakes import ENCODER, write_library

DROPOUT = {"dropout_rate": 0.1}
GPT2_DROPOUT = {"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1}


class Modes(pl.Callback):
    """Notes, at each training step, which dropouts of the model are on."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.seen += [layer.training for layer in pl_module.modules() if isinstance(layer, torch.nn.Dropout)]


def encoder_decoder(folder: Path, **options: Any) -> tuple[Any, Any]:
    model = RetrievalAugmentedGenerator({**TINY, **DROPOUT})
    model.generator.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    data = GeneratorDataModule(str(write_splits(folder / "data")), str(folder / "model"), batch_size=4)
    return RetrievalAugmentedGenerator(str(folder / "model"), **options), data


def decoder_only(folder: Path, **options: Any) -> tuple[Any, Any]:
    limits = {"max_seq_len": 128, "max_completion_len": 32}
    model = CausalGenerator({**GPT2, **GPT2_DROPOUT}, **limits)
    model.generator.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    data = InstructDataModule(
        str(write_splits(folder / "data")), str(folder / "model"), template="llmstep", batch_size=4, **limits
    )
    return CausalGenerator(str(folder / "model"), **limits, **options), data


def adapters(folder: Path, **options: Any) -> tuple[Any, Any]:
    pytest.importorskip("peft")
    return decoder_only(folder, lora={"r": 2}, **options)


def retriever(folder: Path, **options: Any) -> tuple[Any, Any]:
    model = PremiseRetriever({**ENCODER, **DROPOUT}, max_seq_len=128)
    model.encoder.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    data = RetrievalDataModule(str(write_library(folder / "library")), str(folder / "model"), max_seq_len=128)
    return PremiseRetriever(str(folder / "model"), max_seq_len=128, **options), data


FAMILIES = [encoder_decoder, decoder_only, adapters, retriever]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.__name__)
def test_a_model_of_a_folder_trains_with_dropout(family: Any, tmp_path: Path) -> None:
    model, data = family(tmp_path)
    modes = Modes()
    trainer = quiet_trainer(tmp_path, max_epochs=2, limit_train_batches=1, callbacks=[modes])
    trainer.fit(model, data)  # the second epoch comes behind a validation
    assert modes.seen and all(modes.seen)


READS = {
    encoder_decoder: ("state_ids", "state_mask", "tactic_ids"),
    decoder_only: ("input_ids", "attention_mask", "labels"),
    retriever: ("state_ids", "state_mask"),
}


@pytest.mark.parametrize("family", READS, ids=lambda family: family.__name__)
def test_activations_of_a_model_of_a_folder_are_recomputed(family: Any, tmp_path: Path) -> None:
    kept = {}
    for recompute in (False, True):
        model, data = family(tmp_path / str(recompute), gradient_checkpointing=recompute)
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            model(*(batch[name] for name in READS[family]))
        kept[recompute] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]
