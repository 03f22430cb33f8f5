"""Premise embeddings, and the command that makes them: `python -m retrieval.index --ret_ckpt_path ...`.

A saved index spares a prover that retrieves by itself the embedding of the whole corpus at its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from common import ConfigError
from retrieval.corpus import Corpus
from retrieval.embedding_index import EmbeddingIndex, StorageDtype, embed, top_k
from retrieval.fused import FusedRetriever
from retrieval.load import load_retriever
from retrieval.premise_search import PremiseSearch
from retrieval.retriever import Retriever
from retrieval.training.commands import parse_arguments, run

__all__ = ["EmbeddingIndex", "StorageDtype", "embed", "make_index", "top_k"]


def make_index(
    ret_ckpt_path: str,
    corpus_path: Path,
    output_dir: Path,
    dtype: StorageDtype = "float32",
    batch_size: int = 64,
    device: str | None = None,
) -> EmbeddingIndex:
    """Embed all premises of a corpus with a trained retriever.

    Args:
        ret_ckpt_path: a checkpoint, or the folder or hub id of an encoder; or a folder of retrieval.fuse that has one
        corpus_path: corpus.jsonl
        output_dir: folder of the index to write
        dtype: how the embeddings are stored
        batch_size: premises of full length at a time, shorter ones in larger batches
        device: such as cuda; if not given, a GPU if there is one

    Raises:
        ConfigError: if the retriever does not embed, or several of its parts do
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    corpus = Corpus(corpus_path)
    loaded = load_retriever(ret_ckpt_path, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    retriever = _embedding(loaded, ret_ckpt_path)
    retriever.load_corpus(corpus)
    index = retriever.reindex_corpus(batch_size)
    if dtype != index.dtype:
        index = index.stored_as(dtype)
    index.save(output_dir)
    return index


def _embedding(retriever: Retriever, path: str) -> PremiseSearch:
    """A retriever that embeds, or the one part of a fused retriever that does."""
    parts = retriever.parts if isinstance(retriever, FusedRetriever) else [retriever]
    embedding = [part for part in parts if isinstance(part, PremiseSearch)]
    if len(embedding) != 1:
        raise ConfigError(f"ret_ckpt_path {path}: has {len(embedding)} encoders to embed with; give one, a checkpoint")
    return embedding[0]


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    options = parse_arguments(make_index, args)
    index = make_index(**options)
    print(f"wrote {options['output_dir']}: {len(index):,} premises, {index.dimension} numbers each, {index.dtype}")


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
