"""What figures of a retriever's evaluation count, on a worked example and against the metrics."""

import math

import pytest
import torch

from retrieval.metrics import RetrievalMetrics, first_hits
from retrieval.reports import PremiseOutcomes, premise_charts
from retrieval.training.charts import Calibration, Curve, GroupedShares, Histogram

NUMBERS = torch.tensor([[7, 3, 5], [1, 2, -1], [4, 6, 8], [9, 0, 2], [-1, -1, -1]])
SCORES = torch.tensor([[0.95, 0.5, 0.1], [0.75, 0.7, -math.inf], [0.65, 0.2, 0.1], [0.5, 0.4, 0.3], [-math.inf] * 3])
POSITIVES = torch.tensor([[7, 7, 5], [2, 0, -1], [1, -1, -1], [-1, -1, -1], [3, -1, -1]])  # the fourth cites nothing


def counted(*sizes: int) -> PremiseOutcomes:
    """The outcomes of the five contexts in batches of these sizes."""
    outcomes = PremiseOutcomes(3)
    for batch in zip(*(column.split(sizes) for column in (NUMBERS, SCORES, POSITIVES)), strict=True):
        outcomes.observe(*batch)
    return outcomes


def test_the_first_hit_and_distinct_positives_of_each_context() -> None:
    ranks, num_positives = first_hits(NUMBERS, POSITIVES)
    assert ranks.tolist() == [0, 1, 3, 3, 3] and num_positives.tolist() == [2, 2, 1, 0, 1]


def test_figures_of_a_worked_example() -> None:
    recall = torch.tensor([0.125, 0.25, 0.375])
    charts = premise_charts(counted(5).counts(), recall)
    rank, curve, found, cosine = charts.values()
    assert list(charts) == ["rank", "recall_at_k", "found_by_num_premises", "right_by_cosine"]
    assert isinstance(rank, Histogram) and rank.counts == (1, 1, 0, 2), "contexts that cite nothing do not count"
    assert isinstance(curve, Curve) and curve.x == (1, 2, 3) and curve.y == (0.125, 0.25, 0.375) and curve.num == 4
    assert isinstance(found, GroupedShares) and found.labels == ("1", "2") and found.counts == (2, 2)
    assert [share.value for share in found.shares["first 1"]] == [0.0, 0.5] and list(found.shares) == ["first 1"]
    assert isinstance(cosine, Calibration) and cosine.counts == (1, 1, 1), "where nothing was retrieved is no cosine"
    assert cosine.scores == pytest.approx((0.65, 0.75, 0.95), abs=1e-5)
    assert [share.value for share in cosine.shares] == [0.0, 0.0, 1.0]


def test_the_size_of_batches_changes_nothing() -> None:
    assert counted(5).counts() == counted(1, 1, 1, 1, 1).counts() == counted(2, 3).counts()


def test_rows_narrower_than_asked_for_are_not_found_behind_their_end() -> None:
    outcomes = PremiseOutcomes(10)  # of a corpus of three
    outcomes.observe(NUMBERS, SCORES, POSITIVES)
    assert outcomes.counts().num_at_rank == [1, 1, *[0] * 8, 2]
    outcomes.observe(NUMBERS[:, :0], SCORES[:, :0], POSITIVES)
    assert outcomes.counts().num_at_rank == [1, 1, *[0] * 8, 6]


def test_ranks_agree_with_the_mean_reciprocal_rank() -> None:
    generator = torch.Generator().manual_seed(0)
    numbers = torch.stack([torch.randperm(30, generator=generator)[:10] for _ in range(200)])
    positives = torch.randint(-1, 30, (200, 4), generator=generator)
    metrics, outcomes = RetrievalMetrics(10), PremiseOutcomes(10)
    metrics.update(numbers, positives)
    outcomes.observe(numbers, torch.rand(200, 10, generator=generator), positives)
    counts = outcomes.counts()
    by_rank = sum(count / rank for rank, count in enumerate(counts.num_at_rank[:-1], start=1)) / counts.num
    assert by_rank == pytest.approx(float(metrics.compute()["mrr"]), rel=1e-5)
    assert sum(map(sum, counts.by_group["premises"])) == counts.num == int(metrics.num_contexts)


def test_nothing_counted_is_nothing_drawn() -> None:
    assert premise_charts(PremiseOutcomes(3).counts(), torch.full((3,), torch.nan)) == {}
