"""One table for any number of retrievers: `python -m retrieval.evaluate --predictions A B ...`.

Reads the predictions that `retrieval.main predict`, `retrieval.predict` and `retrieval.bm25` write, asks retrievers
that have written none, and can join predictions by Reciprocal Rank Fusion.

Shape legend: M contexts, K premises retrieved for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from common import ConfigError, DataError
from retrieval.asking import ask
from retrieval.corpus import Corpus, positive_premises
from retrieval.fusion import fuse
from retrieval.leandojo.traces import TracedTactics
from retrieval.load import load_retriever
from retrieval.metrics import RetrievalMetrics, pad_numbers
from retrieval.predictions.files import RetrievalContext
from retrieval.predictions.reader_writer import Predictions, PredictionWriter
from retrieval.retriever import Retriever
from retrieval.training.commands import parse_arguments, run
from retrieval.training.files import write_json

_BATCH_SIZE = 1024
_LEAST_K = 10  # the table says R@10
_MRR_DEPTH = 100  # premises of which MRR takes the first right one, as in predictions


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table; recalls and MRR are fractions.

    `num_contexts` counts those that cite a premise: only these are scored.
    """

    predictions: str
    retriever: str
    split: str
    recall_at_1: float
    recall_at_10: float
    mrr: float
    num_contexts: int


def score(predictions: Predictions, split: str, traced: TracedTactics, positives: Sequence[Sequence[int]]) -> Row:
    """Score one set of predictions on one split, as ReProver's evaluate.py does.

    Args:
        predictions: what was retrieved
        split: a name for the table
        traced: the steps of the split
        positives: premises that each step cites, see `positive_premises`

    Raises:
        DataError: if the predictions lack a step that cites a premise
    """
    wanted = [index for index, numbers in enumerate(positives) if numbers]
    found = [_find(predictions, traced, index) for index in wanted]
    rows = [row for row in found if row is not None]
    if len(rows) < len(wanted):
        raise DataError(
            f"{predictions.folder} lacks {len(wanted) - len(rows)} of the {len(wanted)} states of {traced.path} "
            "that cite a premise; it was made from other data, so make it again"
        )
    metrics = RetrievalMetrics(max(_LEAST_K, predictions.k))
    for first in range(0, max(1, len(rows)), _BATCH_SIZE):
        retrieved = predictions.premise_numbers[rows[first : first + _BATCH_SIZE]]
        batch = [positives[index] for index in wanted[first : first + _BATCH_SIZE]]
        metrics.update(torch.from_numpy(retrieved), pad_numbers(batch))
    return _row(str(predictions.folder), predictions.retriever, split, metrics, len(rows))


def score_retriever(retriever: Retriever, split: str, traced: TracedTactics, positives: Sequence[Sequence[int]]) -> Row:
    """Ask a retriever about the steps that cite a premise, and score it as `score` does its predictions."""
    wanted = [index for index, numbers in enumerate(positives) if numbers]
    metrics, first = RetrievalMetrics(_MRR_DEPTH), 0
    for steps, _, found in ask(retriever, [traced[index] for index in wanted], _MRR_DEPTH, f"{split} {retriever.name}"):
        metrics.update(found, pad_numbers([positives[index] for index in wanted[first : first + len(steps)]]))
        first += len(steps)
    return _row("", retriever.name, split, metrics, len(wanted))


def _row(predictions: str, retriever: str, split: str, metrics: RetrievalMetrics, num_contexts: int) -> Row:
    result = metrics.compute()  # NaN where no step cites a premise
    return Row(
        predictions=predictions,
        retriever=retriever,
        split=split,
        recall_at_1=result["recall"][0].item(),
        recall_at_10=result["recall"][9].item(),
        mrr=result["mrr"].item(),
        num_contexts=num_contexts,
    )


def _find(predictions: Predictions, traced: TracedTactics, index: int) -> int | None:
    return predictions.find(traced[index].provenance)


