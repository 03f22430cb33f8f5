"""Top-k accuracy from one pass."""

import pytest
import torch
from torch import multiprocessing

from common import ConfigError
from generator.training.metrics import TopkAccuracy


def test_every_k_from_one_histogram():
    metric = TopkAccuracy(3)
    metric.update([["a", "b", "c"], ["x", "a"], []], ["b", "a", "a"])
    metric.update([["a"]], ["a"])
    assert metric.curve().tolist() == [0.25, 0.75, 0.75]
    assert metric.compute().item() == 0.75
    metric.reset()
    assert metric.num_at_rank.sum() == 0


def test_each_k_equals_a_metric_of_that_k():
    beams = [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["b", "x", "a", "y"]]
    whole = TopkAccuracy(4)
    whole.update(beams, ["a", "a", "a"])
    for k in (1, 2, 3, 4):
        single = TopkAccuracy(k)
        single.update(beams, ["a", "a", "a"])
        assert whole.curve()[k - 1] == single.compute()


def test_marks_do_not_count_and_everything_else_does():
    metric = TopkAccuracy(1)
    metric.update([["exact <a>foo</a>"], ["exact foo"], ["exact  foo"]], ["exact foo", "exact <a>foo</a>", "exact foo"])
    assert metric.compute().item() == pytest.approx(2 / 3)


def test_candidates_beyond_k_do_not_count():
    metric = TopkAccuracy(1)
    metric.update([["b", "a"]], ["a"])
    assert metric.compute() == 0


def test_a_batch_and_its_tactics_must_match_in_number():
    with pytest.raises(ValueError):
        TopkAccuracy(1).update([["a"]], ["a", "b"])
    with pytest.raises(ConfigError, match="k is 0"):
        TopkAccuracy(0)


def _rank(rank: int, port: int, results) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    metric = TopkAccuracy(2)
    # unequal shares: rank 0 has one state, rank 1 three
    metric.update([["a", "b"]] if rank == 0 else [["b", "a"]] * 3, ["a"] * (1 if rank == 0 else 3))
    results[rank] = (metric.curve().tolist(), metric.num_at_rank.tolist())
    torch.distributed.destroy_process_group()


def test_two_ranks_weigh_states_not_ranks(free_port):
    with multiprocessing.Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(_rank, (free_port, results), nprocs=2)
        assert results[0][0] == results[1][0] == [0.25, 1.0]
        assert results[0][1] == [1, 0, 0], "a rank keeps its own counts after reading the curve"
