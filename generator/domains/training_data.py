"""What a model was trained on, as its checkpoint tells it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from common import DataError
from generator.domains.problem_files import DEFAULT_SIZES, Card, read_card
from retrieval.training.checkpoints import read_checkpoint


def trained_on(ckpt_path: str) -> dict[str, Any]:
    """Return what a checkpoint was trained on, how many problems, and its hash; None for what is not known.

    Several domains are joined by "+", in the order of their names.
    """
    options: Mapping[str, Any] = {}
    epoch, digest = 0, None
    if Path(ckpt_path).is_file():
        with open(ckpt_path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        checkpoint = read_checkpoint(ckpt_path)
        options, epoch = checkpoint.get("datamodule_hyper_parameters", {}), checkpoint.get("epoch", 0)
    domain, size = None, None
    if options.get("domain") is not None:
        domain, size = _of_folders(options) if options.get("data_path") else _drawn(options, int(epoch))
    return {"trained_on": domain, "train_size": size, "ckpt_hash": digest}


def _drawn(options: Mapping[str, Any], epoch: int) -> tuple[str, int]:
    """Of problems that are drawn anew in each epoch, all count."""
    size = int(options.get("num_train") or DEFAULT_SIZES["train"])
    return str(options["domain"]), size * (epoch + 1) if options.get("fresh", True) else size


def _of_folders(options: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """What the cards of folders say, which may be gone since: then the option for the domain, of a single folder."""
    path, size = options["data_path"], options.get("num_train")
    folders = [Path(each) for each in ([path] if isinstance(path, str) else path)]
    cards = [_card(folder) for folder in folders]
    domains = [None if card is None else card["domain"] for card in cards]
    sizes = [_train_size(card) if size is None else int(size) for card in cards]
    if len(folders) == 1 and domains[0] is None:
        domains = [str(options["domain"])]
    names = sorted({str(domain) for domain in domains})
    known = [each for each in sizes if each is not None]
    return None if None in domains else "+".join(names), sum(known) if len(known) == len(folders) else None


def _card(folder: Path) -> Card | None:
    try:
        return read_card(folder)
    except DataError:
        return None


def _train_size(card: Card | None) -> int | None:
    sizes = (card or {}).get("sizes")
    size = sizes.get("train") if isinstance(sizes, dict) else None
    return size if isinstance(size, int) else None
