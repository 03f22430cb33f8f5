"""GeneratorDataModule: files of LeanDojo Benchmark 4 (any release) to batches for a tactic generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, get_args

from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from common import ConfigError, DataError, check_positive, load_tokenizer
from generator.dataset import GeneratorBatch, GeneratorDataset, GeneratorExample, check_probability
from generator.download import download_leandojo_benchmark_4
from generator.environments.propositional_benchmark import (
    DEFAULT_THEOREMS,
    MIN_THEOREMS,
    build_propositional_benchmark,
)
from retrieval.corpus import Corpus
from retrieval.loading import SPLITS, Split, check_choice, check_splits, make_loader, missing_splits, rank_of
from retrieval.predictions import Predictions

__all__ = ["GeneratorBatch", "GeneratorDataModule", "GeneratorDataset", "GeneratorExample"]

KnownDataset = Literal["propositional", "leandojo_benchmark_4"]
_BENCHMARK_SPLITS = ("random", "novel_premises")
_ROLES: dict[str | None, tuple[str, ...]] = {  # what each stage reads
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("predict",),
    None: SPLITS,
}
_DEFAULT_BATCH_SIZE = 8


class GeneratorDataModule(LightningDataModule):
    """Batches of similar length from `<data_path>/{train,val,test}.json`."""

    def __init__(
        self,
        data_path: str,
        model_name: str | dict[str, Any],
        batch_size: int | None = None,
        eval_batch_size: int = 64,
        max_tokens_per_batch: int | None = None,
        batches_per_pool: int = 200,
        max_inp_seq_len: int = 2300,
        max_oup_seq_len: int = 512,
        p_drop: float = 0.5,
        keep_marks: bool = False,
        normalize_tactics: bool = True,
        num_workers: int = 0,
        corpus_path: str | None = None,
        preds_path: str | None = None,
        dataset: KnownDataset | None = None,
        num_theorems: int = DEFAULT_THEOREMS,
        predict_split: Split = "test",
        seed: int = 3407,
    ) -> None:
        """Check and keep the options; nothing is read before `prepare_data` and `setup`.

        Args:
            data_path: folder of train.json, val.json and test.json, such as data/leandojo_benchmark_4/random
            model_name: whose tokenizer to use; see `common.load_tokenizer`
            batch_size: examples in a training batch, at most; 8 if max_tokens_per_batch is not given either
            eval_batch_size: examples in a batch of validation, test and prediction, at most
            max_tokens_per_batch: padded source and target tokens (bytes for ByT5) in a training batch, at most
            batches_per_pool: how many training batches are sorted by length together: fewer mix lengths more, so
                that small batches teach more, and pad more
            max_inp_seq_len: tokens of an input, EOS included
            max_oup_seq_len: tokens of a target, EOS included; longer ones are left out of training
            p_drop: probability of leaving out each retrieved premise, in training
            keep_marks: leave the marks around premise names in the targets
            normalize_tactics: write each run of white space in a tactic as one space
            num_workers: processes that prepare batches of each split; 0 prepares them in this one
            corpus_path: corpus.jsonl of the retrieved premises
            preds_path: folder that `python -m retrieval.main predict` wrote
            dataset: what `prepare_data` gets where data_path has no splits: "propositional" is built on the
                spot, "leandojo_benchmark_4" is downloaded; without it the data must be there
            num_theorems: size of the propositional dataset; one that is there must have it
            predict_split: the split that `predict` reads
            seed: of the order of examples, of premise dropout, and of the propositional dataset; to vary it over one
                dataset that is there, leave `dataset` out

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        super().__init__()
        data_path = str(data_path)
        corpus_path = None if corpus_path is None else str(corpus_path)
        preds_path = None if preds_path is None else str(preds_path)
        model_name = model_name if isinstance(model_name, dict) else str(model_name)
        # saved with checkpoints, which load with weights_only=True: plain values only
        self.save_hyperparameters(logger=False)
        check_positive(
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            max_tokens_per_batch=max_tokens_per_batch,
            batches_per_pool=batches_per_pool,
            max_inp_seq_len=max_inp_seq_len,
            max_oup_seq_len=max_oup_seq_len,
        )
        check_probability(p_drop=p_drop)
        if num_workers < 0:
            raise ConfigError(f"num_workers is {num_workers}; it must be at least 0")
        if num_theorems < MIN_THEOREMS:
            raise ConfigError(f"num_theorems is {num_theorems}; it must be at least {MIN_THEOREMS}")
        check_choice("dataset", dataset, (None, *get_args(KnownDataset)))
        check_choice("predict_split", predict_split, SPLITS)
        if (corpus_path is None) != (preds_path is None):
            raise ConfigError("corpus_path and preds_path belong together; give both or neither")
        self.data_path = Path(data_path)
        self.eval_batch_size = eval_batch_size
        self.batch_size = batch_size or (None if max_tokens_per_batch else _DEFAULT_BATCH_SIZE)
        self.datasets: dict[str, GeneratorDataset] = {}  # train, val, test, predict
        self._tokenizer: Any = None

    @property
    def tokenizer(self) -> Any:
        """The tokenizer of model_name, loaded when first used."""
        if self._tokenizer is None:
            self._tokenizer = load_tokenizer(self.hparams["model_name"])
        return self._tokenizer

    # ----------------------------------------------------------------------------------------------
    # Data

    def prepare_data(self) -> None:
        """Get the dataset if a split is missing; one process of each machine does it.

        Raises:
            ConfigError: if a propositional dataset is there, but not of this num_theorems and seed; or if data_path
                is no place for a dataset
            DataError: if the dataset cannot be had
        """
        dataset = self.hparams["dataset"]
        if dataset is None:
            return
        if not missing_splits(self.data_path, SPLITS):
            if dataset == "propositional":
                wanted = {option: self.hparams[option] for option in ("num_theorems", "seed")}
                _check_made_with(self.data_path.parent, wanted)
            return
        if self.data_path.name not in _BENCHMARK_SPLITS:
            raise ConfigError(
                f"data_path is {str(self.data_path)!r}; with dataset={dataset} its last part is one of "
                f"{', '.join(_BENCHMARK_SPLITS)}, the two ways in which the benchmark is split"
            )
        try:
            if dataset == "propositional":
                build_propositional_benchmark(self.data_path.parent, self.hparams["num_theorems"], self.hparams["seed"])
            else:
                download_leandojo_benchmark_4(self.data_path.parent)
        except FileExistsError as error:
            raise DataError(f"data_path {self.data_path} has no splits, and {error}") from error

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: "fit", "validate", "test" or "predict"; None needs all."""
        new = {role: self._split_of(role) for role in _ROLES[stage] if role not in self.datasets}
        check_splits(
            self.data_path,
            list(new.values()),
            "or let dataset=propositional or dataset=leandojo_benchmark_4 make one",
        )
        retrieved = self._load_retrieved() if new else {}
        for role, split in new.items():
            self.datasets[role] = self._read(split, is_train=role == "train", **retrieved)
            rank_zero_info(self.datasets[role].summary())

    def _split_of(self, role: str) -> str:
        return str(self.hparams["predict_split"]) if role == "predict" else role

    def _read(self, split: str, *, is_train: bool, **retrieved: Any) -> GeneratorDataset:
        options = ("max_inp_seq_len", "max_oup_seq_len", "keep_marks", "normalize_tactics", "p_drop", "seed")
        dataset = GeneratorDataset(
            self.data_path / f"{split}.json",
            tokenizer=self.tokenizer,
            is_train=is_train,
            progress=rank_of(self.trainer) == 0,
            **{option: self.hparams[option] for option in options},
            **retrieved,
        )
        if not len(dataset):
            raise DataError(f"{dataset.summary()}; nothing is left to read. Choose another data_path")
        return dataset

    def _load_retrieved(self) -> dict[str, Any]:
        """The corpus and the predictions, where they are asked for."""
        corpus_path, preds_path = self.hparams["corpus_path"], self.hparams["preds_path"]
        if corpus_path is None:
            return {}
        corpus = Corpus(corpus_path)
        return {"corpus": corpus, "predictions": Predictions.load(preds_path, corpus)}

    # ----------------------------------------------------------------------------------------------
    # Loaders

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in a new order each epoch."""
        return self._loader("train", self.batch_size, self.hparams["max_tokens_per_batch"])

    def val_dataloader(self) -> DataLoader[Any]:
        """The same batches each time, in one mixed order."""
        return self._loader("val", self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Any]:
        """The same batches each time, in one mixed order."""
        return self._loader("test", self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of predict_split; `index` in a batch tells which examples it holds."""
        return self._loader("predict", self.eval_batch_size)

    def _loader(self, role: str, batch_size: int | None, max_tokens: int | None = None) -> DataLoader[Any]:
        return make_loader(
            self.datasets[role],
            self.trainer,
            batch_size=batch_size,
            max_tokens=max_tokens,
            shuffle=role == "train",
            batches_per_pool=self.hparams["batches_per_pool"],
            seed=self.hparams["seed"],
            num_workers=self.hparams["num_workers"],
        )


def _check_made_with(folder: Path, wanted: dict[str, int]) -> None:
    """Refuse a dataset whose metadata.json has other numbers; what it does not tell is not judged."""
    try:
        made = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if not isinstance(made, dict):
        return
    other = {name: made[name] for name, value in wanted.items() if made.get(name, value) != value}
    if other:
        asked = " and ".join(f"{name} is {wanted[name]}" for name in other)
        found = " and ".join(f"{name} {value}" for name, value in other.items())
        give = " ".join(f"--data.{name} {value}" for name, value in other.items())
        raise ConfigError(
            f"{asked}, but the dataset in {folder} was made with {found}. Remove {folder} to have it made anew, "
            f"or give {give}; --data.dataset null reads whatever is there"
        )
