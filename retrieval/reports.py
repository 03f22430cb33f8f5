"""What evaluation of a retriever shows beside its metrics: retrieved premises, recall against k, and figures."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from retrieval.corpus import Corpus
from retrieval.dataset import RetrievalBatch
from retrieval.embedding_index import EmbeddingIndex
from retrieval.metrics import first_hits
from retrieval.training.charts import Bins, Chart, Curve, calibration, rank_histogram, shares_by_group
from retrieval.training.markdown import as_code, inline_code
from retrieval.training.monitoring import log_text
from retrieval.training.outcomes import Counts, RankOutcomes

_NUM_SHOWN = 3  # contexts
_NUM_PREMISES = 10  # of each
_NUM_PROJECTED = 5000  # premises; the Projector draws more only slowly
_GROUPINGS = {"premises": Bins((1, 2, 3, 5, 10))}  # right premises of a context
_COSINES = (-1.0, 1.0)
_NUM_BINS = 20
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
        log_text(module, f"examples_{split}/{i}", text)


def premise_table(corpus: Corpus, cited: set[int], numbers: list[int], scores: list[float]) -> str:
    """Return a Markdown table of premises, best first, with a mark at cited ones; those not found follow."""
    lines = ["| | rank | cosine | premise | file |", "|---|---:|---:|---|---|"]
    ranked = [(str(rank), f"{score:.3f}", n) for rank, (n, score) in enumerate(zip(numbers, scores, strict=False), 1)]
    missed = [("", "", number) for number in sorted(cited - set(numbers))]
    for rank, score, number in [*ranked, *missed]:
        if number >= 0:
            premise = corpus[number]
            name, path = inline_code(premise.full_name), inline_code(premise.path)
            lines.append(f"| {'✓' if number in cited else ''} | {rank} | {score} | {name} | {path} |")
    return "\n".join(lines)


class PremiseOutcomes(RankOutcomes):
    """Counts where the first right premise stands among those retrieved, for figures; sums over ranks (DDP).

    Only contexts with at least one right premise count, as in `retrieval.metrics`.
    """

    def __init__(self, num_retrieved: int) -> None:
        """Start at zero.

        Args:
            num_retrieved: K, the most premises that are retrieved for a context
        """
        super().__init__(num_retrieved, _GROUPINGS, _COSINES, _NUM_BINS)

    def observe(self, numbers: Tensor, scores: Tensor, positives: Tensor) -> None:
        """Count a batch of B contexts.

        Args:
            numbers: retrieved premises, best first, int64 (B, K) or narrower, -1 behind the last
            scores: their cosines, float (B, K)
            positives: right premises, int64 (B, P), -1 behind the last
        """
        ranks, num_positives = first_hits(numbers, positives)
        ranks = torch.where(ranks < numbers.shape[1], ranks, self.k)
        nothing = torch.full(ranks.shape, torch.nan, device=scores.device)
        first = torch.where(numbers[:, 0] >= 0, scores[:, 0].float(), nothing) if numbers.shape[1] else nothing
        counted = num_positives > 0
        self.update(ranks[counted], first[counted], {"premises": num_positives[counted]})


def premise_charts(counts: Counts, recall: Tensor) -> dict[str, Chart]:
    """Return the figures of an evaluation by their names; none if nothing was counted.

    Args:
        counts: over all contexts
        recall: Recall@1..K, float (K,)
    """
    if not counts.num:
        return {}
    what = "contexts"  # those that have right premises
    charts: dict[str, Chart] = {
        "rank": rank_histogram(counts.num_at_rank, title="Rank of the first right premise", what=what, xlabel="rank"),
        "recall_at_k": Curve(
            "Recall against the number of premises",
            what,
            "premises retrieved, k",
            "Recall@k",
            tuple(range(1, len(recall) + 1)),
            tuple(recall.tolist()),
            counts.num,
        ),
        "found_by_num_premises": shares_by_group(
            counts.by_group["premises"],
            _GROUPINGS["premises"],
            {f"first {k}": k for k in (1, 10) if k <= len(recall)},
            title="Found by number of right premises",
            what=what,
            xlabel="right premises of a context",
            ylabel="a right one is among them",
        ),
        "right_by_cosine": calibration(
            counts.num_scored,
            counts.num_right,
            counts.score_sums,
            _COSINES,
            title="Cosine of the first premise against being right",
            what=what,
            xlabel="cosine of context and first premise",
            ylabel="first premise right",
            is_probability=False,
        ),
    }
    return {name: chart for name, chart in charts.items() if chart.num}


def log_curve(module: pl.LightningModule, split: str, recall: Tensor) -> None:
    """Log recall against k as a table.

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
