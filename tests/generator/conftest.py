"""Fixtures of several tests of generators."""

from collections.abc import Callable
from functools import cache

import pytest
import torch

from tests.generator.decoding_fakes import ragged_batch
from tests.generator.families import FAMILIES, Family, Learnt


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """Random prompts of several lengths, padded on the right: token ids and mask."""
    return ragged_batch()


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    """Each family of generators in turn."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def teach(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Family], Learnt]:
    """A family's model that knows eight steps by heart; it is trained for the first test that asks for it."""
    return cache(lambda family: family.learn(tmp_path_factory.mktemp(family.name)))


@pytest.fixture
def learnt(family: Family, teach: Callable[[Family], Learnt]) -> Learnt:
    """The model of each family that knows eight steps by heart."""
    return teach(family)
