"""Premise embeddings, and the command that makes them: `python -m retrieval.index --ret_ckpt_path ...`.

A saved index spares a prover that retrieves by itself the embedding of the whole corpus at its start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from retrieval.corpus import Corpus
from retrieval.embedding_index import EmbeddingIndex, StorageDtype, embed, top_k
from retrieval.model import PremiseRetriever
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
        ret_ckpt_path: a checkpoint, or the folder or hub id of an encoder
        corpus_path: corpus.jsonl
        output_dir: folder of the index to write
        dtype: how the embeddings are stored
        batch_size: premises of full length at a time, shorter ones in larger batches
        device: such as cuda; if not given, a GPU if there is one
    """
    corpus = Corpus(corpus_path)
    retriever = PremiseRetriever.load(ret_ckpt_path, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    retriever.load_corpus(corpus)
    index = retriever.reindex_corpus(batch_size)
    if dtype != index.dtype:
        index = index.stored_as(dtype)
    index.save(output_dir)
    return index


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
