"""A few steps of a search over static buffers, run as they are or replayed as CUDA graphs.

A replayed graph is launched as one: between its kernels the device waits for nothing. Several steps make one graph,
because whether all states are done is looked at every few steps only.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

# A look waits for the device. The longer it is put off, the more steps a search takes too many: of 4, if it may end at
# any of them, 1.5 on average. Not measured on a GPU.
STEPS_PER_CHECK = 4


class Network(Protocol):
    """What a step needs of a model; see `StaticT5`."""

    capacity: int

    def forward(self, tokens: Tensor, parity: int) -> Tensor: ...

    def reorder(self, rows: Tensor, parity: int) -> None: ...


class Program:
    """So many steps of one search with one network.

    Attributes:
        is_captured: whether running it replays graphs
    """

    def __init__(self, network: Network, search: Any, has_stop: bool) -> None:
        """Lists the steps.

        Args:
            network: the model over buffers.
            search: `StaticBeams` or `StaticSamples`.
            has_stop: whether the host looks at each step between its two halves, for stop texts.
        """
        self.network, self.search = network, search
        halves: list[Callable[[], None]] = [
            half
            for parity in (range(STEPS_PER_CHECK) if search.moves_rows else [0] * STEPS_PER_CHECK)
            for half in (functools.partial(self._extend, parity), functools.partial(self._settle, parity))
        ]
        self.parts: list[Callable[[], None]] = halves if has_stop else [lambda: _all(halves)]
        self.replays: list[Callable[[], None]] = []
        self.found: list[Any] = []  # what each captured part leaves for the host to look at

    @property
    def is_captured(self) -> bool:
        return bool(self.replays)

    def _extend(self, parity: int) -> None:
        self.search.extend(self.network.forward(self.search.latest, parity))

    def _settle(self, parity: int) -> None:
        self.search.settle()
        if self.search.moves_rows:
            self.network.reorder(self.search.rows, parity)

    def run(self, number: int) -> None:
        """Runs one of the parts."""
        if not self.replays:
            self.parts[number]()
            return
        self.replays[number]()
        self.search.found = self.found[number]

    def run_plainly(self, number: int) -> None:
        """Runs one of the parts without its graph, for once: on other shapes."""
        self.parts[number]()

    def capture(self, pool: Any) -> None:
        """Captures the parts, which changes what the buffers hold.

        Args:
            pool: of memory, of `torch.cuda.graph_pool_handle`, shared by graphs that never run at once.
        """
        self.found = []

        def noted(part: Callable[[], None]) -> None:
            part()
            self.found.append(self.search.found)

        replays = captured([functools.partial(noted, part) for part in self.parts], pool)
        self.found = self.found[-len(self.parts) :]  # those before are of the warm-up
        self.replays = replays


def _all(halves: list[Callable[[], None]]) -> None:
    for half in halves:
        half()


def captured(parts: list[Callable[[], None]], pool: Any) -> list[Callable[[], None]]:
    """Captures functions as CUDA graphs, behind a warm-up of all; returns what replays them.

    Raises:
        RuntimeError: where a function waits for the device, which no graph can.
    """
    torch.clear_autocast_cache()  # what is kept there must not come from a graph, nor a graph read it
    stream: Any = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for part in parts:
            part()
        with _without_waiting():  # found out here, nothing is left in the middle of a capture
            for part in parts:
                part()
    torch.cuda.current_stream().wait_stream(stream)
    graphs = []
    try:
        for part in parts:
            graph = torch.cuda.CUDAGraph()
            # other threads pin memory for the loader meanwhile, which a global mode forbids
            with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):
                part()
            graphs.append(graph)
    except Exception:
        _reset_generator()
        raise
    finally:
        torch.clear_autocast_cache()
    return [graph.replay for graph in graphs]


@contextlib.contextmanager
def _without_waiting() -> Iterator[None]:
    """What waits for the device is an error."""
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


def _reset_generator() -> None:
    """A capture that was broken off leaves the generator of random numbers in it, and no dropout could be drawn."""
    with contextlib.suppress(Exception):
        generator: Any = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())
