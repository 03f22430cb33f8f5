"""What a model was trained on, as its checkpoint tells it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import DataError
from generator.domains.problem_files import DEFAULT_SIZES, read_card
from retrieval.training.checkpoints import read_checkpoint


def trained_on(ckpt_path: str) -> dict[str, Any]:
    """Return the domain that a checkpoint was trained on, how many problems, and its hash; None for what is not known.

    Several domains are joined by "+", in the order of their names.
    """
    options: Mapping[str, Any] = {}
    epoch, digest = 0, None
    if Path(ckpt_path).is_file():
        with open(ckpt_path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        checkpoint = read_checkpoint(ckpt_path)
        options, epoch = checkpoint.get("datamodule_hyper_parameters", {}), checkpoint.get("epoch", 0)
    domain = options.get("domain")
    if isinstance(domain, list | tuple):
        domain = "+".join(sorted(map(str, domain)))
    size = None if domain is None else _size(options, int(epoch))
    return {"trained_on": domain, "train_size": size, "ckpt_hash": digest}


def _size(options: Mapping[str, Any], epoch: int) -> int | None:
    """How many problems; those that are drawn anew in each epoch all count."""
    size, folder = options.get("num_train"), options.get("data_path")
    if folder is None:
        size = DEFAULT_SIZES["train"] if size is None else size
        return int(size) * (epoch + 1) if options.get("fresh", True) else int(size)
    if size is None:
        size = _size_of_folder(Path(folder))
    return None if size is None else int(size)


def _size_of_folder(folder: Path) -> int | None:
    """What the card of a folder says, which may be gone since."""
    try:
        card = read_card(folder)
    except DataError:
        return None
    sizes = (card or {}).get("sizes")
    size = sizes.get("train") if isinstance(sizes, dict) else None
    return size if isinstance(size, int) else None
