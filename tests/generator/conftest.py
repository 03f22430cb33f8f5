"""Fixtures of several tests of generators."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import pytest
import torch

from tests.generator.decoding_fakes import ragged_batch

if TYPE_CHECKING:
    from tests.generator.cli_fakes import Fitted
    from tests.generator.families import Family, Learnt


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Random prompts of several lengths, padded on the right: token ids and mask."""
    return ragged_batch()


@pytest.fixture(params=["encoder_decoder", "decoder_only"])
def family(request: pytest.FixtureRequest) -> Family:
    """Each family of generators in turn."""
    from tests.generator.families import FAMILIES  # takes seconds, and many tests build no model

    return FAMILIES[request.param]


@pytest.fixture(scope="session")
def teach(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Learnt]:
    """A family's model that knows eight steps by heart; it is trained for the first test that asks for it."""
    return cache(lambda family: family.learn(tmp_path_factory.mktemp(family.name)))


@pytest.fixture
def learnt(family: Family, teach: Callable[[Family], Learnt]) -> Learnt:
    """The model of each family that knows eight steps by heart."""
    return teach(family)


@pytest.fixture(scope="session")
def fit_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Fitted]:
    """A family's finished run of the command line, made for the first test that asks for it."""
    from tests.generator.cli_fakes import fit

    return cache(lambda family: fit(tmp_path_factory.mktemp(f"{family.name}_run"), family))
