"""CUDA graphs told without a GPU: operations are noted with the tensors that they had, and done again on these.

What waits for a device cannot be captured, and what a replay does not do again (anything in Python) shows.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# operations whose result, or its size, the host must know; the last is how torch.tensor brings numbers of the host
WAITING = {f"aten::{name}" for name in ("_local_scalar_dense", "nonzero", "masked_select", "equal", "bincount")}
WAITING |= {f"aten::{name}" for name in ("_unique2", "unique_dim", "unique_consecutive", "lift_fresh")}


def captured(parts, pool):
    """See `programs.captured`: by that time the parts have run twice there too, a second time to be noted here."""
    for part in parts:
        part()
    return [_recorded(part) for part in parts]


def _recorded(part):
    notes = []
    with _Recorder(notes):
        part()
    return lambda: [_again(*note) for note in notes]


class _Recorder(TorchDispatchMode):
    def __init__(self, notes):
        super().__init__()
        self.notes = notes

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if _waits(func._schema.name, args):
            raise RuntimeError(f"{func}: operation not permitted\nwhen stream is capturing")
        found = func(*args, **kwargs or {})
        self.notes.append((func, args, kwargs or {}, found))
        return found


def _waits(name, args):
    has_mask = name.startswith("aten::index") and isinstance(args[1], list | tuple)
    return name in WAITING or has_mask and any(each is not None and each.dtype == torch.bool for each in args[1])


def _again(func, args, kwargs, found):
    is_view = any(each.alias_info is not None for each in func._schema.returns) and not func._schema.is_mutable
    if is_view:  # of a place that stays
        return
    result = func(*args, **kwargs)
    if not func._schema.is_mutable:
        for old, new in zip(tree_leaves(found), tree_leaves(result), strict=True):
            if isinstance(old, torch.Tensor):
                old.copy_(new)
