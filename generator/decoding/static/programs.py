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
# any of them, 1.5 on average. Even, as rows go from one cache into the other and back. Not measured on a GPU.
STEPS_PER_CHECK = 4


class Network(Protocol):
    """What a step needs of a model; see `StaticT5`."""

    capacity: int

    def forward(self, tokens: Tensor, parity: int) -> Tensor: ...

    def reorder(self, rows: Tensor, parity: int) -> None: ...


class Program:
    """So many steps of one search with one network.

    Nothing in it refers back to it: whoever lets it go frees its graphs and buffers there and then.

    Attributes:
        is_captured: whether running it replays graphs
        graph_bytes: what the device has less of since they were captured
    """

    def __init__(self, network: Network, search: Any, has_stop: bool) -> None:
        """Lists the steps.

        Args:
            network: the model over buffers.
            search: `StaticBeams` or `StaticSamples`.
            has_stop: whether the host looks at each step between its two halves, for stop texts.
        """
        self.network, self.search, self.has_stop = network, search, has_stop
        turns = 2 if search.moves_rows else 1  # rows go from one cache into the other, and back
        halves: list[Callable[[], None]] = [
            functools.partial(half, search, network, parity) for parity in range(turns) for half in (_extend, _settle)
        ]
        whole = functools.partial(_all, halves * (STEPS_PER_CHECK // turns))
        self.parts: list[Callable[[], None]] = halves if has_stop else [whole]
        self.replays: list[Callable[[], None]] = []
        self.found: list[Any] = []  # what each captured part leaves for the host to look at, where it does
        self.graph_bytes = 0

    @property
    def is_captured(self) -> bool:
        return bool(self.replays)

    def run(self, number: int) -> None:
        """Runs one of the parts; with stop texts, two a step, which come again after some steps."""
        number %= len(self.parts)
        if not self.replays:
            self.parts[number]()
            return
        self.replays[number]()
        self.search.found = self.found[number] if self.has_stop else None

    def run_plainly(self, number: int) -> None:
        """Runs one of the parts without its graph, for once: on other shapes."""
        self.parts[number % len(self.parts)]()

    def capture(self, pool: Any) -> None:
        """Captures the parts, which changes what the buffers hold.

        Args:
            pool: of memory, of `torch.cuda.graph_pool_handle`, shared by graphs that never run at once.
        """
        search, has_stop, found = self.search, self.has_stop, list[Any]()

        def noted(part: Callable[[], None]) -> None:
            part()
            # scores of the whole vocabulary hang on it: without stop texts the next step may have that memory
            found.append(search.found if has_stop else None)
            search.found = search.found if has_stop else None

        before = bytes_in_use(search.latest.device)
        self.replays = captured([functools.partial(noted, part) for part in self.parts], pool)
        self.graph_bytes = max(0, bytes_in_use(search.latest.device) - before)
        self.found = found[-len(self.parts) :]  # those before are of the warm-up


def bytes_in_use(device: torch.device) -> int:
    """Memory of a GPU that nobody else can have now; what graphs take is none of any tensor."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return total - free


def _extend(search: Any, network: Network, parity: int) -> None:
    search.extend(network.forward(search.latest, parity))


def _settle(search: Any, network: Network, parity: int) -> None:
    search.settle()
    if search.moves_rows:
        network.reorder(search.rows, parity)


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
