"""Groups of similar length: every input once, little padding, and no more tokens than are allowed."""

import pytest
import torch

from generator.decoding.grouping import LIMITS, limits_of, longest_first, similar_lengths


def test_groups_hold_every_input_once_and_waste_little():
    lengths = [5, 2300, 2000, 7, 6, 900, 1, 2300]
    groups = similar_lengths(lengths, max_tokens=4600, min_share=0.7)
    assert groups == [[1, 7], [2], [5], [3, 4, 0], [6]]
    assert similar_lengths([3, 10, 9, 4, 10], max_tokens=30, min_share=0.7) == [[1, 4, 2], [3, 0]]
    assert similar_lengths([]) == []


def test_without_limits_all_are_one_group_longest_first():
    assert similar_lengths([3, 10, 9, 10]) == [[1, 3, 2, 0]] == [longest_first([3, 10, 9, 10])]


def test_an_input_longer_than_a_whole_group_stands_alone():
    assert similar_lengths([50, 50, 8], max_tokens=10) == [[0], [1], [2]]


def test_without_padding_an_input_counts_its_own_tokens_only():
    assert similar_lengths([6, 3, 3], max_tokens=12) == [[0, 1], [2]]
    assert similar_lengths([6, 3, 3], max_tokens=12, is_padded=False) == [[0, 1, 2]]
    assert similar_lengths([6, 3, 3], max_tokens=11, is_padded=False) == [[0, 1], [2]]


@pytest.mark.parametrize("options", [{"max_tokens": 20}, {"min_share": 0.8}, {"max_tokens": 30, "is_padded": False}])
def test_lengths_that_never_rise_fall_into_runs_of_neighbours(options):
    lengths = [17, 12, 12, 9, 5, 5, 5, 2]
    groups = similar_lengths(lengths, **options)
    assert len(groups) > 1 and [number for group in groups for number in group] == list(range(8))


def test_a_device_without_limits_of_its_own_has_those_of_a_cpu():
    assert limits_of(torch.device("meta")) is LIMITS["cpu"]
    assert limits_of(torch.device("cuda")) is LIMITS["cuda"]
