"""What data modules share: their splits, their options of batches, and how batches are prepared."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from common import ConfigError, DataError, check_positive, load_tokenizer
from retrieval.training.batches import LengthGroupedBatchSampler, ResumableDataLoader

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
_DEFAULT_BATCH_SIZE = 8


def missing_splits(folder: Path, splits: Sequence[str]) -> list[str]:
    """Return the names of the files of splits that a folder lacks."""
    return [f"{split}.json" for split in splits if not (folder / f"{split}.json").is_file()]


def check_splits(folder: Path, splits: Sequence[str], alternative: str) -> None:
    """Raise DataError, with what is there instead, unless the folder has the files of all splits.

    Args:
        folder: value of the option data_path
        splits: such as ["train", "val"]
        alternative: ends the advice "Set data_path to ..., "
    """
    if missing := missing_splits(folder, splits):
        found, advice = "there is no such folder", "Set data_path to a folder of train.json, val.json, test.json"
        if folder.is_dir():
            names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
            found = f"it holds {', '.join(names[:12]) or 'nothing'}{', ...' if len(names) > 12 else ''}"
        if nested := sorted(str(path.parent) for path in folder.glob("*/train.json")):
            advice = f"Set data_path to {' or '.join(nested)}"
        raise DataError(f"data_path {folder}: no {', '.join(missing)}; {found}. {advice}, {alternative}")


def rank_of(trainer: pl.Trainer | None) -> int:
    """Return the rank of this process, 0 without a trainer."""
    return 0 if trainer is None else trainer.global_rank


def make_loader(
    dataset: Any, trainer: pl.Trainer | None, *, batch_size: int | None, num_workers: int, **sampling: Any
) -> DataLoader[Any]:
    """Return a loader of batches of similar length, shared out over the ranks, that resumes in mid-epoch.

    Args:
        dataset: a Dataset with `source_lengths`, `collate`, and perhaps `target_lengths`
        trainer: whose ranks and device count
        batch_size: examples a batch may hold
        num_workers: processes that prepare batches
        sampling: what else `LengthGroupedBatchSampler` takes
    """
    options = _worker_options(num_workers, trainer)
    if getattr(trainer, "overfit_batches", 0):
        # Lightning replaces every sampler but this one by a sampler of single examples
        plain: Dataset[Any] = dataset
        return DataLoader(plain, batch_size=batch_size or _DEFAULT_BATCH_SIZE, collate_fn=dataset.collate, **options)
    sampler = LengthGroupedBatchSampler(
        dataset.source_lengths,
        getattr(dataset, "target_lengths", None),
        batch_size=batch_size,
        num_replicas=1 if trainer is None else trainer.world_size,
        rank=rank_of(trainer),
        **sampling,
    )
    return ResumableDataLoader(dataset, batch_size=None, sampler=sampler, collate_fn=dataset.collate, **options)


def _worker_options(num_workers: int, trainer: pl.Trainer | None) -> dict[str, Any]:
    """Forked workers share the data instead of copying it."""
    on_cuda = trainer is not None and trainer.strategy.root_device.type == "cuda"
    options: dict[str, Any] = {"num_workers": num_workers, "pin_memory": on_cuda}
    options["persistent_workers"] = num_workers > 0
    if num_workers and sys.platform == "linux":
        options["multiprocessing_context"] = "fork"
    return options


class SplitDataModule(pl.LightningDataModule):
    """Batches of similar length from datasets of several splits, each read when it is first needed.

    A subclass has the options `model_name`, `eval_batch_size`, `seed`, `num_workers`, and perhaps `batch_size`,
    `max_tokens_per_batch` and `batches_per_pool`, saves them as hyper-parameters, and fills `datasets` in `setup`.

    Attributes:
        datasets: by what they serve, such as train, val, test
        batch_size: examples in a training batch, at most; None where only tokens are counted
    """

    datasets: dict[str, Any]

    def _check_batches(self) -> None:
        """Check the options of batches."""
        names = ("batch_size", "eval_batch_size", "max_tokens_per_batch", "batches_per_pool")
        check_positive(**{name: self.hparams[name] for name in names if name in self.hparams})
        if (num_workers := self.hparams["num_workers"]) < 0:
            raise ConfigError(f"num_workers is {num_workers}; it must be at least 0")
        self.batch_size: int | None = self.hparams["batch_size"]
        if self.batch_size is None and self.hparams.get("max_tokens_per_batch") is None:
            self.batch_size = _DEFAULT_BATCH_SIZE
        self.datasets = {}

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of model_name, loaded when first used."""
        return load_tokenizer(self.hparams["model_name"])

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in a new order each epoch."""
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        """The same batches each time, in one mixed order."""
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """The same batches each time, in one mixed order."""
        return self._loader("test")

    def _loader(self, role: str) -> DataLoader[Any]:
        is_train = role == "train"
        sampling = {"batches_per_pool": self.hparams["batches_per_pool"]} if "batches_per_pool" in self.hparams else {}
        return make_loader(
            self.datasets[role],
            self.trainer,
            batch_size=self.batch_size if is_train else self.hparams["eval_batch_size"],
            max_tokens=self.hparams.get("max_tokens_per_batch") if is_train else None,
            shuffle=is_train,
            seed=self.hparams["seed"],
            num_workers=self.hparams["num_workers"],
            **sampling,
        )
