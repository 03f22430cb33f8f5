"""Rankings are joined by weighted reciprocal ranks, and the weights are those that find the most."""

import pytest
import torch

from retrieval.fusion import fit_fusion, fuse, goodness


def _by_hand(rankings: list[list[int]], weights: list[float], offset: float) -> dict[int, float]:
    scores: dict[int, float] = {}
    for ranking, weight in zip(rankings, weights, strict=True):
        for rank, number in enumerate(ranking, start=1):
            if number >= 0:
                scores[number] = scores.get(number, 0.0) + weight / (offset + rank)
    return scores


def _drawn(num: int, width: int, generator: torch.Generator) -> torch.Tensor:
    return torch.stack([torch.randperm(9, generator=generator)[:width] for _ in range(num)])


@pytest.mark.parametrize(("weights", "offset"), [(None, 60.0), ([0.2, 3.0, 1.0], 1.0), ([1.0, 1.0, 1.0], 0.0)])
def test_fusion_sums_weighted_reciprocal_ranks(weights: list[float] | None, offset: float) -> None:
    generator = torch.Generator().manual_seed(0)
    rankings = [_drawn(40, width, generator) for width in (5, 3, 9)]
    rankings[0][0, 2:], rankings[1][0], rankings[2][0] = -1, -1, -1
    for ranking in rankings:
        ranking[1] = -1
    scores, numbers = fuse(rankings, 10, weights, offset)
    assert scores.shape == numbers.shape == (40, 10)
    for row in range(40):
        by_hand = _by_hand([ranking[row].tolist() for ranking in rankings], weights or [1.0] * 3, offset)
        found = [number for number in numbers[row].tolist() if number >= 0]
        assert len(found) == len(by_hand) and set(found) == set(by_hand)
        assert scores[row, : len(found)].tolist() == pytest.approx(sorted(by_hand.values(), reverse=True))
        assert scores[row, : len(found)].tolist() == pytest.approx([by_hand[number] for number in found])
        assert (scores[row, len(found) :] == -torch.inf).all() and (numbers[row, len(found) :] == -1).all()


def test_of_equal_scores_the_lower_number_comes_first() -> None:
    first, second = torch.tensor([[7, 3]]), torch.tensor([[3, 7]])
    assert fuse([first, second], 2)[1].tolist() == [[3, 7]]
    assert fuse([first, second], 1, [2.0, 1.0])[1].tolist() == [[7]]


def test_a_part_that_knows_nothing_gets_the_least_weight() -> None:
    generator = torch.Generator().manual_seed(1)
    right = torch.randint(0, 50, (100, 1), generator=generator)
    noise = torch.stack([torch.randperm(50, generator=generator)[:20] for _ in range(100)])
    good = torch.stack([torch.randperm(50, generator=generator)[:20] for _ in range(100)])
    missing = ~(good == right).any(dim=1)
    good[missing, 2] = right[missing, 0]
    weights, offset = fit_fusion([noise, good], right, k=3)
    assert sum(weights) == pytest.approx(1) and weights[1] > 0.8
    equal, fitted = (goodness([noise, good], right, 3, *each) for each in (([1.0, 1.0], 60.0), (weights, offset)))
    assert equal[0] + 0.1 < fitted[0] == goodness([good], right, 3, [1.0], 60.0)[0]


def test_one_part_and_no_context_are_fitted_all_the_same() -> None:
    assert fit_fusion([torch.tensor([[1, 2]])], torch.tensor([[2]]), k=1) == ([1.0], 0.0)
    nothing = torch.zeros(0, 3, dtype=torch.int64)
    assert fit_fusion([nothing, nothing], torch.zeros(0, 1, dtype=torch.int64), k=1)[0] == [0.5, 0.5]


def test_what_was_retrieved_narrowly_is_scored_at_its_width() -> None:
    assert goodness([torch.tensor([[4, 2]])], torch.tensor([[2, 9]]), 10, [1.0], 60.0) == (0.5, 0.5)
