"""Threads that hinder each other are spoken of once, with what helps."""

from __future__ import annotations

import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from retrieval.training import threads
from retrieval.training.threads import ThreadAdvice, slowdown


def trainer(device: str = "cpu") -> Any:
    return SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device(device)))


def watched(
    factors: list[float], times: list[float], num_threads: int = 2, device: str = "cpu"
) -> tuple[list[str], int]:
    """What is said over a run whose batches end at these times, and how often was measured."""
    torch.set_num_threads(num_threads)
    clock, measured = [0.0], list[int]()

    def measure(count: int) -> float:
        measured.append(count)
        return factors[min(len(measured), len(factors)) - 1]

    advice: Any = ThreadAdvice(measure, lambda: clock[0])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        advice.on_train_start(trainer(device), None)
        for clock[0] in times:
            advice.on_train_batch_end(trainer(device), None, None, None, 0)
    assert set(measured) <= {num_threads}
    return [str(warning.message) for warning in caught], len(measured)


def test_threads_that_take_longer_than_one_are_spoken_of_once() -> None:
    said, num_measured = watched([6.4], [1.0, 70.0, 500.0])
    assert num_measured == len(said) == 1
    assert "2 threads take 6 times as long as one" in said[0] and "OMP_WAIT_POLICY=passive" in said[0]


def test_others_may_begin_to_work_later() -> None:
    said, num_measured = watched([0.6, 0.6, 5.0], [1.0, 30.0, 61.0, 62.0, 130.0])
    assert num_measured == 3 and len(said) == 1


def test_threads_that_help_or_do_no_harm_are_no_matter() -> None:
    assert watched([0.5, 1.4, 2.9], [100.0, 200.0]) == ([], 3)


@pytest.mark.parametrize("options", [{"num_threads": 1}, {"device": "meta"}])
def test_one_thread_and_other_devices_are_not_asked(options: dict[str, Any]) -> None:
    assert watched([9.0], [100.0], **options) == ([], 0)


def test_the_same_arithmetic_is_measured_in_all_threads_and_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {2: 0.6, 1: 0.2}
    monkeypatch.setattr(threads, "_burst", lambda: seconds[torch.get_num_threads()])
    assert slowdown(2) == pytest.approx(3.0) and torch.get_num_threads() == 2
    monkeypatch.undo()
    assert slowdown(2) > 0
