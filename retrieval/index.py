"""Premise embeddings, and the command that makes them: `python -m retrieval.index --ret_ckpt_path ...`.

A saved index spares a prover that retrieves by itself the embedding of the whole corpus at its start.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

import torch

from common import NextstepError
from retrieval.corpus import Corpus
from retrieval.embedding_index import EmbeddingIndex, StorageDtype, embed, top_k
from retrieval.model import PremiseRetriever

__all__ = ["EmbeddingIndex", "StorageDtype", "embed", "make_index", "top_k"]


def make_index(
    ret_ckpt_path: str,
    corpus_path: Path,
    output_dir: Path,
    dtype: StorageDtype = "float32",
    batch_size: int = 64,
    device: str | None = None,
) -> EmbeddingIndex:
    """Embed all premises of a corpus with a trained retriever, and save them.

    Args:
        ret_ckpt_path: a checkpoint, or the folder or hub id of an encoder
        corpus_path: corpus.jsonl
        output_dir: folder to write
        dtype: how the embeddings are stored
        batch_size: premises of full length at a time, shorter ones in larger batches
        device: such as "cuda"; a GPU if there is one
    """
    corpus = Corpus(corpus_path)
    retriever = PremiseRetriever.load(ret_ckpt_path, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    retriever.load_corpus(corpus)
    index = retriever.reindex_corpus(batch_size)
    if dtype != index.dtype:
        index = index.stored_as(dtype)
    index.save(output_dir)
    return index


def main(args: list[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    parser = argparse.ArgumentParser(
        prog="python -m retrieval.index", description="Embed all premises of a corpus with a trained retriever."
    )
    parser.add_argument("--ret_ckpt_path", required=True, help="a checkpoint, or the folder or hub id of an encoder")
    parser.add_argument("--corpus_path", type=Path, required=True, help="corpus.jsonl")
    parser.add_argument("--output_dir", type=Path, required=True, help="folder of the index to write")
    parser.add_argument("--dtype", choices=get_args(StorageDtype), default="float32", help="(default: float32)")
    parser.add_argument("--batch_size", type=int, default=64, help="premises of full length at a time (default: 64)")
    parser.add_argument("--device", help="such as cuda (default: a GPU if there is one)")
    options = parser.parse_args(args)
    index = make_index(**vars(options))
    print(f"wrote {options.output_dir}: {len(index):,} premises, {index.dimension} numbers each, {index.dtype}")


if __name__ == "__main__":
    try:
        main()
    except NextstepError as error:
        sys.exit(f"error: {error}")
