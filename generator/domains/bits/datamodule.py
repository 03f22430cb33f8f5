"""New bits for every step, by (seed, epoch, index), so that resuming and the number of workers change nothing.

Shape legend: B batch, T symbols of a specification, n bits of an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor

from common import ConfigError
from generator.domains.base import Problem
from generator.domains.bits.tasks import BitTask
from generator.domains.datamodule import DomainDataModule, ProblemOptions
from generator.domains.encodings import Encoding, Lengths
from retrieval.leandojo.provenance import Provenance, ProvenanceLists, provenance_lists
from retrieval.training.datamodule import Batching, Split
from retrieval.training.options import flat_options


class BitBatch(ProvenanceLists):
    """Problems of one length.

    Attributes:
        inputs: symbols of the specifications by their numbers, int64 (B, T)
        targets: bits of the answers, int64 (B, n)
        state: texts of the specifications
        tactic: texts of the answers
        index: of the examples in their dataset
    """

    inputs: Tensor
    targets: Tensor
    state: list[str]
    tactic: list[str]
    index: list[int]


class BitDataModule(DomainDataModule):
    """Problems of a bit task, as numbers, for `BitModel`; a text model takes them from `DomainDataModule`."""

    @flat_options
    def __init__(
        self,
        domain: str = "bit_xor",
        *,
        problems: ProblemOptions = ProblemOptions(),
        batching: Batching = Batching(),
        predict_split: Split = "test",
    ) -> None:
        """Check and keep the options.

        Args:
            domain: bit_xor or bit_memory
            problems: which there are; an epoch of training draws `num_train` new ones
            batching: how examples become batches; the slides' own have one each
            predict_split: the split that `predict` reads

        Raises:
            ConfigError: if an option has a value that cannot be used
        """
        super().__init__(domain, "", problems=problems, batching=batching, num_proposals=0, predict_split=predict_split)
        if not isinstance(self.domain, BitTask):
            raise ConfigError(f"domain is {domain!r}; BitDataModule draws bit_xor or bit_memory")

    @cached_property
    def encoding(self) -> Encoding:
        """How problems become examples."""
        assert isinstance(self.domain, BitTask)
        return BitEncoding(self.domain)

    def _check_model(self, model: pl.LightningModule) -> None:
        task = getattr(model, "task", None)
        if not isinstance(task, BitTask):
            raise ConfigError(
                f"BitDataModule gives numbers, which {type(model).__name__} does not read; train BitModel, or take "
                "generator.domains.datamodule.DomainDataModule"
            )
        if task.name != self.domain.name:
            raise ConfigError(f"the model is for {task.name}, but the data is of {self.domain.name}")


class BitEncoding(Encoding):
    """Symbols as numbers."""

    def __init__(self, task: BitTask) -> None:
        self.task = task

    def lengths(self, problems: Sequence[Problem]) -> Lengths:
        """See `Encoding`."""
        sources = [len(problem.spec) - problem.spec.count(" ") for problem in problems]
        targets = [len(problem.program) for problem in problems]
        return np.array(sources, dtype=np.int64), np.array(targets, dtype=np.int64)

    def example(self, problem: Problem, provenance: Provenance, index: int) -> tuple[Problem, Provenance, int]:
        """See `Encoding`."""
        return problem, provenance, index

    def collate(self, examples: Sequence[Any]) -> dict[str, Any]:
        """Return a `BitBatch` of problems of one length.

        Raises:
            ConfigError: if they differ in it, as those of a file may
        """
        problems, places, index = map(list, zip(*examples, strict=True))
        return {
            **tensors_of(self.task, [p.spec for p in problems], [p.program for p in problems]),
            **provenance_lists(places),
            "index": index,
        }


def tensors_of(task: BitTask, specs: Sequence[str], programs: Sequence[str]) -> dict[str, Any]:
    """Return what a batch holds, but for where it is from.

    Raises:
        ConfigError: if the problems differ in length
    """
    shapes = {(len(spec), spec.count(" ")) for spec in specs}
    if len(shapes) > 1:
        raise ConfigError("problems of one batch differ in length; generate files with one n and num_patterns")
    inputs = np.stack([task.symbol_ids(spec) for spec in specs])
    targets = np.stack([task.symbol_ids(program) for program in programs])
    return {
        "inputs": torch.from_numpy(inputs),
        "targets": torch.from_numpy(targets),
        "state": list(specs),
        "tactic": list(programs),
    }