def format_table(rows: Iterable[Row]) -> str:
    """Write rows as a Markdown table, recall in percent."""
    lines = [
        "| predictions | retriever | split | R@1 | R@10 | MRR | contexts |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = f"{100 * row.recall_at_1:.1f} | {100 * row.recall_at_10:.1f} | {row.mrr:.3f} | {row.num_contexts}"
        lines.append(f"| {row.predictions} | {row.retriever} | {row.split} | {figures} |")
    return "\n".join(lines)


def write_fusion(sets: Sequence[Predictions], corpus: Corpus, folder: Path) -> Predictions:
    """Fuse predictions of the same contexts, all with the same weight, write the result as a new set, and open it.

    Raises:
        DataError: if a split or a context is not in all of them
    """
    first = sets[0]
    name, k = f"rrf({', '.join(each.retriever for each in sets)})", max(each.k for each in sets)
    for other in sets[1:]:
        if first.splits != other.splits:
            raise DataError(f"{first.folder} has the splits {first.splits}, and {other.folder} {other.splits}")
    for split in first.splits:
        contexts = [first.contexts[row] for row in first.rows_of(split).tolist()]
        rows = [_rows_of(each, first, contexts, split) for each in sets]
        with PredictionWriter(folder, corpus, retriever=name, k=k, split=split, num_contexts=len(contexts)) as writer:
            for start in range(0, len(contexts), _BATCH_SIZE):
                batch = slice(start, start + _BATCH_SIZE)
                rankings = [
                    torch.from_numpy(each.premise_numbers[own[batch]]) for each, own in zip(sets, rows, strict=True)
                ]
                scores, numbers = fuse(rankings, k)
                writer.write(contexts[batch], numbers, scores)
    return Predictions.load(folder, corpus)


def _rows_of(
    predictions: Predictions, first: Predictions, contexts: Sequence[RetrievalContext], split: str
) -> list[int]:
    """The rows of contexts of another set, which has to have the same."""
    rows = [predictions.find(context.provenance) for context in contexts]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or len(known) < len(predictions.rows_of(split)):
        raise DataError(f"{first.folder} and {predictions.folder} differ in their contexts of {split}")
    return known


def evaluate(
    data_path: Path,
    corpus_path: Path,
    predictions: Sequence[Path] = (),
    splits: Sequence[str] | None = None,
    output: Path | None = None,
    fuse_to: Path | None = None,
    retrievers: Sequence[str] = (),
) -> list[Row]:
    """Print Recall@1, Recall@10 and MRR of retrievers on each split.

    Args:
        data_path: folder with train.json, val.json, test.json
        corpus_path: corpus.jsonl
        predictions: folders of predictions
        splits: to score on; if not given, all that every folder of predictions has, or val where there are none
        output: JSON file to write the table to
        fuse_to: write the Reciprocal Rank Fusion of the predictions here, and score it too
        retrievers: that are asked themselves: checkpoints; encoders' folders or hub ids; folders of retrieval.neighbors
            or retrieval.fuse; or bm25

    Returns:
        The rows of the table.

    Raises:
        ConfigError: if a split is not in all predictions, nothing is to be scored, or fewer than two sets of
            predictions are to be fused
        DataError: if a file is missing, broken or made from other data, or cannot be written
    """
    if fuse_to is not None and len(predictions) < 2:
        raise ConfigError(f"fuse_to joins two or more sets of predictions, but {len(predictions)} are given")
    if not predictions and not retrievers:
        raise ConfigError("there is nothing to score; give predictions, retrievers, or both")
    corpus = Corpus(corpus_path)
    sets = [Predictions.load(folder, corpus) for folder in predictions]
    asked = [_opened(each, corpus) for each in retrievers]
    if fuse_to is not None:
        sets.append(write_fusion(sets, corpus, fuse_to))
    rows = []
    for split in _splits(sets, splits):
        traced = TracedTactics.load(data_path / f"{split}.json")
        positives = positive_premises(traced, corpus)
        rows += [score(each, split, traced, positives) for each in sets]
        rows += [score_retriever(each, split, traced, positives) for each in asked]
    print(format_table(rows))
    if output is not None:
        write_json(output, {"format_version": 1, "rows": [_record(row) for row in rows]})
    return rows


def _opened(path: str, corpus: Corpus) -> Retriever:
    retriever = load_retriever(path, "cuda" if torch.cuda.is_available() else "cpu")
    retriever.load_corpus(corpus)
    return retriever


def _record(row: Row) -> dict[str, str | float | None]:
    """The row as JSON has it: without NaN, which the figures of a split are in which no step cites a premise."""
    return {name: None if value != value else value for name, value in asdict(row).items()}


def _splits(sets: Sequence[Predictions], wanted: Sequence[str] | None) -> list[str]:
    if not sets:
        return list(wanted) if wanted else ["val"]
    common_splits = set.intersection(*(set(each.splits) for each in sets))
    missing = [split for split in wanted or () if split not in common_splits]
    if missing or not common_splits:
        raise ConfigError(
            f"splits {', '.join(missing or ['in common'])}: not in all predictions, which have "
            + "; ".join(f"{each.folder}: {', '.join(each.splits)}" for each in sets)
        )
    order = {"train": 0, "val": 1, "test": 2}
    return list(wanted) if wanted else sorted(common_splits, key=lambda split: (order.get(split, 3), split))


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; `args` replaces it in tests."""
    evaluate(**parse_arguments(evaluate, args))


def cli() -> None:
    """Run the command."""
    run(main)


if __name__ == "__main__":
    cli()
