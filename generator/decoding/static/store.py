"""Searches kept for the next inputs of the same shape, on the model that they were captured with.

A graph reads weights where they were when it was captured. Training changes them in place, which is all right; whatever
else changes (other weights, adapters, hooks) is found out by `fingerprint`, and nothing is kept then.

A search's buffers and the memory of its graphs, which is a pool of its own, go when it goes. All that are kept together
hold at most a share of the device: the ones used longest ago make room, before a new graph takes its memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

MAX_KEPT = 32  # searches of one model
MAX_SHARE = 0.15  # of the memory of the device for their buffers and graphs
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
        max_bytes: that kept searches may hold together
        lock: of whoever searches, as buffers serve one at a time
    """

    def __init__(self, max_kept: int = MAX_KEPT) -> None:
        self.max_kept = max_kept
        self.searches: OrderedDict[Hashable, Any] = OrderedDict()
        self.casts: dict[int, tuple[nn.Parameter, nn.Parameter]] = {}
        self.shared: dict[str, Any] = {}
        self.failed: str | None = None
        self.max_bytes = float("inf")
        self.print: Hashable = None
        self.lock = threading.RLock()

    # it belongs to one model on one device: copies of the model, and what is written of it, begin anew
    def __deepcopy__(self, memo: Any) -> Store:
        return Store(self.max_kept)

    def __reduce__(self) -> Any:
        return Store, (self.max_kept,)

    def check(self, model: Any) -> None:
        """Forgets all if the model is not what it was."""
        now = fingerprint(model)
        if now != self.print:
            self.clear()
            self.print = now

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The search of a shape, made if there is none; those used longest ago go where there are too many."""
        if key not in self.searches:
            self.searches[key] = make()
        self.searches.move_to_end(key)
        self.trim()
        return self.searches[key]

    def trim(self, room: float = 0.0) -> None:
        """Lets the searches used longest ago go until the others keep the limits; the latest stays.

        Args:
            room: bytes that the latest is about to take.
        """
        before = len(self.searches)
        while len(self.searches) > 1:
            if len(self.searches) <= self.max_kept and self.num_bytes + room <= self.max_bytes:
                break
            self.searches.popitem(last=False)
        _give_back(before - len(self.searches))

    @property
    def num_bytes(self) -> int:
        """Memory of all searches: buffers and graphs."""
        return sum(int(search.num_bytes) for search in self.searches.values())

    def clear(self) -> None:
        """Gives all memory back."""
        num_gone = len(self.searches)
        self.searches.clear()
        self.shared.clear()
        _give_back(num_gone)

    def release(self) -> None:
        """Gives all memory back, copies of weights too."""
        self.clear()
        self.casts.clear()
        self.print = None


def _give_back(num_gone: int) -> None:
    """Lets the device have what searches that went have left: a pool of graphs is of no use to other graphs."""
    if num_gone and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def store_of(model: nn.Module) -> Store:
    """The store of a model, which lives as long as it does."""
    found: Store = vars(model).setdefault(_NAME, Store())
    return found


def release(model: nn.Module) -> None:
    """Gives back what decoding keeps on the device between calls: graphs, buffers, and copies of weights."""
    store = vars(model).get(_NAME)
    if store is not None:
        store.release()


def max_bytes_of(device: torch.device, share: float = MAX_SHARE) -> float:
    """The most memory that kept searches may hold, given their share of the device's."""
    if device.type != "cuda":
        return float("inf")
    return share * torch.cuda.get_device_properties(device).total_memory


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
