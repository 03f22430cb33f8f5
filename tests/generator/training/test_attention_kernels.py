"""Kernels that are planned anew for each shape are left out where shapes vary, and only there."""

import pytest
import torch

from generator.decoding import Decoding, decode
from generator.training.next_step_generator import NextStepGenerator
from retrieval.training.attention_kernels import varying_shapes
from tests.fakes import quiet_trainer, write_splits
from tests.generator.decoding_fakes import MODELS, ragged_batch, states_of
from tests.generator.families import FAMILIES


@pytest.fixture
def seen(monkeypatch):
    """Whether cuDNN was allowed at each call of attention."""
    noted, attention = [], torch.nn.functional.scaled_dot_product_attention

    def watched(*args, **options):
        noted.append(torch.backends.cuda.cudnn_sdp_enabled())
        return attention(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    return noted


def test_it_is_as_before_behind_the_block_and_behind_an_error():
    assert torch.backends.cuda.cudnn_sdp_enabled()
    with pytest.raises(KeyError), varying_shapes():
        assert not torch.backends.cuda.cudnn_sdp_enabled()
        raise KeyError
    assert torch.backends.cuda.cudnn_sdp_enabled()
    torch.backends.cuda.enable_cudnn_sdp(False)
    try:
        with varying_shapes():
            pass
        assert not torch.backends.cuda.cudnn_sdp_enabled()
    finally:
        torch.backends.cuda.enable_cudnn_sdp(True)


@pytest.mark.parametrize("name", MODELS)
def test_decoding_leaves_them_out(name, seen):
    decode(MODELS[name](), states_of(ragged_batch()), 2, Decoding(4))
    assert seen and not any(seen)


@pytest.mark.parametrize("name", FAMILIES)
def test_validation_leaves_them_out(name, seen, tmp_path):
    family = FAMILIES[name]
    model = family.build()
    assert isinstance(model, NextStepGenerator)
    quiet_trainer(tmp_path, limit_val_batches=1).validate(model, family.data(write_splits(tmp_path)), verbose=False)
    assert seen and not any(seen)
