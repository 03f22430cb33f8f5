"""Predictions of a trained retriever, written batch by batch while `predict` runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import BasePredictionWriter
from pytorch_lightning.utilities import rank_zero_info

from retrieval.datamodule import RetrievalBatch
from retrieval.leandojo.provenance import provenances_of
from retrieval.predictions.files import RetrievalContext
from retrieval.predictions.reader_writer import PredictionWriter
from retrieval.training.run_folder import run_folder


class PremiseWriter(BasePredictionWriter):
    """Writes what `predict_step` returns, one part for each split and rank (see `retrieval.predictions.files`).

    Attributes:
        output_dir: where to; `predictions/` of the run folder if None
    """

    def __init__(self) -> None:
        super().__init__(write_interval="batch")
        self.output_dir: Path | None = None
        self._writers: list[PredictionWriter] = []

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open the parts of this rank; until they are closed they count as incomplete."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        default = run_folder(trainer) / "predictions"  # asked for by all ranks
        folder = self.output_dir or default
        self._writers = [
            PredictionWriter(
                folder,
                data.corpus,
                retriever=str(trainer.ckpt_path or pl_module.name or "untrained"),
                k=int(pl_module.num_retrieved),  # type: ignore[arg-type]
                split=split,
                num_contexts=len(data.datasets[f"predict-{split}"]),
                rank=trainer.global_rank,
                num_ranks=trainer.world_size,
            )
            for split in data.predict_splits
        ]

    def write_on_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: RetrievalBatch,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Add a batch to the part of its split."""
        scores, numbers = prediction
        contexts = list(map(RetrievalContext, provenances_of(batch), batch["state_hash"]))
        self._writers[dataloader_idx].write(contexts, numbers, scores)

    def on_predict_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Mark this rank's parts as complete."""
        for writer in self._writers:
            writer.close()
        if self._writers:
            rank_zero_info(f"wrote {self._writers[0].folder}")
        self._writers = []
