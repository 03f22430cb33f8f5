"""GeneratorDataModule: files of LeanDojo Benchmark 4 (any release) to batches for a tactic generator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import DataError
from generator.data.dataset import GeneratorBatch, GeneratorDataset, GeneratorExample, InputLimits
from generator.data.inputs import InputParts, PremiseParts
from generator.data.step_datamodule import StepDataModule
from retrieval.training.datamodule import check_splits
from retrieval.training.options import flat, flat_options

__all__ = ["GeneratorBatch", "GeneratorDataModule", "GeneratorDataset", "GeneratorExample"]


class GeneratorDataModule(StepDataModule):
    """Batches of similar length from `<data_path>/{train,val,test}.json`."""

    @flat_options
    def __init__(
        self,
        data_path: str,
        model_name: str | dict[str, Any],
        *,
        limits: InputLimits = InputLimits(),
        parts: InputParts = InputParts(),
        premise_parts: PremiseParts = PremiseParts(),
        keep_marks: bool = False,
        **shared: Any,
    ) -> None:
        """Check and keep the options; nothing is read before `prepare_data` and `setup`.

        Args:
            data_path: folder of train.json, val.json and test.json, such as data/leandojo_benchmark_4/random
            model_name: whose tokenizer to use; see `common.load_tokenizer`
            limits: how long inputs and tactics may be
            parts: what is read beside states and premises
            premise_parts: how premises are told
            keep_marks: leave the marks around premise names in the targets
            **shared: see StepDataModule

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        super().__init__(str(data_path), model_name, **shared)
        self.data_path, self.limits, self.keep_marks = Path(data_path), limits, keep_marks
        self.parts, self.premise_parts = parts, premise_parts
        self.keep(**flat(limits, parts, premise_parts), keep_marks=keep_marks)

    def _before_reading(self, splits: Sequence[str]) -> None:
        advice = "or let dataset=propositional or dataset=leandojo_benchmark_4 make one"
        check_splits(self.data_path, splits, advice)

    def _read(self, split: str, *, is_train: bool) -> GeneratorDataset:
        dataset = GeneratorDataset(
            self.data_path / f"{split}.json",
            tokenizer=self.tokenizer,
            parts=self.parts,
            premise_parts=self.premise_parts,
            keep_marks=self.keep_marks,
            p_drop=self.retrieved.p_drop,
            is_train=is_train,
            seed=self.batching.seed,
            progress=self._progress,
            **flat(self.limits, self.tactic_text),
            **self.retrieved_premises,
        )
        if not len(dataset):
            raise DataError(f"{dataset.summary()}; nothing is left to read. Choose another data_path")
        return dataset
