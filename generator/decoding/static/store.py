"""Searches kept for the next inputs of the same shape, on the model that they were captured with.

A graph reads weights where they were when it was captured. Training changes them in place, which is all right; whatever
else changes (other weights, adapters, hooks) is found out by `fingerprint`, and nothing is kept then.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

MAX_KEPT = 16  # searches of one model
MAX_SHARE = 0.15  # of the memory of the device for their buffers
_NAME = "_static_searches"


class Kept(Protocol):
    """A search with its buffers."""

    @property
    def num_bytes(self) -> int: ...


class Store:
    """The searches of one model, the one used longest ago first, and what they share.

    Attributes:
        casts: copies of weights in another type, by the id of the weight; see `weights_cast`
        shared: what all searches of a model read, such as products of several layers; gone with them
        failed: why graphs are not captured here any more; None while they are
        lock: of whoever searches, as buffers serve one at a time
    """

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self.max_kept = max_kept
        self.searches: OrderedDict[Hashable, Any] = OrderedDict()
        self.casts: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
        self.shared: dict[str, Any] = {}
        self.failed: str | None = None
        self.print: Hashable = None
        self.lock = threading.RLock()
        self._pool: Any = None
        self._anchor: Any = None  # a graph of next to nothing: a pool whose last graph goes cannot be used again

    # it belongs to one model on one device: copies of the model, and what is written of it, begin anew
    def __deepcopy__(self, memo: Any) -> Store:
        return Store(self.max_kept)

    def __reduce__(self) -> Any:
        return Store, (self.max_kept,)

    @property
    def pool(self) -> Any:
        """Memory that the graphs share, as one runs at a time."""
        if self._pool is None:
            pool, anchor = torch.cuda.graph_pool_handle(), torch.cuda.CUDAGraph()
            with torch.cuda.graph(anchor, pool=pool, capture_error_mode="thread_local"):
                torch.zeros(1, device="cuda")
            self._pool, self._anchor = pool, anchor
        return self._pool

    def check(self, model: Any) -> None:
        """Forgets all if the model is not what it was."""
        now = fingerprint(model)
        if now != self.print:
            self.clear()
            self.print = now

    def get(self, key: Hashable, make: Callable[[], Any], max_bytes: float) -> Any:
        """The search of a shape, made if there is none; those used longest ago go where there are too many."""
        if key not in self.searches:
            self.searches[key] = make()
        self.searches.move_to_end(key)
        self.trim(max_bytes)
        return self.searches[key]

    def trim(self, max_bytes: float) -> None:
        """Lets the searches used longest ago go until the others keep the limits; the latest stays."""
        while len(self.searches) > 1:
            num_bytes = sum(search.num_bytes for search in self.searches.values())
            if len(self.searches) <= self.max_kept and num_bytes <= max_bytes:
                return
            self.searches.popitem(last=False)

    def clear(self) -> None:
        """Gives all memory back."""
        self.searches.clear()
        self.shared.clear()
        self._pool = self._anchor = None

    def release(self) -> None:
        """Gives all memory back, copies of weights too."""
        self.clear()
        self.casts.clear()
        self.print = None


def store_of(model: nn.Module) -> Store:
    """The store of a model, which lives as long as it does."""
    found: Store = vars(model).setdefault(_NAME, Store())
    return found


def release(model: nn.Module) -> None:
    """Gives back what decoding keeps on the device between calls: graphs, buffers, and copies of weights."""
    store = vars(model).get(_NAME)
    if store is not None:
        store.release()


def max_bytes_of(device: torch.device) -> float:
    """The most memory that kept searches may hold."""
    if device.type != "cuda":
        return float("inf")
    return MAX_SHARE * torch.cuda.get_device_properties(device).total_memory


def fingerprint(model: nn.Module) -> Hashable:
    """What a captured graph took for granted: where weights are, and what is hung on the layers."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    layers = [
        (
            len(module._forward_hooks) + len(module._forward_pre_hooks),
            str(getattr(module, "active_adapters", "")),
            bool(getattr(module, "disable_adapters", False)),
            str(getattr(module, "merged_adapters", "")),
        )
        for module in model.modules()
    ]
    return tuple((one.data_ptr(), one.dtype, tuple(one.shape)) for one in tensors), tuple(layers)
