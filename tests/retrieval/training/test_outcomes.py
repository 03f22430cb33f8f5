"""What is counted for figures: right on a worked example, in batches of any size, and over ranks."""

import math
from typing import Any

import pytest
import torch
from torch import multiprocessing

from retrieval.training.charts import Bins
from retrieval.training.outcomes import Counts, RankOutcomes

NAN = math.nan
RANKS = [0, 2, 1, 0, 3, 0, 3]
SCORES = [0.95, 0.1, 0.5, 1.0, NAN, 0.3, 0.0]
SIZES = [1, 2, 3, 2, 9, 0, 1]


def outcomes() -> RankOutcomes:
    return RankOutcomes(3, {"size": Bins((1, 2))}, limits=(0.0, 1.0), num_bins=4)


def count(metric: RankOutcomes, rows: range) -> None:
    ranks, scores, sizes = ([column[row] for row in rows] for column in (RANKS, SCORES, SIZES))
    metric.update(torch.tensor(ranks), torch.tensor(scores), {"size": torch.tensor(sizes)})


def test_counts_of_a_worked_example() -> None:
    metric = outcomes()
    count(metric, range(7))
    counts = metric.counts()
    assert counts.num_at_rank == [3, 1, 1, 2] and counts.num == 7
    # sizes 1, 2 and above; the thing of unknown size is in none
    assert counts.by_group == {"size": [[1, 0, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1]]}
    assert counts.num_scored == [2, 1, 1, 2], "edges belong to the upper bin, 1 to the last, and NaN to none"
    assert counts.num_right == [0, 1, 0, 2]
    assert counts.score_sums == pytest.approx([0.1, 0.3, 0.5, 1.95], abs=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_size_of_batches_changes_nothing(size: int) -> None:
    whole, parts = outcomes(), outcomes()
    count(whole, range(7))
    for start in range(0, 7, size):
        count(parts, range(start, min(start + size, 7)))
    assert parts.counts() == whole.counts(), "to the last bit"


def test_it_does_not_grow_and_can_be_emptied() -> None:
    metric = outcomes()
    before = {name: getattr(metric, name).shape for name in metric._defaults}
    for _ in range(20):
        count(metric, range(7))
    assert {name: getattr(metric, name).shape for name in metric._defaults} == before
    assert not metric.state_dict(), "checkpoints do not hold it"
    metric.reset()
    assert metric.counts().num == 0


def test_counts_made_in_inference_mode_go_on_outside_it() -> None:
    metric = outcomes()
    with torch.inference_mode():
        count(metric, range(3))
    count(metric, range(3, 7))
    assert metric.counts().num == 7


def _rank(rank: int, port: int, results: Any) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metric = outcomes()
    count(metric, range(2) if rank == 0 else range(2, 7))  # unequal shares
    results[rank] = vars(metric.counts())
    torch.distributed.destroy_process_group()


def test_two_ranks_count_what_one_counts(free_port: int) -> None:
    whole = outcomes()
    count(whole, range(7))
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_rank, (free_port, results), nprocs=2)
        assert Counts(**results[0]) == Counts(**results[1]) == whole.counts()
