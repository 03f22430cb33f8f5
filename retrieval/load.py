"""`load_retriever`: one call from a checkpoint, a folder, a hub id or the word bm25 to a retriever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from common import ConfigError
from retrieval.fused import FusedRetriever, read_fused
from retrieval.lexical import BM25Options, BM25Retriever
from retrieval.model import PremiseRetriever
from retrieval.neighbor_retriever import NeighborRetriever
from retrieval.retriever import Retriever
from retrieval.training.checkpoints import class_path, is_checkpoint, read_settings

BM25 = "bm25"


def load_retriever(path: str | Path, device: Any = "cpu") -> Retriever:
    """Return a retriever, to which `load_corpus` then gives the premises.

    Args:
        path: a checkpoint of `retrieval.main`; an encoder's folder or hub id; a folder of `python -m
            retrieval.neighbors` or `retrieval.fuse`; or bm25 (./bm25 is a folder of that name)
        device: where embeddings are made and searched

    Raises:
        DataError: if a checkpoint or folder is missing or broken
        ConfigError: if there is no such model, or a fused retriever is a part of another
    """
    if str(path) == BM25:
        return BM25Retriever()
    kind = _kind_of(path)
    if kind == class_path(NeighborRetriever):
        return NeighborRetriever.load(path)
    if kind == class_path(FusedRetriever):
        parts, weights, rank_offset, depth = read_fused(path)
        fused = FusedRetriever([load_part(part, device) for part in parts], weights, rank_offset, depth)
        fused.name = str(path)
        return fused
    return PremiseRetriever.load(path, device)


def load_part(part: str | BM25Options, device: Any = "cpu") -> Retriever:
    """Open a part of a fused retriever.

    Raises:
        ConfigError: if it is a fused one, which might be a part of itself
    """
    if isinstance(part, BM25Options):
        return BM25Retriever(options=part)
    if _kind_of(part) == class_path(FusedRetriever):
        raise ConfigError(f"{part}: is a fused retriever, and cannot be a part of one; name its parts instead")
    return load_retriever(part, device)


def _kind_of(path: str | Path) -> str | None:
    """The class that a folder names, if it does."""
    return None if is_checkpoint(path) else (read_settings(path) or {}).get("class")
