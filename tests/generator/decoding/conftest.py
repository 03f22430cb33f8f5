"""A model of each family, with what the tests of both need of it."""

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from generator.decoding import beam_search, sample
from generator.decoding.causal_decoder import CausalDecoder
from generator.decoding.t5_decoder import T5Decoder
from tests.generator.decoding_fakes import MODELS


@dataclass
class Family:
    """A tiny random model, its public functions, and the class that decodes it."""

    name: str
    model: Any = field(init=False)

    def __post_init__(self) -> None:
        self.model = MODELS[self.name]()
        self.beam_search, self.sample = partial(beam_search, self.model), partial(sample, self.model)
        self.is_encoder_decoder = self.name == "encoder-decoder"
        self.decoder_class: Any = T5Decoder if self.is_encoder_decoder else CausalDecoder

    @property
    def block(self) -> Any:
        """The last layer that writes."""
        return self.model.decoder.block[1] if self.is_encoder_decoder else self.model.transformer.h[1]


@pytest.fixture(params=list(MODELS))
def family(request: pytest.FixtureRequest) -> Family:
    return Family(request.param)
