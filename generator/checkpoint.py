"""Checkpoints of generators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retrieval.checkpoints import check_class, read_checkpoint

__all__ = ["check_generator", "read_checkpoint"]


def check_generator(checkpoint: Mapping[str, Any], expected: type, path: str | Path) -> None:
    """Raise DataError unless the checkpoint was written by the expected class of generators."""
    check_class(checkpoint, expected, path, key="generator")
