"""A small library with a retriever for it, and what that retrieves."""

from pathlib import Path

import torch

from retrieval.datamodule import RetrievalDataModule
from retrieval.model import PremiseRetriever
from retrieval.premise_writer import PremiseWriter
from tests.fakes import quiet_trainer
from tests.retrieval.fakes import ENCODER, write_library


def write_retrieved(folder: Path) -> Path:
    """Write a library, and beside it retriever.ckpt, predictions/ and index/; return the library's folder data."""
    data = write_library(folder / "library")
    torch.manual_seed(0)
    model = PremiseRetriever(model_name=ENCODER, num_retrieved=4, max_seq_len=128)
    writer = PremiseWriter()
    writer.output_dir = folder / "predictions"
    trainer = quiet_trainer(folder, callbacks=[writer])
    module = RetrievalDataModule(str(data), "google/byt5-small", max_seq_len=128, eval_batch_size=3)
    trainer.predict(model, module, return_predictions=False)
    trainer.save_checkpoint(folder / "retriever.ckpt")
    assert model.index is not None
    model.index.save(folder / "index")
    return data
