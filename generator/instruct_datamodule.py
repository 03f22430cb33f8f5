"""InstructDataModule: instruct data or LeanDojo Benchmark files to batches for a decoder-only generator."""

from __future__ import annotations

from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np

from common import ConfigError, DataError
from generator.data.instruct_batch import InstructBatch, InstructExample
from generator.data.instruct_dataset import InstructDataset, check_limits
from generator.data.instruct_records import DataPath, InstructRecords, find_split_files
from generator.data.known_datasets import KnownDataset
from generator.data.packing import PackedDataset
from generator.data.prompted_steps import Background, InstructSteps, PromptedSteps, TracedSteps
from generator.data.step_datamodule import StepDataModule, text_or_none
from generator.environments.propositional_benchmark import DEFAULT_THEOREMS
from generator.prompts.source_files import SourceFiles
from generator.prompts.templates import TEMPLATES, get_template
from retrieval.leandojo.traces import TracedTactics
from retrieval.predictions.retrieved import RetrievedPremises
from retrieval.training.datamodule import SPLITS, Split, check_splits, missing_splits, rank_of

__all__ = ["InstructBatch", "InstructDataModule", "InstructDataset", "InstructExample"]


class InstructDataModule(StepDataModule):
    """Batches of similar length, or of packed rows, from prompts and completions."""

    def __init__(
        self,
        data_path: DataPath,
        model_name: str | dict[str, Any],
        template: str | None = None,
        max_seq_len: int = 2048,
        max_completion_len: int = 256,
        batch_size: int | None = None,
        max_tokens_per_batch: int | None = None,
        batches_per_pool: int = 200,
        eval_batch_size: int = 64,
        packing: bool = False,
        num_workers: int = 0,
        seed: int = 3407,
        predict_split: Split = "test",
        skip_invalid: bool = False,
        normalize_tactics: bool = True,
        dataset: KnownDataset | None = None,
        num_theorems: int = DEFAULT_THEOREMS,
        corpus_path: str | None = None,
        preds_path: str | None = None,
        p_drop: float = 0.5,
        sources_path: str | None = None,
    ) -> None:
        """Check and keep the options; nothing is read before `prepare_data` and `setup`.

        Args:
            data_path: a folder of LeanDojo Benchmark files (train.json, val.json, test.json); or instruct data
                (.jsonl, .jsonl.gz): a folder, a file or glob, several of these, or a mapping from train, val and
                test to these. Without a mapping file names tell the split; see `find_split_files` in
                generator.data.instruct_records.
            model_name: whose tokenizer to use; see `common.load_tokenizer`
            template: how prompts and completions are written, see `generator.prompts`; None leaves those of
                instruct data as they are, and LeanDojo data needs one
            max_seq_len: tokens of prompt, completion and EOS together
            max_completion_len: tokens of a completion, EOS included; longer ones are left out of training. Prompts
                have the rest of max_seq_len.
            batch_size: rows in a training batch, at most; 8 if max_tokens_per_batch is not given either
            max_tokens_per_batch: padded tokens in a training batch, at most
            batches_per_pool: how many training batches are sorted by length together
            eval_batch_size: examples in a batch of validation, test and prediction, at most
            packing: fill the rows of training batches with several examples each
            num_workers: processes that prepare batches of each split; 0 prepares them in this one
            seed: of the order of examples, of packing, and of the propositional dataset
            predict_split: the split that `predict` reads
            skip_invalid: leave out and count lines of instruct data that are broken, instead of stopping
            normalize_tactics: write each run of white space in a tactic of LeanDojo data as one space
            dataset: what `prepare_data` gets where data_path has no splits: "propositional" is built on the
                spot, "leandojo_benchmark_4" is downloaded; without it the data must be there
            num_theorems: size of the propositional dataset
            corpus_path: corpus.jsonl of the premises that prompts of LeanDojo data are to tell; see the template
            preds_path: folder that `python -m retrieval.main predict` wrote
            p_drop: probability of leaving out each retrieved premise, in training
            sources_path: folder in which the file paths of LeanDojo data begin, such as a checkout of Mathlib: prompts
                tell what stands in the file before the theorem, as far as it fits; see the template

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        super().__init__()
        data_path, sources_path = _plain(data_path), text_or_none(sources_path)
        corpus_path, preds_path = text_or_none(corpus_path), text_or_none(preds_path)
        model_name = model_name if isinstance(model_name, dict) else str(model_name)
        # saved with checkpoints, which load with weights_only=True: plain values only
        self.save_hyperparameters(logger=False)
        self._check_batches()
        self._check_source()
        check_limits(max_seq_len, max_completion_len)
        if dataset is not None and not isinstance(data_path, str):
            raise ConfigError(f"dataset={dataset} is made in one folder, but data_path is {data_path}; name a folder")
        self.template = None if template is None else get_template(template)
        if self._has_background:
            self._check_background()
        self.data_path: DataPath = data_path

    def _check_background(self) -> None:
        """Raise ConfigError unless prompts have places for what they are to tell."""
        if self.template is None:
            raise ConfigError("corpus_path and sources_path need a template, which has places for what they add")
        if self.hparams["packing"]:
            raise ConfigError(
                "packing joins short prompts, but those with premises or file context fill their rows alone; leave out "
                "packing, or corpus_path and sources_path"
            )
        for option, field in (("corpus_path", "premises"), ("sources_path", "context")):
            if self.hparams[option] is not None:
                self.template.check_place_for(field, option)

    @property
    def found_templates(self) -> set[str | None]:
        """Names of the templates of the prompts read so far; None stands for those of no template known here."""
        datasets = [d.examples if isinstance(d, PackedDataset) else d for d in self.datasets.values()]
        found = set().union(*(dataset.steps.templates for dataset in datasets))
        return {None if template is None else template.name for template in found}

    def setup(self, stage: str | None = None) -> None:
        """See `StepDataModule`.

        Raises:
            ConfigError: if prompts are of several templates, of which a model can be asked with one only
        """
        super().setup(stage)
        if len(self.found_templates) > 1:
            names = sorted(name or "a format that no template here writes" for name in self.found_templates)
            raise ConfigError(
                f"data_path {self.data_path}: prompts are of several templates ({', '.join(names)}); set template, in "
                "which all that are known are rewritten, or name files of one"
            )

    # ----------------------------------------------------------------------------------------------
    # Data

    def prepare_data(self) -> None:
        """Get the dataset if there is no instruct data and a split is missing; see `get_dataset`."""
        if not any(_instruct_files(self.data_path, split) for split in SPLITS):
            super().prepare_data()

    def _read(self, split: str, *, is_train: bool) -> InstructDataset | PackedDataset:
        examples = InstructDataset(
            self._steps(split),
            tokenizer=self.tokenizer,
            max_seq_len=self.hparams["max_seq_len"],
            max_completion_len=self.hparams["max_completion_len"],
            is_train=is_train,
            p_drop=self.hparams["p_drop"],
            seed=self.hparams["seed"],
            progress=rank_of(self.trainer) == 0,
        )
        if not len(examples):
            raise DataError(f"{examples.summary()}; nothing is left to read. Choose another data_path")
        return PackedDataset(examples, self.hparams["seed"]) if is_train and self.hparams["packing"] else examples

    def _steps(self, split: str) -> PromptedSteps:
        """The steps of a split, in whichever form they are there."""
        progress = rank_of(self.trainer) == 0
        files, folder = _instruct_files(self.data_path, split), _leandojo_folder(self.data_path)
        if folder is not None and not missing_splits(folder, [split]):
            if files:
                raise DataError(
                    f"data_path {folder} holds both {split}.json and {files[0].name}; name the file to read"
                )
            if self.template is None:
                raise ConfigError(
                    f"{folder / f'{split}.json'} holds states without prompts; set template to one of "
                    f"{', '.join(TEMPLATES)}"
                )
            traces = TracedTactics.load(
                folder / f"{split}.json", normalize_tactics=self.hparams["normalize_tactics"], progress=progress
            )
            return TracedSteps(traces, self.template, self._background(traces))
        if not files and folder is not None:
            check_splits(folder, [split], f"or to .jsonl files with {split} in their names")
        if not files:
            raise DataError(
                f"data_path {self.data_path}: none of its files is of split {split}; their names have the word "
                "train, val, dev or test, or data_path maps splits to files"
            )
        if self._has_background:
            raise ConfigError(
                f"{files[0]}: instruct data has its prompts whole; leave out corpus_path and sources_path, or read "
                "LeanDojo Benchmark files"
            )
        records = InstructRecords.load(files, skip_invalid=self.hparams["skip_invalid"], progress=progress)
        return InstructSteps(records, self.template)

    @property
    def _has_background(self) -> bool:
        """Whether prompts are to tell premises or file context."""
        return self.hparams["corpus_path"] is not None or self.hparams["sources_path"] is not None

    def _background(self, traces: TracedTactics) -> Background | None:
        """Premises and file context of the steps of a split, where they are asked for."""
        if not self._has_background:
            return None
        premises, sources, progress = None, None, rank_of(self.trainer) == 0
        if self._retrieved:
            steps = np.arange(len(traces))
            premises = RetrievedPremises(traces=traces, steps=steps, progress=progress, **self._retrieved)
        if self.hparams["sources_path"] is not None:
            sources = SourceFiles(self.hparams["sources_path"])
        return Background(traces, premises, sources, progress)


def _plain(data_path: Any) -> DataPath:
    """Return paths as texts."""
    if isinstance(data_path, dict):
        return {str(split): _plain(entry) for split, entry in data_path.items()}  # type: ignore[misc]
    return [str(path) for path in data_path] if isinstance(data_path, list | tuple) else str(data_path)


def _leandojo_folder(data_path: DataPath) -> Path | None:
    """The folder that may hold LeanDojo Benchmark files."""
    if not isinstance(data_path, str) or has_magic(data_path) or ".jsonl" in Path(data_path).suffixes:
        return None
    return Path(data_path)


def _instruct_files(data_path: DataPath, split: str) -> list[Path]:
    """The instruct data of a split, none where there is no such folder."""
    folder = _leandojo_folder(data_path)
    return [] if folder is not None and not folder.is_dir() else find_split_files(data_path, split)
