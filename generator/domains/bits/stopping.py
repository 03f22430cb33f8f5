"""When a task counts as learnt: the accuracy of training itself, and then that of problems never trained on."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from common import ConfigError, check_positive
from retrieval.training.durations import words


@dataclass(frozen=True)
class Stopping:
    """When training ends.

    Attributes:
        stop_at: the run ends when this share of bits is right in training, on average over the last `window` batches,
            before they were trained on, and then in fresh problems too, which are drawn for that; 0 never ends it
        window: batches
        num_confirming: bits of the fresh problems, about. If fewer of them are right, training goes on for `window`
            batches before they are asked again
    """

    stop_at: float = 0.99
    window: int = 50
    num_confirming: int = 5000

    def __post_init__(self) -> None:
        if not 0 <= self.stop_at <= 1:
            raise ConfigError(f"stop_at is {self.stop_at}; it must be a share of bits from 0 to 1")
        check_positive(window=self.window, num_confirming=self.num_confirming)


class OnlineAccuracy:
    """The accuracy of the last batches, and how much was trained on: counted when an optimizer step is taken.

    What was not followed by a step is not in a checkpoint's counters either, and is trained on again after a resume.

    Attributes:
        num_samples: problems trained on
        num_batches: batches of them
        seconds: from the start of training, all runs that went on from each other together
    """

    def __init__(self, window: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self.num_samples, self.num_batches, self.seconds = 0, 0, 0.0
        self._clock, self._since = clock, clock()
        self._accuracies = deque[float](maxlen=window)
        self._pending = list[tuple[float, int]]()

    def start(self) -> None:
        """Start the clock."""
        self._since = self._clock() - self.seconds
        self._pending.clear()

    def observe(self, accuracy: float, num_samples: int) -> None:
        """Take a batch: the share of its bits that are right, and its problems over all ranks."""
        self._pending.append((accuracy, num_samples))

    def step(self) -> None:
        """Count what was observed since the last step."""
        for accuracy, num_samples in self._pending:
            self._accuracies.append(accuracy)
            self.num_samples += num_samples
            self.num_batches += 1
        self._pending.clear()
        self.seconds = self._clock() - self._since

    @property
    def value(self) -> float:
        """The mean of the last batches; 0 before there was one."""
        return sum(self._accuracies) / len(self._accuracies) if self._accuracies else 0.0

    @property
    def is_full(self) -> bool:
        """Whether there were as many batches as the window has."""
        return len(self._accuracies) == self._accuracies.maxlen

    def state_dict(self) -> dict[str, Any]:
        """Return plain values."""
        counts = {"num_samples": self.num_samples, "num_batches": self.num_batches, "seconds": self.seconds}
        return {**counts, "accuracies": list(self._accuracies)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what state_dict gave; of another window, as much as fits."""
        self.num_samples, self.num_batches = state["num_samples"], state["num_batches"]
        self.seconds = state["seconds"]
        self._accuracies.clear()
        self._accuracies.extend(state["accuracies"])
        self.start()


class StopWhenLearnt(pl.Callback):
    """Ends training as `Stopping` says, and keeps after how many samples and seconds; `BitModel` brings it.

    Attributes:
        learnt: `samples_to_99`, `seconds_to_99` and `confirmed_acc` (99 is stop_at in percent); {} until then
    """

    def __init__(self, stopping: Stopping) -> None:
        self.stopping = stopping
        self.learnt: dict[str, float] = {}
        self._not_before = 0  # batches: from then on fresh problems may be asked

    def state_dict(self) -> dict[str, Any]:
        """Remember what was found."""
        return {"learnt": self.learnt, "not_before": self._not_before}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what state_dict gave."""
        self.learnt, self._not_before = state_dict["learnt"], state_dict["not_before"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Look at a run that goes on: it may have been learnt, or interrupted before it was asked."""
        self._look(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the accuracy of training, and then ask fresh problems."""
        self._look(trainer, pl_module)

    def _look(self, trainer: pl.Trainer, pl_module: Any) -> None:
        online: OnlineAccuracy = pl_module.online
        if not self.stopping.stop_at or not online.is_full or online.value < self.stopping.stop_at:
            return
        if not self.learnt and online.num_batches >= self._not_before:
            self._not_before = online.num_batches + self.stopping.window
            accuracy = pl_module.fresh_accuracy(self.stopping.num_confirming)
            if accuracy >= self.stopping.stop_at:
                self._found(online, accuracy)
        if self.learnt:
            trainer.should_stop = True

    def _found(self, online: OnlineAccuracy, accuracy: float) -> None:
        percent = f"{100 * self.stopping.stop_at:g}"
        self.learnt = {
            f"samples_to_{percent}": online.num_samples,
            f"seconds_to_{percent}": round(online.seconds, 1),
            "confirmed_acc": accuracy,
        }
        rank_zero_info(
            f"{percent}% of bits are right after {online.num_samples:,} samples, {words(online.seconds)} "
            f"({accuracy:.2%} in fresh problems)"
        )
