"""The two families of generators, for tests of what both promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from common import Context, Pos
from generator.causal import CausalGenerator
from generator.datamodule import GeneratorDataModule
from generator.instruct_datamodule import InstructDataModule
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import EIGHT, TINY, quiet_trainer, write_splits
from tests.generator.causal_fakes import GPT2, SIZES

LIMITS = {"max_inp_seq_len": 128, "max_oup_seq_len": 48}
PLACE = ("A.lean", "t", (1, 1))  # a file, a theorem in it, and where it begins
TACTIC_OF = dict(EIGHT)


@dataclass(frozen=True, eq=False)
class Family:
    """Generators of one kind, tiny and from scratch, and the data that they read.

    Attributes:
        name: for the ids of tests
        generator: the class
        data_module: the class that reads its data
        architecture: of a tiny model
        dropout: what turns dropout on in an architecture
        model_options: of `build`, unless others are given
        data_options: of `data`, unless others are given
        lengths: the options that limit lengths, and what they are unless others are given
        inputs: what of a batch `forward` takes, in its order
        lesson: how `learn` builds a model
        num_epochs: in which it learns eight steps by heart
    """

    name: str
    generator: type[Any]
    data_module: type[Any]
    architecture: Mapping[str, Any]
    dropout: Mapping[str, float]
    lengths: Mapping[str, int]
    inputs: tuple[str, ...]
    lesson: Mapping[str, Any]
    num_epochs: int
    model_options: Mapping[str, Any] = field(default_factory=dict)
    data_options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def class_name(self) -> str:
        return f"{self.generator.__module__}.{self.generator.__qualname__}"

    def build(self, architecture: Any = None, **options: Any) -> Any:
        """A model with the same weights at each call."""
        torch.manual_seed(0)
        architecture = dict(self.architecture) if architecture is None else architecture
        return self.generator(architecture, **{"num_beams": 4, **self.lengths, **self.model_options, **options})

    def data(self, path: Path | str, **options: Any) -> Any:
        """Batches of eight of the steps in a folder of LeanDojo data."""
        defaults = {"batch_size": 8, **self.lengths, **self.data_options}
        return self.data_module(str(path), dict(self.architecture), **{**defaults, **options})

    @property
    def data_class_name(self) -> str:
        return f"{self.data_module.__module__}.{self.data_module.__qualname__}"

    def learn(self, folder: Path) -> Learnt:
        """Train a model until it knows the eight steps by heart, and validate it once."""
        lesson, path = dict(self.lesson), write_splits(folder / "eight")
        model = self.build(lesson.pop("architecture", None), **lesson)
        once = {"max_epochs": self.num_epochs, "check_val_every_n_epoch": self.num_epochs}
        trainer = quiet_trainer(folder, **once)
        trainer.fit(model, self.data(path))
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        trainer.save_checkpoint(folder / "learnt.ckpt")
        return Learnt(model.eval(), path, metrics, folder / "learnt.ckpt")


@dataclass(frozen=True, eq=False)
class Learnt:
    """A model that knows EIGHT by heart.

    Attributes:
        model: in evaluation mode; several tests share it
        data_path: what it learnt from
        metrics: of the validation at the end of training
        checkpoint: written at the end of training
    """

    model: Any
    data_path: Path
    metrics: Mapping[str, float]
    checkpoint: Path


def ask(model: Any, states: list[str], num_samples: int) -> list[list[tuple[str, float]]]:
    """The candidates of a generator for states of one theorem."""
    count = len(states)
    found: list[list[tuple[str, float]]] = model.batch_generate(
        states, ["A.lean"] * count, ["t"] * count, [(1, 1)] * count, num_samples
    )
    return found


def context(state: str) -> Context:
    return Context("A.lean", "t", Pos(1, 1), state)


def training_batches(module: Any) -> Any:
    """The loader of the training data, which is read for it."""
    module.setup("fit")
    return module.train_dataloader()


ENCODER_DECODER = Family(
    name="encoder_decoder",
    generator=RetrievalAugmentedGenerator,
    data_module=GeneratorDataModule,
    architecture=TINY,
    dropout={"dropout_rate": 0.1},
    lengths=LIMITS,
    inputs=("state_ids", "state_mask", "tactic_ids"),
    lesson={
        "architecture": {**TINY, "d_model": 64, "num_layers": 1, "num_decoder_layers": 1},
        "lr": 3e-3,
        "warmup_steps": 10,
    },
    num_epochs=250,
)

DECODER_ONLY = Family(
    name="decoder_only",
    generator=CausalGenerator,
    data_module=InstructDataModule,
    architecture=GPT2,
    dropout={"resid_pdrop": 0.1, "embd_pdrop": 0.1, "attn_pdrop": 0.1},
    lengths=SIZES,
    inputs=("input_ids", "attention_mask", "labels"),
    # without a template, which the data tells
    lesson={"template": None, "lr": 3e-3, "optimizer": "muon", "lr_decay": 0.5, "warmup_steps": 10},
    num_epochs=150,
    model_options={"template": "llmstep"},
    data_options={"template": "llmstep"},
)

FAMILIES = {family.name: family for family in (ENCODER_DECODER, DECODER_ONLY)}
