"""BM25 over premises, the lexical baseline: `python -m retrieval.bm25 --data_path ... --corpus_path ...`.

Needs the extra `bm25`, the package bm25s. Predictions have the same format as those of a trained retriever.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from common import check_positive
from retrieval.asking import write_predictions
from retrieval.corpus import Corpus
from retrieval.lexical import BM25Options, BM25Retriever, tokenize
from retrieval.training.commands import parse_arguments, run
from retrieval.training.datamodule import SPLITS
from retrieval.training.options import flat_options

__all__ = ["BM25Options", "BM25Retriever", "main", "predict", "tokenize"]


@flat_options
def predict(
    data_path: Path,
    corpus_path: Path,
    output_dir: Path,
    splits: Sequence[str] = SPLITS,
    k: int = 100,
    *,
    options: BM25Options = BM25Options(),
) -> None:
    """Retrieve premises for all states of a data set by BM25, and write them as predictions.

    Args:
        data_path: folder with train.json, val.json, test.json
        corpus_path: corpus.jsonl
        output_dir: folder of predictions to write
        splits: whose states to retrieve for
        k: premises per state
        options: how what is compared is weighed

    Raises:
        ConfigError: if an option is out of range, or bm25s is not installed
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    check_positive(k=k)
    write_predictions(BM25Retriever(Corpus(corpus_path), options=options), data_path, output_dir, splits, k, "bm25")


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    predict(**parse_arguments(predict, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
