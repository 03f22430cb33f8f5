"""The proofs of a run as source files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from common import DataError
from generator.environments.base import Environment
from generator.search.loop import SearchResult
from retrieval.training.files import write_errors, writing_folder


def write_proofs(results: Sequence[SearchResult], environment: Environment, folder: Path) -> list[Path]:
    """Write the proofs of a run as source files to a folder, in place of those that are there.

    Args:
        results: of the run
        environment: the prover, which knows how its files look
        folder: to make or replace

    Returns:
        The files.

    Raises:
        DataError: if the system refuses to write, or the prover names a file outside the folder
    """
    proofs = [(result.theorem, result.proof) for result in results if result.proof is not None]
    files = environment.source(proofs) if proofs else {}
    with write_errors(str(folder)):
        if folder.is_dir():
            shutil.rmtree(folder)
    if not files:
        return []
    with writing_folder(folder) as part:
        for name, text in files.items():
            path = part / _inside(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return [folder / _inside(name) for name in sorted(files)]


def _inside(name: str) -> PurePosixPath:
    """The path of a file below the folder: names come from data."""
    path = PurePosixPath(name.lstrip("/"))
    if ".." in path.parts or not path.parts or "\0" in name:
        raise DataError(f"the prover would write a proof to {name!r}, outside the folder of proofs; check file_path")
    return path
