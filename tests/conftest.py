"""Fixtures that tests of several modules use."""

import socket
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes import TINY, write_splits


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # tiny models: two would wait for each other


@pytest.fixture
def tiny_architecture() -> dict[str, Any]:
    """A two-layer ByT5, from scratch."""
    return dict(TINY)


@pytest.fixture
def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.fixture
def eight_path(tmp_path: Path) -> Path:
    """A data folder whose three splits are the same eight steps."""
    return write_splits(tmp_path / "eight")
