"""BM25 over premises, the lexical baseline: `python -m retrieval.bm25 --data_path ... --corpus_path ...`.

Needs the extra `bm25`, the package bm25s. Predictions have the same format as those of a trained retriever.

Shape legend: B states, N premises, k premises per state.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from common import ConfigError, Premise, check_positive, split_name
from retrieval.corpus import Corpus
from retrieval.embedding_index import top_k
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.predictions.files import RetrievalContext, hash_state
from retrieval.predictions.reader_writer import PredictionWriter
from retrieval.training.commands import parse_arguments, run
from retrieval.training.datamodule import SPLITS
from retrieval.training.extras import import_extra

# Words end at dots, underscores, digits and capitals; a letter that is not ASCII (ℕ, α) and a run of symbols
# (->, ≤) are tokens; brackets and separators, which nearly every text holds, are not
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_]|[^\s\w()\[\]{}⟨⟩,;.]+")

_BATCH_SIZE = 64


def tokenize(text: str) -> list[str]:
    """Split Lean or Coq text into lower-case parts of names, numbers and symbols.

    >>> tokenize("h : Nat.succ_le n ≤ 12")
    ['h', ':', 'nat', 'succ', 'le', 'n', '≤', '12']
    """
    return [token.lower() for token in _TOKEN.findall(text)]


class BM25Retriever:
    """BM25 scores of all premises for a state; a premise is the last part of its name and its code.

    A state counts each of its tokens once: hypotheses repeat a few names many times. On the val split of
    Coq's standard library that gives R@10 24.9 in place of 23.1.

    Source: Robertson and Zaragoza (2009), in the variant of Lucene (bm25s, arXiv:2407.03618).
    """

    def __init__(self, corpus: Corpus, k1: float = 1.5, b: float = 0.75) -> None:
        """Index all premises.

        Args:
            corpus: N premises
            k1: how much a token that occurs again adds, at least 0
            b: how much long premises are marked down, from 0 to 1

        Raises:
            ConfigError: if k1 or b is out of range, or bm25s is not installed
        """
        if k1 < 0 or not 0 <= b <= 1:
            raise ConfigError(f"k1 is {k1} and b is {b}; k1 must be at least 0, and b between 0 and 1")
        self.corpus = corpus
        self._bm25: Any = import_extra("bm25s", "bm25", "BM25").BM25(k1=k1, b=b)
        documents = [_document(premise) for premise in corpus]
        self._is_empty = not any(documents)  # which bm25s cannot index
        if not self._is_empty:
            self._bm25.index(documents, show_progress=False)

    def scores(self, states: Sequence[str]) -> Tensor:
        """Return the scores of all premises, float32 (B, N); 0 where a premise shares no token."""
        rows = np.zeros((len(states), len(self.corpus)), dtype=np.float32)
        for row, state in zip(rows, states, strict=True):
            tokens = sorted(set(tokenize(state)))
            if tokens and not self._is_empty:
                row[:] = self._bm25.get_scores(tokens)
        return torch.from_numpy(rows)

    def search(self, states: Sequence[str], accessible: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Return the k best accessible premises of each state, best first, of equal ones the first.

        Args:
            states: B of them
            accessible: True where state b may cite premise n, bool (B, N), see `Corpus.accessible_masks`
            k: premises for each state

        Returns:
            Scores, float32 (B, k), and premise numbers, int64 (B, k). Where fewer than k are accessible the
            tail holds -inf and -1.
        """
        check_positive(k=k)
        return top_k(self.scores(states).masked_fill_(~accessible, -torch.inf), k)


def _document(premise: Premise) -> list[str]:
    parts = split_name(premise.full_name)
    return tokenize(f"{parts[-1] if parts else ''} {premise.code}")


def predict(
    data_path: Path,
    corpus_path: Path,
    output_dir: Path,
    splits: Sequence[str] = SPLITS,
    k: int = 100,
    k1: float = 1.5,
    b: float = 0.75,
) -> None:
    """Retrieve premises for all states of a data set by BM25, and write them as predictions.

    Args:
        data_path: folder with train.json, val.json, test.json
        corpus_path: corpus.jsonl
        output_dir: folder of predictions to write
        splits: whose states to retrieve for
        k: premises per state
        k1: weight of repetition in a premise, at least 0
        b: discount of long premises, from 0 to 1

    Raises:
        ConfigError: if k, k1 or b is out of range, or bm25s is not installed
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    check_positive(k=k)
    corpus = Corpus(corpus_path)
    retriever = BM25Retriever(corpus, k1, b)
    for split in splits:
        traced = TracedTactics.load(data_path / f"{split}.json")
        print(traced.summary())
        writer = PredictionWriter(output_dir, corpus, retriever="bm25", k=k, split=split, num_contexts=len(traced))
        with writer, tqdm(total=len(traced), desc=f"bm25 {split}", unit="state") as bar:
            for first in range(0, len(traced), _BATCH_SIZE):
                steps = traced[first : first + _BATCH_SIZE]
                accessible = corpus.accessible_masks([step.provenance.place for step in steps])
                scores, numbers = retriever.search([step.state for step in steps], accessible, k)
                writer.write([_context(step) for step in steps], numbers, scores)
                bar.update(len(steps))
    print(f"wrote {output_dir}")


def _context(step: TracedTactic) -> RetrievalContext:
    return RetrievalContext(step.provenance, hash_state(step.state))


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    predict(**parse_arguments(predict, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
