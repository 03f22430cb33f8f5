"""What data modules share: their splits, their options of batches, and how batches are prepared."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import pytorch_lightning as pl
from torch.utils.data import DataLoader, Dataset

from common import ConfigError, DataError, check_positive, load_tokenizer
from retrieval.training.batches import LengthGroupedBatchSampler
from retrieval.training.options import flat, flat_options, save_options
from retrieval.training.resumable_loader import ForkingDataLoader, ResumableDataLoader

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
ROLES: dict[str | None, tuple[str, ...]] = {  # what each stage reads
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
    None: SPLITS,
}
DEFAULT_BATCH_SIZE = 8


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


def text_or_none(path: object) -> str | None:
    """Return the text of a path: what is saved with checkpoints is plain."""
    return None if path is None else str(path)


def rank_of(trainer: pl.Trainer | None) -> int:
    """Return the rank of this process, 0 without a trainer."""
    return 0 if trainer is None else trainer.global_rank


@dataclass(frozen=True)
class Batching:
    """How examples become batches.

    Attributes:
        batch_size: examples or packed rows in a training batch, at most; 8 if max_tokens_per_batch is not given either
        eval_batch_size: examples in a batch of validation, test and prediction, at most
        max_tokens_per_batch: source and target tokens (bytes for ByT5) in a training batch, at most; with padding,
            unless attention flex needs none
        batches_per_pool: how many training batches are sorted by length together: fewer mix lengths more, so that small
            batches teach more, and pad more
        num_workers: processes that prepare batches of each split; 0 prepares them in this one
        seed: of the order of examples, and of whatever else of the data is drawn at random
    """

    batch_size: int | None = None
    eval_batch_size: int = 64
    max_tokens_per_batch: int | None = None
    batches_per_pool: int = 200
    num_workers: int = 0
    seed: int = 3407

    def __post_init__(self) -> None:
        names = ("batch_size", "eval_batch_size", "max_tokens_per_batch", "batches_per_pool")
        check_positive(**{name: getattr(self, name) for name in names})
        if self.num_workers < 0:
            raise ConfigError(f"num_workers is {self.num_workers}; it must be at least 0")

    @property
    def max_examples(self) -> int | None:
        """Examples in a training batch, at most; None where only tokens are counted."""
        if self.batch_size is None and self.max_tokens_per_batch is None:
            return DEFAULT_BATCH_SIZE
        return self.batch_size


def make_loader(dataset: Any, trainer: pl.Trainer | None, batching: Batching, *, is_train: bool) -> DataLoader[Any]:
    """Return a loader of batches of similar length, shared out over the ranks, that resumes in mid-epoch.

    Args:
        dataset: a Dataset with `source_lengths`, `collate`, and perhaps `target_lengths`, `rows_id` if its examples
            are put together from others, and `lengths_of(epoch)` if they differ in length from epoch to epoch
        trainer: whose ranks and device count
        batching: how large batches are
        is_train: in a new order each epoch; else the same batches each time, in one mixed order
    """
    options = _worker_options(batching.num_workers, trainer)
    batch_size = batching.max_examples if is_train else batching.eval_batch_size
    if getattr(trainer, "overfit_batches", 0):
        # Lightning replaces every sampler but this one by a sampler of single examples
        plain: Dataset[Any] = dataset
        return ForkingDataLoader(
            plain, batch_size=batch_size or DEFAULT_BATCH_SIZE, collate_fn=dataset.collate, **options
        )
    sampler = LengthGroupedBatchSampler(
        dataset.source_lengths,
        getattr(dataset, "target_lengths", None),
        batch_size=batch_size,
        max_tokens=batching.max_tokens_per_batch if is_train else None,
        shuffle=is_train,
        batches_per_pool=batching.batches_per_pool,
        seed=batching.seed,
        num_replicas=1 if trainer is None else trainer.world_size,
        rank=rank_of(trainer),
        rows=getattr(dataset, "rows_id", 0),
        padded=not (is_train and batching.max_tokens_per_batch and _needs_no_padding(trainer)),
        lengths_of=getattr(dataset, "lengths_of", None),
    )
    return ResumableDataLoader(dataset, batch_size=None, sampler=sampler, collate_fn=dataset.collate, **options)


def _needs_no_padding(trainer: pl.Trainer | None) -> bool:
    """Whether the model that is trained puts the texts of a batch behind one another."""
    return bool(trainer is not None and getattr(trainer.lightning_module, "uses_flex", False))


def _leave_group(worker: int) -> None:
    os.setpgid(0, 0)


def _worker_options(num_workers: int, trainer: pl.Trainer | None) -> dict[str, Any]:
    """Forked workers share the data instead of copying it.

    A signal to the whole group (Ctrl-C in a terminal, `timeout`) is for the process that trains: what ended its workers
    would end it before it has saved. Workers end with it.
    """
    on_cuda = trainer is not None and trainer.strategy.root_device.type == "cuda"
    options: dict[str, Any] = {"num_workers": num_workers, "pin_memory": on_cuda}
    options["persistent_workers"] = num_workers > 0
    if num_workers and sys.platform == "linux":
        options |= {"multiprocessing_context": "fork", "worker_init_fn": _leave_group}
    return options


class SplitDataModule(pl.LightningDataModule):
    """Batches of similar length from datasets of several splits, each read when it is first needed.

    A subclass fills `datasets` in `setup`.

    Attributes:
        model_name: whose tokenizer to use
        batching: how examples become batches
        datasets: by what they serve, such as train, val, test
    """

    @flat_options
    def __init__(self, model_name: str | dict[str, Any], *, batching: Batching = Batching()) -> None:
        """Check and keep the options; nothing is read before `setup`.

        Args:
            model_name: whose tokenizer to use; see `common.load_tokenizer`
            batching: how examples become batches

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        super().__init__()
        self.model_name = model_name if isinstance(model_name, dict) else str(model_name)
        self.batching = batching
        self.datasets: dict[str, Any] = {}
        self.keep(**flat(batching, model_name=self.model_name))

    def keep(self, **options: Any) -> None:
        """Save options as hyper-parameters; plain values, since checkpoints load with weights_only=True."""
        save_options(self, options, logger=False)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of model_name, loaded when first used."""
        return load_tokenizer(self.model_name)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Let the model lay a batch out as its device wants it, while it is on the CPU."""
        prepare = getattr(getattr(self.trainer, "lightning_module", None), "prepare_batch", None)
        return batch if prepare is None else prepare(batch)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in a new order each epoch."""
        return self.loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        """The same batches each time, in one mixed order."""
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """The same batches each time, in one mixed order."""
        return self.loader("test")

    def loader(self, role: str) -> DataLoader[Any]:
        """Return the loader of the dataset that serves as `role`, such as "val"."""
        return make_loader(self.datasets[role], self.trainer, self.batching, is_train=role == "train")
