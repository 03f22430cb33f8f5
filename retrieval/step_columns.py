"""Columns of steps in one safetensors file, with the paths that they name in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from common import DataError
from retrieval.training.files import writing_file

Columns = dict[str, torch.Tensor]


def digest_columns(columns: Columns, paths: list[str]) -> str:
    """Return a hash of all of it."""
    digest = hashlib.sha256(json.dumps(paths).encode())
    for name in sorted(columns):
        digest.update(columns[name].numpy().tobytes())
    return digest.hexdigest()


def save_columns(path: Path, columns: Columns, paths: list[str], format_version: int) -> None:
    """Write one safetensors file.

    Raises:
        DataError: if the system refuses to write
    """
    metadata = {"nextstep": json.dumps({"format_version": format_version, "paths": paths})}
    with writing_file(path) as part:
        save_file(columns, part, metadata)


def load_columns(
    path: Path,
    format_version: int,
    kinds: Mapping[str, torch.dtype],
    check: Callable[[Columns, list[str]], None],
    what: str,
) -> tuple[Columns, list[str]]:
    """Open what `save_columns` wrote; the columns are memory-mapped.

    Args:
        path: of the file
        format_version: that this program reads
        kinds: of each column, which has one dimension
        check: raises ValueError for columns that a search would go wrong with
        what: they hold, for errors

    Raises:
        DataError: if the file is missing, broken, or of another version
    """
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})["nextstep"])
        if about["format_version"] != format_version:
            raise ValueError(f"format version {about['format_version']}; this program reads {format_version}")
        columns, paths = load_file(path), about["paths"]
        _check_kinds(columns, paths, kinds)
        check(columns, paths)
    except (KeyError, OSError, RecursionError, SafetensorError, TypeError, ValueError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(f"{path}: holds no {what} ({why}); make the folder again") from error
    return columns, paths


def _check_kinds(columns: Columns, paths: Any, kinds: Mapping[str, torch.dtype]) -> None:
    if not isinstance(paths, list) or not all(isinstance(path, str) for path in paths):
        raise ValueError("paths are no list of texts")
    for name, kind in kinds.items():
        if columns[name].dtype != kind or columns[name].ndim != 1:
            raise ValueError(f"{name} is {columns[name].dtype} of shape {tuple(columns[name].shape)}")
