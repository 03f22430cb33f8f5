"""Both families of generators on a domain, for tests of what both promise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from generator.causal import CausalGenerator
from generator.domains.datamodule import DomainDataModule
from generator.model import RetrievalAugmentedGenerator
from tests.fakes import TINY
from tests.generator.causal_fakes import GPT2

SHORT = {"max_inp_seq_len": 64, "max_oup_seq_len": 16}


@dataclass(frozen=True, eq=False)
class WriterFamily:
    """Tiny models of one kind, and what the data is told for them."""

    name: str
    generator: type[Any]
    architecture: Mapping[str, Any]
    lengths: Mapping[str, Any]
    small: Mapping[str, Any]  # changes of the architecture that make it learn fast

    def build(self, **options: Any) -> Any:
        torch.manual_seed(0)
        architecture = {**self.architecture, **options.pop("architecture", {})}
        return self.generator(architecture, **{"num_beams": 1, **self.lengths, **options})

    def data(self, domain: str = "rectangle", **options: Any) -> DomainDataModule:
        few = {"num_train": 40, "num_val": 6, "num_test": 7, "num_proposals": 4, "batch_size": 8}
        return DomainDataModule(domain, dict(self.architecture), **{**few, **self.lengths, **options})


WRITERS = [
    WriterFamily(
        "encoder_decoder",
        RetrievalAugmentedGenerator,
        TINY,
        SHORT,
        {},
    ),
    WriterFamily(
        "decoder_only",
        CausalGenerator,
        {**GPT2, "n_positions": 160},
        {"template": "spec-program", "max_seq_len": 160, "max_completion_len": 16},
        {"n_layer": 1},
    ),
]
