"""Whether several threads help: on processors that other programs use too, they may hinder each other many times over.

A thread that has done its share of an operation waits for the others by spinning, and keeps from the processor what it
waits for. With six other jobs on two cores the quickstart's step took 2.1 s in two threads, 0.31 s where they sleep
instead (OMP_WAIT_POLICY=passive) and 0.38 s in one. On the same cores with nothing else to do sleeping costs a fifth to
two fifths: 90, 98, 75 ms spinning, 109, 140, 108 ms asleep (tests/benchmarks/step_parts.py, Xeon). And the variable is
read when torch is loaded. So it is for the user to set, and for us to say when.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_warn

_MAX_SLOWDOWN = 3.0  # on busy processors spinning threads had 5 to 16, sleeping ones 0.9 to 1.1
_EVERY_S = 60.0  # of training
_NUM_BURSTS, _OPERATIONS = 5, 20


def slowdown(num_threads: int) -> float:
    """Return how many times as long some arithmetic takes in several threads as in one; 80 ms on an idle machine."""
    seconds = {}
    for count in (num_threads, 1):
        torch.set_num_threads(count)
        seconds[count] = statistics.median(_burst() for _ in range(_NUM_BURSTS))
    torch.set_num_threads(num_threads)
    return seconds[num_threads] / seconds[1]


def _burst() -> float:
    """Seconds of small operations, each of which the threads wait for."""
    numbers = torch.ones(1024, 512)  # as many as the activations of a small model
    start = time.perf_counter()
    for _ in range(_OPERATIONS):
        numbers = torch.nn.functional.gelu(numbers)
    return time.perf_counter() - start


class ThreadAdvice(pl.Callback):
    """Says once, when training on a CPU has begun or later, that threads hinder each other, and what helps."""

    def __init__(
        self, measure: Callable[[int], float] = slowdown, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        """Begin.

        Args:
            measure: see `slowdown`
            clock: seconds
        """
        self._measure, self._clock = measure, clock
        self._next_s: float | None = None  # when to look again; None is never

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look first."""
        on_cpu = trainer.strategy.root_device.type == "cpu"
        self._next_s = self._clock() if on_cpu and torch.get_num_threads() > 1 else None
        self._look()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look again every minute: others may begin to work at any time."""
        self._look()

    def _look(self) -> None:
        if self._next_s is None or self._clock() < self._next_s:
            return
        num_threads = torch.get_num_threads()
        factor = self._measure(num_threads)
        self._next_s = self._clock() + _EVERY_S
        if factor > _MAX_SLOWDOWN:
            self._next_s = None
            rank_zero_warn(
                f"{num_threads} threads take {factor:.0f} times as long as one for the same arithmetic, because other "
                "programs use the processors too; if that is to last, stop, and start the same command with "
                "OMP_WAIT_POLICY=passive before it, or with OMP_NUM_THREADS=1"
            )
