"""GeneratorDataModule: files of LeanDojo Benchmark 4 (any release) to batches for a tactic generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import DataError, check_positive
from generator.data.dataset import GeneratorBatch, GeneratorDataset, GeneratorExample
from generator.data.known_datasets import KnownDataset
from generator.data.step_datamodule import StepDataModule, text_or_none
from generator.environments.propositional_benchmark import DEFAULT_THEOREMS
from retrieval.training.datamodule import Split, check_splits, rank_of

__all__ = ["GeneratorBatch", "GeneratorDataModule", "GeneratorDataset", "GeneratorExample"]


class GeneratorDataModule(StepDataModule):
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
        corpus_path, preds_path = text_or_none(corpus_path), text_or_none(preds_path)
        model_name = model_name if isinstance(model_name, dict) else str(model_name)
        # saved with checkpoints, which load with weights_only=True: plain values only
        self.save_hyperparameters(logger=False)
        self._check_batches()
        self._check_source()
        check_positive(max_inp_seq_len=max_inp_seq_len, max_oup_seq_len=max_oup_seq_len)
        self.data_path = Path(data_path)

    def _before_reading(self, splits: Sequence[str]) -> None:
        advice = "or let dataset=propositional or dataset=leandojo_benchmark_4 make one"
        check_splits(self.data_path, splits, advice)

    def _read(self, split: str, *, is_train: bool) -> GeneratorDataset:
        options = ("max_inp_seq_len", "max_oup_seq_len", "keep_marks", "normalize_tactics", "p_drop", "seed")
        dataset = GeneratorDataset(
            self.data_path / f"{split}.json",
            tokenizer=self.tokenizer,
            is_train=is_train,
            progress=rank_of(self.trainer) == 0,
            **{option: self.hparams[option] for option in options},
            **self._retrieved,
        )
        if not len(dataset):
            raise DataError(f"{dataset.summary()}; nothing is left to read. Choose another data_path")
        return dataset
