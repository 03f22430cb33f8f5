"""From counts to what a figure shows, on worked examples."""

import math

import pytest

from retrieval.training.charts import Bins, Share, calibration, rank_histogram, shares_by_group

TEXTS = {"title": "", "what": "states", "xlabel": ""}


def test_bins_are_named_after_the_numbers_in_them() -> None:
    bins = Bins((1, 2, 4, 8))
    assert bins.labels == ("1", "2", "3–4", "5–8", "≥ 9") and len(bins) == 5
    assert [bins.index(number) for number in (1, 2, 3, 4, 5, 8, 9, 10_000)] == [0, 1, 2, 2, 3, 3, 4, 4]


def test_few_ranks_have_a_bar_each() -> None:
    chart = rank_histogram([5, 0, 2, 3], **TEXTS)
    assert chart.labels == ("1", "2", "3", "not\nfound") and chart.counts == (5, 0, 2, 3) and chart.num == 10


def test_many_ranks_share_bars_and_none_is_lost() -> None:
    num_at_rank = [100 + rank for rank in range(1, 65)] + [7]
    chart = rank_histogram(num_at_rank, **TEXTS)
    assert chart.labels == ("1", "2", "3", "4", "5", "6–10", "11–20", "21–50", "51–64", "not\nfound")
    assert chart.counts[0] == 101 and chart.counts[5] == sum(range(106, 111)) and chart.counts[-1] == 7
    assert chart.num == sum(num_at_rank)


@pytest.mark.parametrize("num_ranks", [1, 12, 13, 20, 50, 100, 2000])
def test_the_last_bar_ends_at_the_last_rank(num_ranks: int) -> None:
    chart = rank_histogram([1] * num_ranks + [3], **TEXTS)
    assert chart.num == num_ranks + 3 and len(chart.labels) == len(chart.counts) <= 14
    assert chart.labels[-2].split("–")[-1] == str(num_ranks)


def test_intervals_are_those_of_wilson() -> None:
    share = Share.of(8, 10)  # 0.4902 and 0.9433, as in any table of them
    assert (share.value, share.low, share.high) == pytest.approx((0.8, 0.4902, 0.9433), abs=1e-4)
    assert Share.of(0, 5).low == 0.0 and Share.of(0, 5).high == pytest.approx(0.4345, abs=1e-3)
    assert Share.of(5, 5).high == pytest.approx(1.0) and math.isnan(Share.of(0, 0).value)


def test_no_share_is_outside_its_interval() -> None:
    """Rounding puts the upper end of all of 4 a little under 1."""
    for whole in range(1, 60):
        for part in range(whole + 1):
            share = Share.of(part, whole)
            assert 0 <= share.low <= share.value <= share.high <= 1


def test_shares_count_what_stands_before_the_cut_off_in_each_group() -> None:
    table = [[0, 0, 0], [3, 1, 0], [0, 0, 0], [1, 1, 2], [0, 0, 0]]  # (groups, two ranks and not found)
    chart = shares_by_group(table, Bins((1, 2, 3, 4)), {"top-1": 1, "top-2": 2}, **TEXTS, ylabel="")
    assert chart.labels == ("2", "3", "4") and chart.counts == (4, 0, 4) and chart.num == 8
    top1, top2 = ([share.value for share in chart.shares[name]] for name in ("top-1", "top-2"))
    assert [top1[0], top1[2]] == [0.75, 0.25] and [top2[0], top2[2]] == [1.0, 0.5]
    assert math.isnan(top1[1]), "a group in the middle stays, and has no share"


def test_nothing_counted_is_an_empty_chart() -> None:
    assert shares_by_group([[0, 0], [0, 0]], Bins((1,)), {"top-1": 1}, **TEXTS, ylabel="").num == 0
    chart = calibration([0, 0], [0, 0], [0.0, 0.0], (0, 1), **TEXTS, ylabel="", is_probability=True)
    assert chart.num == 0 and chart.error == 0


def test_calibration_compares_the_mean_score_of_a_bin_with_its_share() -> None:
    chart = calibration(
        [2, 0, 0, 4], [1, 0, 0, 3], [0.2, 0.0, 0.0, 3.6], (0, 1), **TEXTS, ylabel="", is_probability=True
    )
    assert chart.edges == ((0.0, 0.25), (0.75, 1.0)) and chart.counts == (2, 4)
    assert chart.scores == pytest.approx((0.1, 0.9)) and [share.value for share in chart.shares] == [0.5, 0.75]
    assert chart.error == pytest.approx((2 * 0.4 + 4 * 0.15) / 6)
