"""What is particular to decoding T5-family models: their layers are read, not called, unless they are adapters."""

import pytest
import torch

from common import ConfigError
from generator.decoding import beam_search
from tests.generator.decoding_fakes import BEAMS, assert_close, random_t5


class Doubling(torch.nn.Module):
    """An adapter of a layer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, hidden):
        return 2 * self.layer(hidden)


def test_layers_that_are_not_plain_are_called(batch):
    """Reading the weight of a layer that an adapter wraps would silently leave the adapter out."""
    model, doubled = random_t5(), random_t5()
    attention = model.decoder.block[0].layer[0].SelfAttention
    attention.v = Doubling(attention.v)
    with torch.no_grad():
        doubled.decoder.block[0].layer[0].SelfAttention.v.weight.mul_(2)
    assert_close(beam_search(model, *batch, **BEAMS), beam_search(doubled, *batch, **BEAMS))


def test_no_start_token(batch):
    model = random_t5()
    model.config.decoder_start_token_id = model.generation_config.decoder_start_token_id = None
    with pytest.raises(ConfigError, match="decoder_start_token_id is not set"):
        beam_search(model, *batch, **BEAMS)
