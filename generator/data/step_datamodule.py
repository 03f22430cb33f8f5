"""What the data modules of generators share: which split serves which stage, and known datasets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from common import ConfigError, check_choice, check_probability
from generator.data.known_datasets import KnownDataset, get_dataset
from generator.environments.propositional_benchmark import MIN_THEOREMS
from retrieval.corpus import Corpus
from retrieval.predictions.reader_writer import Predictions
from retrieval.training.datamodule import SPLITS, SplitDataModule

_ROLES: dict[str | None, tuple[str, ...]] = {  # what each stage reads
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
    None: SPLITS,
}


class StepDataModule(SplitDataModule):
    """Splits of steps of proofs; `datasets` has the keys train, val, test and predict.

    A subclass has the options `dataset`, `num_theorems`, `seed`, `predict_split`, `corpus_path`, `preds_path` and
    `p_drop`, and reads a split in `_read`.
    """

    def _check_source(self) -> None:
        """Check the options that say where the data comes from."""
        check_choice("predict_split", self.hparams["predict_split"], SPLITS)
        check_choice("dataset", self.hparams["dataset"], (None, *get_args(KnownDataset)))
        if (num_theorems := self.hparams["num_theorems"]) < MIN_THEOREMS:
            raise ConfigError(f"num_theorems is {num_theorems}; it must be at least {MIN_THEOREMS}")
        check_probability(p_drop=self.hparams["p_drop"])
        if (self.hparams["corpus_path"] is None) != (self.hparams["preds_path"] is None):
            raise ConfigError("corpus_path and preds_path belong together; give both or neither")

    def prepare_data(self) -> None:
        """Get the dataset if a split is missing; one process of each machine does it. See `get_dataset`."""
        if self.hparams["dataset"] is not None:
            options = {name: self.hparams[name] for name in ("dataset", "num_theorems", "seed")}
            get_dataset(data_path=Path(self.hparams["data_path"]), **options)

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: "fit", "validate", "test" or "predict"; None needs all."""
        predicted = str(self.hparams["predict_split"])
        new = {role: predicted if role == "predict" else role for role in _ROLES[stage] if role not in self.datasets}
        if new:
            self._before_reading(list(new.values()))
        for role, split in new.items():
            self.datasets[role] = self._read(split, is_train=role == "train")
            rank_zero_info(self.datasets[role].summary())

    @cached_property
    def _retrieved(self) -> dict[str, Any]:
        """The corpus and the predictions, where they are asked for."""
        if self.hparams["corpus_path"] is None:
            return {}
        corpus = Corpus(self.hparams["corpus_path"])
        return {"corpus": corpus, "predictions": Predictions.load(self.hparams["preds_path"], corpus)}

    def _before_reading(self, splits: Sequence[str]) -> None:
        """Check what all of the splits need."""

    def _read(self, split: str, *, is_train: bool) -> Any:
        """Return the dataset of a split."""
        raise NotImplementedError

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of predict_split; `index` in a batch tells which examples it holds."""
        return self._loader("predict")


def text_or_none(path: object) -> str | None:
    """Return the text of a path: what is saved with checkpoints is plain."""
    return None if path is None else str(path)
