"""One table for any number of retrievers: `python -m retrieval.evaluate --predictions A B ...`.

Reads the predictions that `retrieval.main predict` and `retrieval.bm25` write, and can join two of them by
Reciprocal Rank Fusion.

Shape legend: M contexts, K premises retrieved for each.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import pad

from common import ConfigError, DataError
from retrieval.corpus import Corpus, positive_premises
from retrieval.embedding_index import top_k
from retrieval.leandojo.traces import TracedTactics
from retrieval.metrics import RetrievalMetrics, pad_numbers
from retrieval.predictions.reader_writer import Predictions, PredictionWriter
from retrieval.training.commands import parse_arguments, run
from retrieval.training.files import write_json

_RANK_OFFSET = 60  # the constant of Cormack et al.
_BATCH_SIZE = 1024


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
    metrics = RetrievalMetrics(max(10, predictions.k))
    for first in range(0, max(1, len(rows)), _BATCH_SIZE):
        retrieved = predictions.premise_numbers[rows[first : first + _BATCH_SIZE]]
        batch = [positives[index] for index in wanted[first : first + _BATCH_SIZE]]
        metrics.update(torch.from_numpy(retrieved), pad_numbers(batch))
    result = metrics.compute()  # NaN where no step cites a premise
    return Row(
        predictions=str(predictions.folder),
        retriever=predictions.retriever,
        split=split,
        recall_at_1=result["recall"][0].item(),
        recall_at_10=result["recall"][9].item(),
        mrr=result["mrr"].item(),
        num_contexts=len(rows),
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


def fuse(first: Tensor, second: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Join two rankings of each context: a premise scores the sum of 1 / (60 + rank).

    Args:
        first: premise numbers, best first, integer (M, K), -1 behind the last
        second: likewise, of the same contexts, any width
        k: premises to keep

    Returns:
        Scores, float32 (M, k), and premise numbers, int64 (M, k); -inf and -1 behind the last. Of equal
        scores the lower number comes first.

    Source: Cormack, Clarke and Büttcher (SIGIR 2009).
    """
    numbers = torch.cat([first, second], dim=1).long()
    ranks = torch.cat([torch.arange(1, side.shape[1] + 1) for side in (first, second)])
    scores = (1.0 / (_RANK_OFFSET + ranks.float())).expand(numbers.shape)
    numbers, order = numbers.sort(dim=1, stable=True)
    scores = scores.gather(1, order)
    repeated = pad(numbers[:, 1:] == numbers[:, :-1], (1, 0))  # a premise stands in each side at most once
    gained = pad(scores.masked_fill(~repeated, 0)[:, 1:], (0, 1))
    scores, places = top_k((scores + gained).masked_fill_(repeated | (numbers < 0), -torch.inf), k)
    return scores, numbers.gather(1, places.clamp(min=0)).masked_fill_(places < 0, -1)


def write_fusion(first: Predictions, second: Predictions, corpus: Corpus, folder: Path) -> Predictions:
    """Fuse two sets of predictions of the same contexts, write the result as a new one, and open it.

    Raises:
        DataError: if a split or a context is in only one of them
    """
    if first.splits != second.splits:
        raise DataError(f"{first.folder} has the splits {first.splits}, and {second.folder} {second.splits}")
    name, k = f"rrf({first.retriever}, {second.retriever})", max(first.k, second.k)
    for split in first.splits:
        rows = first.rows_of(split)
        contexts = [first.contexts[row] for row in rows.tolist()]
        others = [second.find(context.provenance) for context in contexts]
        known = [row for row in others if row is not None]
        if len(known) < len(others) or len(known) < len(second.rows_of(split)):
            raise DataError(f"{first.folder} and {second.folder} differ in their contexts of {split}")
        with PredictionWriter(folder, corpus, retriever=name, k=k, split=split, num_contexts=len(contexts)) as writer:
            for start in range(0, len(contexts), _BATCH_SIZE):
                batch = slice(start, start + _BATCH_SIZE)
                ours = torch.from_numpy(first.premise_numbers[rows[batch]])
                theirs = torch.from_numpy(second.premise_numbers[known[batch]])
                scores, numbers = fuse(ours, theirs, k)
                writer.write(contexts[batch], numbers, scores)
    return Predictions.load(folder, corpus)


def evaluate(
    data_path: Path,
    corpus_path: Path,
    predictions: Sequence[Path],
    splits: Sequence[str] | None = None,
    output: Path | None = None,
    fuse_to: Path | None = None,
) -> list[Row]:
    """Print Recall@1, Recall@10 and MRR of retrievers on each split.

    Args:
        data_path: folder with train.json, val.json, test.json
        corpus_path: corpus.jsonl
        predictions: folders of predictions
        splits: to score on; all that every folder of predictions has if not given
        output: JSON file to write the table to
        fuse_to: write the Reciprocal Rank Fusion of two folders here, and score it too

    Returns:
        The rows of the table.

    Raises:
        ConfigError: if a split is not in all predictions, or other than two are to be fused
        DataError: if a file is missing, broken or made from other data, or cannot be written
    """
    if fuse_to is not None and len(predictions) != 2:
        raise ConfigError(f"fuse_to joins two sets of predictions, but {len(predictions)} are given")
    corpus = Corpus(corpus_path)
    sets = [Predictions.load(folder, corpus) for folder in predictions]
    if fuse_to is not None:
        sets.append(write_fusion(sets[0], sets[1], corpus, fuse_to))
    rows = []
    for split in _splits(sets, splits):
        traced = TracedTactics.load(data_path / f"{split}.json")
        positives = positive_premises(traced, corpus)
        rows += [score(each, split, traced, positives) for each in sets]
    print(format_table(rows))
    if output is not None:
        write_json(output, {"format_version": 1, "rows": [_record(row) for row in rows]})
    return rows


def _record(row: Row) -> dict[str, str | float | None]:
    """The row as JSON has it: without NaN, which the figures of a split are in which no step cites a premise."""
    return {name: None if value != value else value for name, value in asdict(row).items()}


def _splits(sets: Sequence[Predictions], wanted: Sequence[str] | None) -> list[str]:
    common_splits = set.intersection(*(set(each.splits) for each in sets)) if sets else set()
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
