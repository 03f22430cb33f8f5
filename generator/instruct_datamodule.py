"""InstructDataModule: instruct data or LeanDojo Benchmark files to batches for a decoder-only generator."""

from __future__ import annotations

from glob import has_magic
from pathlib import Path
from typing import Any

import numpy as np

from common import ConfigError, DataError
from generator.data.inputs import HeadingWriter, InputParts
from generator.data.instruct_batch import InstructBatch, InstructExample
from generator.data.instruct_dataset import InstructDataset, PromptFormat
from generator.data.instruct_records import DataPath, InstructRecords, find_split_files
from generator.data.packing import PackedDataset
from generator.data.prompted_steps import Background, InstructSteps, PromptedSteps, TracedSteps
from generator.data.state_lines import PromptWriter
from generator.data.step_datamodule import StepDataModule
from generator.prompts.source_files import SourceFiles
from generator.prompts.templates import TEMPLATES, PromptTemplate, get_template
from retrieval.leandojo.text_column import TextColumn
from retrieval.leandojo.traces import TracedTactics
from retrieval.predictions.retrieved import RetrievedPremises
from retrieval.training.datamodule import SPLITS, check_splits, missing_splits, text_or_none
from retrieval.training.options import flat, flat_options

__all__ = ["InstructBatch", "InstructDataModule", "InstructDataset", "InstructExample"]


class InstructDataModule(StepDataModule):
    """Batches of similar length, or of packed rows, from prompts and completions."""

    @flat_options
    def __init__(
        self,
        data_path: DataPath,
        model_name: str | dict[str, Any],
        *,
        format: PromptFormat = PromptFormat(),
        parts: InputParts = InputParts(),
        packing: bool = False,
        skip_invalid: bool = False,
        sources_path: str | None = None,
        **shared: Any,
    ) -> None:
        """Check and keep the options; nothing is read before `prepare_data` and `setup`.

        Args:
            data_path: a folder of LeanDojo Benchmark files (train.json, val.json, test.json); or instruct data
                (.jsonl, .jsonl.gz; prompts and completions, or states and tactics, see generator.data.state_lines): a
                folder, a file or glob, several of these, or a mapping from train, val and test to these. Without a
                mapping file names tell the split; see `find_split_files` in generator.data.instruct_records.
            model_name: whose tokenizer to use; see `common.load_tokenizer`
            format: how prompts are written and how long they may be
            parts: what prompts tell beside states and premises; the template has to have a place for it
            packing: fill the rows of training batches with several examples each
            skip_invalid: leave out and count lines of instruct data that are broken, instead of stopping
            sources_path: folder in which the file paths of LeanDojo data begin, such as a checkout of Mathlib: prompts
                tell what stands in the file before the theorem, as far as it fits; see the template
            **shared: see StepDataModule

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        data_path, sources_path = _plain(data_path), text_or_none(sources_path)
        super().__init__(data_path, model_name, **shared)
        if self.built_in.dataset is not None and not isinstance(data_path, str):
            raise ConfigError(
                f"dataset={self.built_in.dataset} is made in one folder, but data_path is {data_path}; name a folder"
            )
        self.data_path: DataPath = data_path
        self.format, self.packing, self.skip_invalid, self.sources_path = format, packing, skip_invalid, sources_path
        self.parts, self.template = parts, None if format.template is None else get_template(format.template)
        if self._has_background:
            self._check_background()
        check_heading(parts, self.template)
        self.keep(**flat(format, parts), packing=packing, skip_invalid=skip_invalid, sources_path=sources_path)

    def _check_background(self) -> None:
        """Raise ConfigError unless prompts have places for what they are to tell."""
        if self.template is None:
            raise ConfigError("corpus_path and sources_path need a template, which has places for what they add")
        if self.packing:
            raise ConfigError(
                "packing joins short prompts, but those with premises or file context fill their rows alone; leave out "
                "packing, or corpus_path and sources_path"
            )
        if self.retrieved.corpus_path is not None:
            self.template.check_place_for("premises", "corpus_path")
        if self.sources_path is not None:
            self.template.check_place_for("context", "sources_path")

    @property
    def _steps_read(self) -> list[PromptedSteps]:
        return [(d.examples if isinstance(d, PackedDataset) else d).steps for d in self.datasets.values()]

    @property
    def has_leandojo_tactics(self) -> bool:
        """See `StepDataModule`."""
        return any(isinstance(steps, TracedSteps) for steps in self._steps_read)

    @property
    def found_templates(self) -> set[str | None]:
        """Names of the templates of the prompts read so far; None stands for those of no template known here."""
        found = set().union(*(steps.templates for steps in self._steps_read))
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
            max_seq_len=self.format.max_seq_len,
            max_completion_len=self.format.max_completion_len,
            is_train=is_train,
            p_drop=self.retrieved.p_drop,
            seed=self.batching.seed,
            progress=self._progress,
        )
        if not len(examples):
            raise DataError(f"{examples.summary()}; nothing is left to read. Choose another data_path")
        return PackedDataset(examples, self.batching.seed) if is_train and self.packing else examples

    def _steps(self, split: str) -> PromptedSteps:
        """The steps of a split, in whichever form they are there."""
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
            traces = TracedTactics.load(folder / f"{split}.json", progress=self._progress, **flat(self.tactic_text))
            return TracedSteps(traces, self.template, self._background(traces), self._headings(traces))
        if not files and folder is not None:
            check_splits(folder, [split], f"or to .jsonl files with {split} in their names")
        if not files:
            raise DataError(
                f"data_path {self.data_path}: none of its files is of split {split}; their names have the word "
                "train, val, dev or test, or data_path maps splits to files"
            )
        if self._has_background or self.parts.reads_theorem:
            raise ConfigError(
                f"{files[0]}: instruct data has its prompts whole; leave out corpus_path, sources_path, nearest_path "
                "and tell_theorem, or read LeanDojo Benchmark files"
            )
        writer = PromptWriter(self.template, self.format.max_seq_len)
        records = InstructRecords.load(files, skip_invalid=self.skip_invalid, progress=self._progress, writer=writer)
        return InstructSteps(records, self.template)

    @property
    def _has_background(self) -> bool:
        """Whether prompts are to tell premises or file context."""
        return self.retrieved.corpus_path is not None or self.sources_path is not None

    def _headings(self, traces: TracedTactics) -> TextColumn | None:
        """Headings of the prompts of a split, where they are asked for."""
        if not self.parts.reads_theorem:
            return None
        return HeadingWriter(self.parts, self.format.max_prompt_len).all_of(traces, progress=self._progress)

    def _background(self, traces: TracedTactics) -> Background | None:
        """Premises and file context of the steps of a split, where they are asked for."""
        if not self._has_background:
            return None
        premises = None
        if self.retrieved_premises:
            steps = np.arange(len(traces))
            premises = RetrievedPremises(traces=traces, steps=steps, progress=self._progress, **self.retrieved_premises)
        sources = None if self.sources_path is None else SourceFiles(self.sources_path)
        return Background(traces, premises, sources, self._progress)


def check_heading(parts: InputParts, template: PromptTemplate | None) -> None:
    """Raise ConfigError if prompts are to have a heading and their template has no place for it."""
    if not parts.reads_theorem:
        return
    option = "tell_theorem" if parts.nearest_path is None else "nearest_path"
    if template is None:
        raise ConfigError(f"{option} needs a template that has a place for it; set template to nextstep")
    template.check_place_for("heading", option)


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
