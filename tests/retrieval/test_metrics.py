import random

import pytest
import torch
from torchmetrics.utilities import dim_zero_sum

from retrieval.metrics import RetrievalMetrics, is_positive, pad_numbers, score_contexts


def _reference(retrieved: list[list[int]], positives: list[list[int]], k: int) -> tuple[float, float]:
    """ReProver's definitions, one context after the other."""
    recall, reciprocal_rank = [], []
    for found, wanted in zip(retrieved, positives, strict=True):
        if not wanted:
            continue
        recall.append(len(set(found[:k]) & set(wanted)) / len(set(wanted)))
        ranks = [rank for rank, number in enumerate(found, start=1) if number in wanted]
        reciprocal_rank.append(1 / ranks[0] if ranks else 0.0)
    return sum(recall) / len(recall), sum(reciprocal_rank) / len(reciprocal_rank)


def _random_case(num: int, k: int) -> tuple[list[list[int]], list[list[int]]]:
    rng = random.Random(num)
    retrieved = [rng.sample(range(15), rng.randint(0, k)) for _ in range(num)]
    positives = [[rng.randrange(15) for _ in range(rng.randint(0, 4))] for _ in range(num)]
    return retrieved, positives


def test_a_worked_example() -> None:
    retrieved = pad_numbers([[5, 2, 7], [1, 0, 3], [4], [], [8, 9, 6]])
    positives = pad_numbers([[2, 7, 9], [1], [], [4], [6, 6]])
    recall, reciprocal_rank = score_contexts(retrieved, positives)
    expected = torch.tensor([[0, 1 / 3, 2 / 3], [1, 1, 1], [0, 0, 0], [0, 0, 1]])
    torch.testing.assert_close(recall, expected)
    torch.testing.assert_close(reciprocal_rank, torch.tensor([1 / 2, 1, 0, 1 / 3]))


def test_metric_follows_reprovers_definition_over_uneven_batches() -> None:
    retrieved, positives = _random_case(100, k=10)
    metric = RetrievalMetrics(num_retrieved=10)
    for first, last in [(0, 7), (7, 8), (8, 64), (64, 100)]:
        metric.update(pad_numbers(retrieved[first:last]), pad_numbers(positives[first:last]))
    result = metric.compute()
    for k in range(1, 11):
        recall, mrr = _reference(retrieved, positives, k)
        assert result["recall"][k - 1].item() == pytest.approx(recall)
        assert result["mrr"].item() == pytest.approx(mrr)


def test_ranks_add_up() -> None:
    """What "sum" does with the states of two ranks gives the metric of all contexts."""
    retrieved, positives = _random_case(30, k=5)
    ranks = [RetrievalMetrics(5), RetrievalMetrics(5)]
    for rank, metric in enumerate(ranks):
        metric.update(pad_numbers(retrieved[rank::2]), pad_numbers(positives[rank::2]))
        assert set(metric._reductions.values()) == {dim_zero_sum}
    total = RetrievalMetrics(5)
    for name in total.metric_state:
        setattr(total, name, getattr(ranks[0], name) + getattr(ranks[1], name))
    total._update_count = 1
    recall, mrr = _reference(retrieved, positives, 5)
    assert total.compute()["recall"][-1].item() == pytest.approx(recall)
    assert total.compute()["mrr"].item() == pytest.approx(mrr)


def test_contexts_without_premises_do_not_count() -> None:
    metric = RetrievalMetrics(2)
    metric.update(torch.tensor([[1, 2]]), pad_numbers([[]]))
    metric.update(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 0, dtype=torch.int64))
    assert metric.num_contexts == 0 and metric.compute()["mrr"].isnan()
    metric.update(torch.tensor([[1, 2]]), torch.tensor([[2]]))
    assert metric.compute()["recall"].tolist() == [0, 1] and metric.compute()["mrr"] == 0.5


def test_padding_is_no_premise() -> None:
    marked = is_positive(torch.tensor([[0, -1, 3], [3, -1, -1]]), torch.tensor([[3, -1], [-1, -1]]))
    assert marked.tolist() == [[False, False, True], [False, False, False]]
    shared = is_positive(torch.tensor([[4, 5, 6]]), torch.tensor([[6, 4], [5, -1]]))
    assert shared.tolist() == [[True, False, True], [False, True, False]]


def test_wider_rows_than_announced_are_refused() -> None:
    with pytest.raises(ValueError, match="3 premises retrieved, but num_retrieved is 2"):
        RetrievalMetrics(2).update(torch.tensor([[1, 2, 3]]), torch.tensor([[2]]))
