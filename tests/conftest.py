"""What holds for all tests: no network but this machine's own, one thread; and fixtures of several modules."""

import ipaddress
import logging
import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"  # read when huggingface_hub is imported, here and in processes that tests start

import torch

from tests.fakes import TINY, write_splits
from tests.ranks import find_free_port


@pytest.fixture(autouse=True, scope="session")
def _only_this_machine() -> Iterator[None]:
    """Connections that leave this machine fail with a message that says so."""

    def guarded(connect: Any) -> Any:
        def checked(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_loopback(address[0]):
                raise AssertionError(f"a test connects to {address[0]}; tests run without a network")
            return connect(self, address)

        return checked

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        yield


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of tests/fuzz."""
    group = parser.getgroup("fuzz")
    group.addoption("--fuzz", type=int, default=200, help="mutations of files in tests/fuzz, over all kinds")
    group.addoption("--fuzz-seed", type=int, default=1, help="which they follow from")
    group.addoption("--fuzz-only", default=None, help="one of them: KIND:NUMBER")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Names of tests are the same in every process, or several processes could not share them out."""
    for item in items:
        assert " at 0x" not in item.nodeid, f"{item.nodeid}: give the parameter an id, or its class a repr"
        if item.get_closest_marker("coq") and not any(map(shutil.which, ("coqidetop.opt", "coqidetop"))):
            item.add_marker(pytest.mark.skip(reason="needs Coq: apt-get install coq libcoq-stdlib"))


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)  # tiny models: two would wait for each other


@pytest.fixture(autouse=True)
def _loggers_speak() -> None:
    """Libraries that set logging up when they are imported silence all loggers that are there."""
    for logger in logging.root.manager.loggerDict.values():
        if isinstance(logger, logging.Logger):
            logger.disabled = False


@pytest.fixture
def tiny_architecture() -> dict[str, Any]:
    """A two-layer ByT5, from scratch."""
    return dict(TINY)


@pytest.fixture
def free_port() -> int:
    """A TCP port that nothing listens on."""
    return find_free_port()


@pytest.fixture
def eight_path(tmp_path: Path) -> Path:
    """A data folder whose three splits are the same eight steps."""
    return write_splits(tmp_path / "eight")
