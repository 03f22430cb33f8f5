"""RetrievalDataModule: files of LeanDojo Benchmark 4 (any release) to batches for a premise retriever."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from common import MAX_LENGTH, ConfigError, DataError, check_choice, check_positive
from retrieval.corpus import Corpus, positive_premises
from retrieval.dataset import RetrievalBatch, RetrievalDataset, RetrievalExample
from retrieval.encoder import PremiseText, premise_text
from retrieval.leandojo.traces import TracedTactics
from retrieval.negatives import Negatives
from retrieval.retrieved_negatives import RetrievedNegatives
from retrieval.training.datamodule import SPLITS, Split, SplitDataModule, check_splits, rank_of, text_or_none
from retrieval.training.options import flat, flat_options
from retrieval.training.round_trip import check_sample

__all__ = ["RetrievalBatch", "RetrievalDataModule", "RetrievalDataset", "RetrievalExample"]

_BUILD = "or make the built-in data, as configs/retrieval/quickstart.yaml says, in "


class RetrievalDataModule(SplitDataModule):
    """Batches of contexts of similar length from `<data_path>/{train,val,test}.json` and a corpus.

    Attributes:
        corpus: the premises, from `setup` on
        datasets: by what they serve: train, val, test, and predict-train, predict-val, predict-test
    """

    corpus: Corpus

    @flat_options
    def __init__(
        self,
        data_path: str,
        model_name: str | dict[str, Any],
        corpus_path: str | None = None,
        max_seq_len: int = 1024,
        *,
        premise_form: PremiseText = "marked",
        negatives: Negatives = Negatives(),
        predict_splits: list[Split] = list(SPLITS),  # noqa: B006 - never changed, and shown in --help
        **shared: Any,
    ) -> None:
        """Check and keep the options; nothing is read before `setup`.

        Args:
            data_path: folder of train.json, val.json and test.json, such as data/leandojo_benchmark_4/random
            model_name: whose tokenizer to use; see `common.load_tokenizer`
            corpus_path: the premises; corpus.jsonl beside the folder data_path if not given
            max_seq_len: tokens of a context or a premise, EOS included
            premise_form: how a premise is written. "marked": its code with the full name in place of its own, as in
                ReProver; "name_first": the full name, then the code; "name" or "code" alone
            negatives: premises that training adds to each example
            predict_splits: the splits that `predict` retrieves premises for
            **shared: see SplitDataModule

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        super().__init__(model_name, **shared)
        check_positive(MAX_LENGTH, max_seq_len=max_seq_len)
        check_choice("premise_form", premise_form, get_args(PremiseText))
        if not predict_splits:
            raise ConfigError(f"predict_splits is empty; name some of {', '.join(SPLITS)}")
        for split in predict_splits:
            check_choice("predict_splits", split, SPLITS)
        self.data_path = Path(data_path)
        self.corpus_path = Path(corpus_path) if corpus_path else self.data_path.parent / "corpus.jsonl"
        self.max_seq_len, self.premise_form = max_seq_len, premise_form
        self.negatives, self.predict_splits = negatives, list(predict_splits)
        self.keep(
            **flat(negatives),
            data_path=str(data_path),
            corpus_path=text_or_none(corpus_path),
            max_seq_len=max_seq_len,
            premise_form=premise_form,
            predict_splits=self.predict_splits,
        )

    # ----------------------------------------------------------------------------------------------
    # Data

    def setup(self, stage: str | None = None) -> None:
        """Read what a stage needs: "fit", "validate", "test" or "predict"; None needs all."""
        roles = [role for role in self._roles(stage) if role not in self.datasets]
        splits = sorted({role.removeprefix("predict-") for role in roles}, key=SPLITS.index)
        check_splits(self.data_path, splits, f"{_BUILD}{self.data_path.parent}")
        if not hasattr(self, "corpus"):
            self._load_corpus()
        for split in splits:
            self._read(split, [role for role in roles if role.removeprefix("predict-") == split])

    def _roles(self, stage: str | None) -> Sequence[str]:
        predicted = [f"predict-{split}" for split in self.predict_splits]
        return {
            "fit": ["train", "val"],
            "validate": ["val"],
            "test": ["test"],
            "predict": predicted,
            None: [*SPLITS, *predicted],
        }[stage]

    def _load_corpus(self) -> None:
        if not self.corpus_path.is_file():
            raise DataError(
                f"corpus_path {self.corpus_path}: there is no such file. Give the corpus.jsonl of the premises, "
                f"{_BUILD}{self.data_path.parent}"
            )
        self.corpus = Corpus(self.corpus_path)
        note = check_sample(
            self.tokenizer,
            len(self.corpus),
            lambda i: premise_text(self.corpus[i], self.premise_form),
            "premises",
            self.corpus_path,
        )
        found = f"{self.corpus_path}: {len(self.corpus):,} premises in {self.corpus.num_files:,} files"
        rank_zero_info("; ".join(filter(None, (found, note))))

    def _read(self, split: str, roles: Sequence[str]) -> None:
        traces = TracedTactics.load(self.data_path / f"{split}.json", progress=rank_of(self.trainer) == 0)
        if strange := sorted({step.provenance.file_path for step in traces} - self.corpus.paths):
            raise DataError(
                f"{traces.path}: {len(strange)} of its source files, first {strange[0]}, are not in "
                f"{self.corpus_path}, so what they import is not known; give the corpus that belongs to the data"
            )
        note = check_sample(self.tokenizer, len(traces), lambda i: traces[i].state, "states", traces.path)
        positives = positive_premises(traces, self.corpus)
        for role in roles:
            is_train = role == "train"
            dataset = RetrievalDataset(
                traces,
                positives,
                self.corpus,
                tokenizer=self.tokenizer,
                is_train=is_train,
                only_citing=not role.startswith("predict"),
                max_seq_len=self.max_seq_len,
                premise_form=self.premise_form,
                seed=self.batching.seed,
                negatives=self.negatives,
                retrieved=self._retrieved(traces, positives) if is_train else None,
            )
            if not len(dataset):
                raise DataError(f"{traces.summary()}; none of them cites a premise of {self.corpus_path}")
            self.datasets[role] = dataset
        num_citing = sum(map(bool, positives))
        rank_zero_info(
            f"{traces.summary()}; {num_citing:,} steps cite {sum(map(len, positives)):,} premises{note and '; '}{note}"
        )

    def _retrieved(self, traces: TracedTactics, positives: Sequence[Sequence[int]]) -> RetrievedNegatives | None:
        """What hard negatives are drawn from, if there are any."""
        folders, max_rank = self.negatives.hard_negatives_path, self.negatives.max_hard_rank
        if not folders:
            return None
        progress = rank_of(self.trainer) == 0
        return RetrievedNegatives(folders, self.corpus, traces, positives, max_rank, progress=progress)

    def predict_dataloader(self) -> list[DataLoader[Any]]:
        """All contexts of each of predict_splits, in their order, citing or not."""
        return [self.loader(f"predict-{split}") for split in self.predict_splits]
