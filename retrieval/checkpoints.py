"""Reading Lightning checkpoints without running what is in them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common import DataError


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return a checkpoint's contents, tensors memory-mapped on the CPU.

    Raises:
        DataError: if there is no such file or it is no checkpoint
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"checkpoint {path}: there is no such file; a run keeps its own under checkpoints/")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise DataError(f"checkpoint {path}: cannot be read as a Lightning checkpoint ({reason})") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise DataError(f"checkpoint {path}: holds no state_dict, so it is no Lightning checkpoint")
    return checkpoint


def check_class(checkpoint: Mapping[str, Any], expected: type, path: str | Path, key: str) -> None:
    """Raise DataError unless the checkpoint was written by the expected class.

    Args:
        checkpoint: its contents
        expected: the class that is to load it
        path: names it in the message
        key: where classes of this kind describe themselves: "generator" or "retriever"
    """
    name = f"{expected.__module__}.{expected.__qualname__}"
    saved = checkpoint.get(key, {}).get("class")
    if saved != name:
        what = f"of {saved}" if saved else "of another kind of module"
        raise DataError(f"{path}: is a checkpoint {what}, not of {name}; load it with the class that wrote it")
