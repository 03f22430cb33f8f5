"""Folders that are made of others, which their nextstep.json names by paths, so that all may be moved together."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def path_of_part(part: str, folder: Path) -> str:
    """Return how a folder names a part: a local one from there, another (a hub id) as it is."""
    return os.path.relpath(Path(part).resolve(), folder.resolve()) if Path(part).exists() else part


def find_part(path: Any, folder: Path) -> str:
    """Return the part that `path_of_part` named.

    Raises:
        ValueError: if it is no path
    """
    if not isinstance(path, str) or not path:
        raise ValueError(f"path is {str(path)[:60]!r}")
    local = folder / path
    return str(local) if local.exists() or path.startswith((".", "/")) else path
