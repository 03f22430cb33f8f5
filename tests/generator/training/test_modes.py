"""Models are trained in training mode, wherever they come from: dropout is on, activations are recomputed."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from retrieval.datamodule import RetrievalDataModule
from retrieval.model import PremiseRetriever
from tests.fakes import quiet_trainer, save_pretrained, write_splits
from tests.generator.families import DECODER_ONLY, ENCODER_DECODER, FAMILIES, Family
from tests.retrieval.fakes import ENCODER, write_library


class Modes(pl.Callback):
    """Notes, at each training step, which dropouts of the model are on."""

    def __init__(self) -> None:
        self.seen: list[bool] = []

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any) -> None:
        self.seen += [layer.training for layer in pl_module.modules() if isinstance(layer, torch.nn.Dropout)]


def of_folder(family: Family, folder: Path, **options: Any) -> tuple[Any, Any]:
    """A model with dropout that was saved as other programs save it, and its data."""
    save_pretrained(family.build({**family.architecture, **family.dropout}), folder / "model")
    data = family.data(write_splits(folder / "data"), batch_size=4)
    return family.build(str(folder / "model"), **options), data


encoder_decoder, decoder_only = (partial(of_folder, family) for family in FAMILIES.values())


def adapters(folder: Path, **options: Any) -> tuple[Any, Any]:
    pytest.importorskip("peft")
    return decoder_only(folder, lora={"r": 2}, **options)


def retriever(folder: Path, **options: Any) -> tuple[Any, Any]:
    model = PremiseRetriever({**ENCODER, "dropout_rate": 0.1}, max_seq_len=128)
    model.encoder.save_pretrained(folder / "model")
    model.tokenizer.save_pretrained(folder / "model")
    data = RetrievalDataModule(str(write_library(folder / "library")), str(folder / "model"), max_seq_len=128)
    return PremiseRetriever(str(folder / "model"), max_seq_len=128, **options), data


KINDS = {
    "encoder_decoder": encoder_decoder,
    "decoder_only": decoder_only,
    "adapters": adapters,
    "retriever": retriever,
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
def test_a_model_of_a_folder_trains_with_dropout(make: Any, tmp_path: Path) -> None:
    model, data = make(tmp_path)
    modes = Modes()
    trainer = quiet_trainer(tmp_path, max_epochs=2, limit_train_batches=1, callbacks=[modes])
    trainer.fit(model, data)  # the second epoch comes behind a validation
    assert modes.seen and all(modes.seen)


READS = {
    "encoder_decoder": ENCODER_DECODER.inputs,
    "decoder_only": DECODER_ONLY.inputs,
    "retriever": ("state_ids", "state_mask"),
}


@pytest.mark.parametrize("kind", READS)
def test_activations_of_a_model_of_a_folder_are_recomputed(kind: str, tmp_path: Path) -> None:
    kept = {}
    for recompute in (False, True):
        model, data = KINDS[kind](tmp_path / str(recompute), gradient_checkpointing=recompute)
        data.setup("fit")
        batch = next(iter(data.train_dataloader()))
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            model(*(batch[name] for name in READS[kind]))
        kept[recompute] = sum(sizes)
    assert kept[True] < 0.5 * kept[False]
