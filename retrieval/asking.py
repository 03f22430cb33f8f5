"""Asking any retriever about the steps of a split, for predictions on disk and for tables.

Shape legend: B steps of a batch, k premises of each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

from common import Context
from retrieval.leandojo.traces import TracedTactic, TracedTactics
from retrieval.predictions.files import RetrievalContext, hash_state
from retrieval.predictions.reader_writer import PredictionWriter
from retrieval.retriever import Retriever

_BATCH_SIZE = 64


def ask(
    retriever: Retriever, steps: Sequence[TracedTactic], k: int, what: str = "retrieve"
) -> Iterator[tuple[Sequence[TracedTactic], Tensor, Tensor]]:
    """Yield batches of steps with scores, float32 (B, k), and premise numbers, int64 (B, k); see `Retriever.rank`."""
    retriever.prepare()
    with tqdm(total=len(steps), desc=what, unit="state", delay=1) as bar:
        for first in range(0, len(steps), _BATCH_SIZE):
            batch = steps[first : first + _BATCH_SIZE]
            scores, numbers = retriever.rank([context_of(step) for step in batch], k)
            yield batch, scores, numbers
            bar.update(len(batch))


def context_of(step: TracedTactic) -> Context:
    """Return what a retriever is told of a step."""
    origin = step.provenance
    return Context(origin.file_path, origin.full_name, origin.start, step.state)


def write_predictions(
    retriever: Retriever, data_path: Path, output_dir: Path, splits: Sequence[str], k: int, name: str
) -> None:
    """Retrieve premises for all states of some splits, and write them.

    Args:
        retriever: with its corpus
        data_path: folder with train.json, val.json, test.json
        output_dir: folder of predictions to write
        splits: whose states
        k: premises of a state
        name: of the retriever, in the files

    Raises:
        DataError: if a file is missing or broken, or output_dir cannot be written
    """
    corpus = retriever.corpus
    assert corpus is not None, "load_corpus comes first"
    for split in splits:
        traced = TracedTactics.load(data_path / f"{split}.json")
        print(traced.summary())
        num = len(traced)
        with PredictionWriter(output_dir, corpus, retriever=name, k=k, split=split, num_contexts=num) as writer:
            for steps, scores, numbers in ask(retriever, traced, k, f"retrieve {split}"):
                contexts = [RetrievalContext(step.provenance, hash_state(step.state)) for step in steps]
                writer.write(contexts, numbers, scores)
    print(f"wrote {output_dir}")
