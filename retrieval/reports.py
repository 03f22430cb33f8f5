"""What evaluation of a retriever shows beside its metrics: retrieved premises, and recall against k."""

from __future__ import annotations

import importlib
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from retrieval.corpus import Corpus
from retrieval.dataset import RetrievalBatch
from retrieval.embedding_index import EmbeddingIndex
from retrieval.training.monitoring import as_code, log_text

_NUM_SHOWN = 3  # contexts
_NUM_PREMISES = 10  # of each
_NUM_PROJECTED = 5000  # premises; the Projector draws more only slowly
_TABLE_CUTOFFS = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)


def log_retrieved(
    module: pl.LightningModule, split: str, batch: RetrievalBatch, corpus: Corpus, numbers: Tensor, scores: Tensor
) -> None:
    """Log some states and what was retrieved for them as text, with a mark at the cited premises.

    Args:
        module: whose loggers to use
        split: begins the tags
        batch: B contexts
        corpus: what the numbers refer to
        numbers: retrieved premises, best first, int64 (B, K), -1 behind the last
        scores: their cosines, float (B, K)
    """
    if not module.loggers or not module.trainer.is_global_zero:
        return
    rows = zip(batch["state"], batch["positives"].tolist(), numbers.tolist(), scores.tolist(), strict=True)
    for i, (state, positives, found, values) in list(enumerate(rows))[:_NUM_SHOWN]:
        cited = {number for number in positives if number >= 0}
        text = as_code(state) + "\n" + premise_table(corpus, cited, found[:_NUM_PREMISES], values)
        log_text(module, f"retrieved_{split}/{i}", text)


def premise_table(corpus: Corpus, cited: set[int], numbers: list[int], scores: list[float]) -> str:
    """Return a Markdown table of premises, best first, with a mark at cited ones; those not found follow."""
    lines = ["| | rank | cosine | premise | file |", "|---|---:|---:|---|---|"]
    ranked = [(str(rank), f"{score:.3f}", n) for rank, (n, score) in enumerate(zip(numbers, scores, strict=False), 1)]
    missed = [("", "", number) for number in sorted(cited - set(numbers))]
    for rank, score, number in [*ranked, *missed]:
        if number >= 0:
            premise = corpus[number]
            name = premise.full_name.replace("|", "\\|")
            lines.append(f"| {'✓' if number in cited else ''} | {rank} | {score} | `{name}` | {premise.path} |")
    return "\n".join(lines)


def log_curve(module: pl.LightningModule, split: str, recall: Tensor) -> None:
    """Log recall against k: a table, and a figure where matplotlib is installed and the logger takes one.

    Args:
        module: whose loggers to use
        split: ends the tag
        recall: Recall@1..K, float (K,)
    """
    if not module.loggers or not module.trainer.is_global_zero:
        return
    values = recall.tolist()
    shown = [k for k in _TABLE_CUTOFFS if k < len(values)] + [len(values)]
    rows = [f"| {k} | {100 * values[k - 1]:.1f} |" for k in shown]
    log_text(module, f"recall_at_k_{split}", "\n".join(["| k | Recall@k (%) |", "|---:|---:|", *rows]))
    for logger in module.loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(experiment, "add_figure") and (figure := _figure(values)) is not None:
            experiment.add_figure(f"recall_at_k_{split}", figure, module.global_step)


def _figure(recall: list[float]) -> Any:
    """Plot recall against k on no display; None without matplotlib."""
    try:
        figures = importlib.import_module("matplotlib.figure")
        importlib.import_module("matplotlib.backends.backend_agg")
    except ImportError:
        return None
    figure = figures.Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.plot(range(1, len(recall) + 1), recall)
    axes.set(xlabel="k", ylabel="Recall@k", xscale="log", ylim=(0, 1))
    axes.grid(alpha=0.3)
    return figure


def log_projector(module: pl.LightningModule, index: EmbeddingIndex) -> None:
    """Show premises, evenly chosen where there are many, in TensorBoard's Projector, with their names and files."""
    if not module.trainer.is_global_zero:
        return
    numbers = range(0, len(index), max(1, -(-len(index) // _NUM_PROJECTED)))
    premises = [index.corpus[number] for number in numbers]
    for logger in module.loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if numbers and hasattr(experiment, "add_embedding"):
            experiment.add_embedding(
                index.vectors(numbers),
                metadata=[[premise.full_name, premise.path] for premise in premises],
                metadata_header=["premise", "file"],
                global_step=module.global_step,
                tag="premises",
            )
