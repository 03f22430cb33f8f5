"""Fixtures of several tests of generators."""

import pytest
import torch

from tests.generator.decoding_fakes import ragged_batch


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Random prompts of several lengths, padded on the right: token ids and mask."""
    return ragged_batch()
