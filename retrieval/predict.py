"""Premises for all states by any retriever: `python -m retrieval.predict --ret_ckpt_path ... --output_dir ...`.

What it writes is read by generators (`data.preds_path`), by `retrieval.evaluate`, and as hard negatives. For a trained
retriever on several GPUs, `python -m retrieval.main predict` writes the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from common import check_positive
from retrieval.asking import write_predictions
from retrieval.load import load_retriever
from retrieval.training.commands import parse_arguments, run
from retrieval.training.datamodule import SPLITS


def predict(
    ret_ckpt_path: str,
    data_path: Path,
    corpus_path: Path,
    output_dir: Path,
    splits: Sequence[str] = SPLITS,
    k: int = 100,
    index_path: Path | None = None,
    device: str | None = None,
) -> None:
    """Retrieve premises for all states of a data set by any retriever, and write them as predictions.

    Args:
        ret_ckpt_path: a checkpoint; an encoder's folder or hub id; a folder of retrieval.neighbors or retrieval.fuse;
            or bm25
        data_path: folder with train.json, val.json, test.json
        corpus_path: corpus.jsonl
        output_dir: folder of predictions to write
        splits: whose states to retrieve for
        k: premises per state
        index_path: embeddings of the corpus, from python -m retrieval.index; else they are made first
        device: such as cuda; if not given, a GPU if there is one

    Raises:
        ConfigError: if an option is wrong
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    check_positive(k=k)
    retriever = load_retriever(ret_ckpt_path, device or ("cuda" if torch.cuda.is_available() else "cpu"))
    retriever.load_corpus(corpus_path, index_path)
    write_predictions(retriever, data_path, output_dir, splits, k, ret_ckpt_path)


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    predict(**parse_arguments(predict, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
