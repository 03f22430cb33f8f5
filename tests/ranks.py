"""Two processes that train together on the CPU, as torchrun starts them."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

import torch


def find_free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_two_ranks(function: Callable[..., None], port: int, *arguments: Any) -> None:
    """Call function(rank, *arguments), which a module must have, in two processes, and wait for both."""
    context = multiprocessing.get_context("spawn")
    ranks = [context.Process(target=_run, args=(function, rank, port, arguments)) for rank in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(120)
    assert [process.exitcode for process in ranks] == [0, 0]


def _run(function: Callable[..., None], rank: int, port: int, arguments: tuple[Any, ...]) -> None:
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "NODE_RANK": "0", "GROUP_RANK": "0",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "t",
    }  # fmt: skip
    torch.set_num_threads(1)
    function(rank, *arguments)
