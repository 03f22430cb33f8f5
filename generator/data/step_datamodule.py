"""What the data modules of generators share: which split serves which stage, and known datasets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities import rank_zero_info, rank_zero_warn
from torch.utils.data import DataLoader

from common import ConfigError, check_choice, check_probability
from generator.data.known_datasets import BuiltIn, get_dataset
from retrieval.corpus import Corpus
from retrieval.leandojo.tactic_text import TacticText
from retrieval.predictions.reader_writer import Predictions
from retrieval.training.datamodule import ROLES, SPLITS, Split, SplitDataModule, rank_of, text_or_none
from retrieval.training.options import flat, flat_options


@dataclass(frozen=True)
class RetrievedOptions:
    """Premises that were retrieved for the data's states.

    Attributes:
        corpus_path: corpus.jsonl of the retrieved premises
        preds_path: folder that `python -m retrieval.main predict` wrote
        p_drop: probability of leaving out each retrieved premise, in training
    """

    corpus_path: str | None = None
    preds_path: str | None = None
    p_drop: float = 0.5

    def __post_init__(self) -> None:
        check_probability(p_drop=self.p_drop)
        if (self.corpus_path is None) != (self.preds_path is None):
            raise ConfigError("corpus_path and preds_path belong together; give both or neither")
        for name in ("corpus_path", "preds_path"):
            object.__setattr__(self, name, text_or_none(getattr(self, name)))


class StepDataModule(SplitDataModule):
    """Splits of steps of proofs; `datasets` has the keys train, val, test and predict.

    A subclass reads a split in `_read`.

    Attributes:
        data_path: where the data is
        retrieved: which premises were retrieved for it
        tactic_text: how tactics of LeanDojo data are written in targets
    """

    data_path: Any

    @flat_options
    def __init__(
        self,
        data_path: Any,
        model_name: str | dict[str, Any],
        *,
        built_in: BuiltIn = BuiltIn(),
        retrieved: RetrievedOptions = RetrievedOptions(),
        tactic_text: TacticText = TacticText(),
        predict_split: Split = "test",
        **shared: Any,
    ) -> None:
        """Check and keep the options; nothing is read before `prepare_data` and `setup`.

        Args:
            data_path: see the subclass
            model_name: whose tokenizer to use; see `common.load_tokenizer`
            built_in: a dataset to get if there is none
            retrieved: premises that were retrieved for the data's states
            tactic_text: how tactics of LeanDojo data are written in targets
            predict_split: the split that `predict` reads
            **shared: see SplitDataModule

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        super().__init__(model_name, **shared)
        check_choice("predict_split", predict_split, SPLITS)
        self.built_in, self.retrieved = built_in, retrieved
        self.tactic_text, self.predict_split = tactic_text, predict_split
        self.keep(
            **flat(built_in, retrieved, tactic_text),
            data_path=data_path,
            predict_split=predict_split,
        )

    def prepare_data(self) -> None:
        """Get the dataset if a split is missing; one process of each machine does it. See `get_dataset`."""
        get_dataset(self.built_in, Path(self.data_path), self.batching.seed)

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: "fit", "validate", "test" or "predict"; None needs all."""
        split_of = {role: self.predict_split if role == "predict" else role for role in ROLES[stage]}
        new = {role: split for role, split in split_of.items() if role not in self.datasets}
        if new:
            self._before_reading(list(new.values()))
        for role, split in new.items():
            self.datasets[role] = self._read(split, is_train=role == "train")
            rank_zero_info(self.datasets[role].summary())

    @cached_property
    def retrieved_premises(self) -> dict[str, Any]:
        """The corpus and the predictions, as datasets take them; {} where none are asked for."""
        if self.retrieved.corpus_path is None or self.retrieved.preds_path is None:
            return {}
        corpus = Corpus(self.retrieved.corpus_path)
        return {"corpus": corpus, "predictions": Predictions.load(self.retrieved.preds_path, corpus)}

    def compare_targets(self, trained_with: Mapping[str, Any]) -> None:
        """Say so if a checkpoint learnt tactics that were written in another way than those of this data.

        Args:
            trained_with: the options of the data module that the checkpoint was trained with
        """
        if not self.has_leandojo_tactics or "normalize_tactics" not in trained_with:
            return
        now = flat(self.tactic_text)
        # before there was a choice, names were full, and normalising joined lines too
        before = {name: trained_with.get(name, "full") for name in now}
        if before != now:
            options = " ".join(f"--data.{name} {str(value).lower()}" for name, value in before.items())
            rank_zero_warn(
                f"the checkpoint learnt tactics written with {_listed(before)}, but those of the data are written with "
                f"{_listed(now)}; {options} gives it what it learnt"
                + ("" if "tactic_names" in trained_with else ", except that line breaks stay")
            )

    @property
    def has_leandojo_tactics(self) -> bool:
        """Whether tactics are read from LeanDojo data, and not from completions that are whole."""
        return True

    @property
    def _progress(self) -> bool:
        """Whether this process shows progress bars."""
        return rank_of(self.trainer) == 0

    def _before_reading(self, splits: Sequence[str]) -> None:
        """Check what all of the splits need."""

    @abstractmethod
    def _read(self, split: str, *, is_train: bool) -> Any:
        """Return the dataset of a split."""

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of predict_split; `index` in a batch tells which examples it holds."""
        return self.loader("predict")


def _listed(options: Mapping[str, Any]) -> str:
    return " and ".join(f"{name} {value}" for name, value in options.items())
