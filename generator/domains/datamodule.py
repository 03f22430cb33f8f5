"""DomainDataModule: any domain to batches for any generator, drawn as training goes on or read from files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info
from torch.utils.data import DataLoader

from common import ConfigError, check_choice, check_positive
from generator.causal import CausalGenerator
from generator.data.dataset import InputLimits
from generator.data.instruct_dataset import PromptFormat
from generator.domains import make_domain
from generator.domains.base import Domain, Problem
from generator.domains.dataset import DomainDataset, FreshDataset
from generator.domains.encodings import Encoding, PromptCompletion, SourceTarget
from generator.domains.model_writer import MAX_BLOCK
from generator.domains.problem_files import DEFAULT_SIZES, read_split
from generator.domains.solved_in_training import Judging, SolvedInTraining
from retrieval.training.datamodule import ROLES, SPLITS, Split, SplitDataModule, text_or_none
from retrieval.training.options import flat, flat_options


@dataclass(frozen=True)
class ProblemOptions:
    """Which problems of a domain there are.

    Attributes:
        domain_options: what the domain is told, such as max_examples: 10 of rectangle
        data_path: folder that `python -m generator.domains generate` made, or a list of such folders, which may be of
            domains that are akin; without one, problems are drawn on the spot
        num_train: problems of an epoch; of each folder all by default, else 20,000
        num_val: problems of validation; of each folder all by default, else 500
        num_test: problems of test; of each folder all by default, else 1000
        fresh: draw new problems in every epoch, instead of the same ones; not from a folder
    """

    domain_options: dict[str, Any] | None = None
    data_path: str | list[str] | None = None
    num_train: int | None = None
    num_val: int | None = None
    num_test: int | None = None
    fresh: bool = True

    def __post_init__(self) -> None:
        check_positive(num_train=self.num_train, num_val=self.num_val, num_test=self.num_test)
        paths = self.data_path
        if isinstance(paths, list) and not (paths and len(set(map(str, paths))) == len(paths)):
            raise ConfigError(f"data_path is {paths}; give at least one folder, and each once")
        object.__setattr__(self, "data_path", [*map(str, paths)] if isinstance(paths, list) else text_or_none(paths))

    @property
    def folders(self) -> list[Path]:
        """Where problems are read from."""
        paths = self.data_path
        return [Path(path) for path in ([paths] if isinstance(paths, str) else paths or [])]


class DomainDataModule(SplitDataModule):
    """Specifications and programs of a domain; validation and test also draw programs and check them.

    Attributes:
        domain: what they are of
        problems: which there are
    """

    @flat_options
    def __init__(
        self,
        domain: str,
        model_name: str | dict[str, Any],
        *,
        problems: ProblemOptions = ProblemOptions(),
        limits: InputLimits = InputLimits(),
        format: PromptFormat = PromptFormat(),
        num_proposals: int = 20,
        judging: Judging = Judging(),
        predict_split: Split = "test",
        **shared: Any,
    ) -> None:
        """Check and keep the options; nothing is drawn or read before `setup`.

        Args:
            domain: its name, see `generator.domains.DOMAINS`
            model_name: whose tokenizer to use; see `common.load_tokenizer`
            problems: which there are
            limits: how long specifications and programs may be, for encoder-decoders
            format: how specifications become prompts, and how long they may be, for decoder-only models, which need a
                template, such as spec-program
            num_proposals: programs that validation and test propose for each problem, for the shares of problems solved
                within 1, 10, 20, 50 and this many; 0 proposes none
            judging: which programs these are, and of which problems
            predict_split: the split that `predict` reads
            **shared: see SplitDataModule

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        super().__init__(model_name, **shared)
        check_choice("predict_split", predict_split, SPLITS)
        if not 0 <= num_proposals <= MAX_BLOCK:
            raise ConfigError(f"num_proposals is {num_proposals}; it must be from 0 to {MAX_BLOCK}")
        self.domain: Domain[Any, Any] = make_domain(domain, problems.domain_options)
        self.problems, self.limits, self.format = problems, limits, format
        self.num_proposals, self.judging, self.predict_split = num_proposals, judging, predict_split
        self.keep(
            **flat(problems, limits, format, judging),
            domain=domain,
            num_proposals=num_proposals,
            predict_split=predict_split,
        )

    @cached_property
    def encoding(self) -> Encoding:
        """How problems become examples: prompts where there is a template."""
        if self.format.template is None:
            return SourceTarget(self.tokenizer, self.limits)
        return PromptCompletion(self.tokenizer, self.format)

    def setup(self, stage: str | None = None) -> None:
        """Draw or read what a stage needs: "fit", "validate", "test" or "predict"; None needs all.

        Raises:
            ConfigError: if the model reads other batches than the options make
        """
        if self.trainer is not None:
            self._check_model(self.trainer.lightning_module)
            self._judge(self.trainer)
        for role in ROLES[stage]:
            if role not in self.datasets:
                split: Split = self.predict_split if role == "predict" else role  # type: ignore[assignment]
                self.datasets[role] = self._dataset(split, is_train=role == "train")
                rank_zero_info(self.datasets[role].summary())

    def _check_model(self, model: pl.LightningModule) -> None:
        if isinstance(model, CausalGenerator) and self.format.template is None:
            raise ConfigError(
                "the model is decoder-only, so specifications become prompts; set data.template to spec-program"
            )
        if not isinstance(model, CausalGenerator) and self.format.template is not None:
            raise ConfigError(
                f"template is {self.format.template!r}, but the model reads specifications as they are; leave it out, "
                "or train generator.causal.CausalGenerator"
            )

    def _judge(self, trainer: pl.Trainer) -> None:
        """Let evaluation draw and check programs, unless the configuration has its own callback for that."""
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if self.num_proposals and not any(isinstance(each, SolvedInTraining) for each in callbacks):
            callbacks.insert(0, SolvedInTraining(self.num_proposals, judging=self.judging))

    def _dataset(self, split: Split, *, is_train: bool) -> DomainDataset:
        options, seed = self.problems, self.batching.seed
        count: int | None = getattr(options, f"num_{split}")
        if is_train and options.fresh and options.data_path is None:
            return FreshDataset(self.domain, split, self.encoding, count or DEFAULT_SIZES[split], seed)
        return DomainDataset(self.domain, split, self.encoding, self._read(split, count))

    def _read(self, split: Split, count: int | None) -> list[Problem]:
        folders = self.problems.folders
        if not folders:
            return self.domain.problems(self.batching.seed, split, count or DEFAULT_SIZES[split])
        found = [problem for folder in folders for problem in self._read_folder(folder, split, count)]
        return self._without_held_out(found) if split == "train" and len(folders) > 1 else found

    def _read_folder(self, folder: Path, split: Split, count: int | None = None) -> list[Problem]:
        found = read_split(folder, split, self.domain)
        if count is not None and count > len(found):
            raise ConfigError(f"num_{split} is {count:,}, but {folder} has {len(found):,} problems of {split}")
        return found[:count]

    def _without_held_out(self, problems: list[Problem]) -> list[Problem]:
        """Leave out of training what another folder holds out; of one folder, its domain.json tells what is in both."""
        specs = {problem.spec for problem in problems}
        for folder in self.problems.folders:
            for split in ("val", "test"):
                specs -= {problem.spec for problem in self._read_folder(folder, split)}
        kept = [problem for problem in problems if problem.spec in specs]
        if len(kept) < len(problems):
            rank_zero_info(
                f"{len(problems) - len(kept):,} problems of train are left out: they are in val or test of a folder"
            )
        return kept

    def predict_dataloader(self) -> DataLoader[Any]:
        """Batches of predict_split; `index` in a batch tells which examples it holds."""
        return self.loader("predict")
