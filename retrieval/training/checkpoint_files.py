"""Checkpoints of one file on disk: replaced whole or not at all, and without leftovers of killed runs."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO
from lightning_fabric.utilities.cloud_io import _is_local_file_protocol

from common import DataError
from retrieval.training.files import remove_abandoned, writing_file


class WholeFileCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint beside the one that it replaces, to the disk, and then renames it.

    Lightning's writes it to TMPDIR and moves it, which on another file system is a copy that a kill or a full disk cuts
    short; and it makes the whole file in memory first. Strategies that write several files (FSDP with sharded state,
    DeepSpeed) do not come here; paths elsewhere than on a disk (s3://...) are left to Lightning.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """See Lightning.

        Raises:
            DataError: if the system refuses to write, for example on a full disk; the checkpoint before is still there
        """
        if storage_options is not None or not _is_local_file_protocol(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        path, advice = Path(path), "free some room; the one before it was kept"
        try:
            with writing_file(path, f"checkpoint {path}", advice) as part, part.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:  # torch's own, for a write that failed
            reason = str(error).strip().splitlines()[0]
            raise DataError(f"cannot write checkpoint {path}: {reason}; the one before it was kept") from error
        with suppress(OSError):
            _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Write a folder's names to the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove_leftovers(folder: Path) -> None:
    """Remove what killed runs left of checkpoints that they were writing."""
    remove_abandoned(folder.glob("*.ckpt.????????.part"))
