"""How long torch.compile takes of a run."""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_info

from retrieval.training.monitoring import log_interval

_QUIET = 20  # batches without compiling, after which it is over
_MIN_S = 1.0  # worth a line


class CompileTime(pl.Callback):
    """Logs `compile_s`, the seconds for which training has stood still to compile, and says them in a line.

    Attributes:
        seconds: so far
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began: float | None = None
        self._at_last_batch = 0.0
        self._num_quiet = 0
        self._handler: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Listen to torch, which tells when it begins and ends, the backward pass apart."""
        from torch._dynamo.callback import callback_handler  # takes a second to import, and only runs need it

        self.seconds = self._at_last_batch = 0.0
        self._num_quiet = 0
        self._handler = callback_handler
        self._handler.register_start_callback(self._begin)
        self._handler.register_end_callback(self._end)

    def _begin(self, *args: Any) -> None:
        self._began = time.perf_counter()

    def _end(self, *args: Any) -> None:
        if self._began is not None:
            self.seconds += time.perf_counter() - self._began
        self._began = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log when values are logged; say it when nothing was compiled for a while."""
        if not self.seconds:
            return
        if trainer.global_step % log_interval(trainer) == 0:
            pl_module.log("compile_s", self.seconds)
        self._num_quiet = self._num_quiet + 1 if self.seconds == self._at_last_batch else 0
        self._at_last_batch = self.seconds
        if self._num_quiet == _QUIET and self.seconds >= _MIN_S:
            rank_zero_info(f"compiling took {self.seconds:.0f} s until step {trainer.global_step:,}")

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Listen no longer."""
        if self._handler is not None:
            self._handler.remove_start_callback(self._begin)
            self._handler.remove_end_callback(self._end)
            self._handler = None
