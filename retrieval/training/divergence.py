"""Ends a run whose loss, gradients or weights are no numbers any more, before it replaces a good checkpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from common import NextstepError
from retrieval.training.monitoring import GradientNorm, log_interval

_MAX_INTERVAL = 50  # batches after which losses are looked at, where values are logged still less often
_MAX_SKIPPED = 50  # batches in a row that a scaler of gradients (16-mixed) may skip


class DivergedError(NextstepError):
    """Training cannot go on: the loss, a gradient or a weight is infinite or no number."""


class Divergence(pl.Callback):
    """Ends a run that has diverged; stands before the callbacks that write checkpoints.

    Losses are looked at when values are logged, together: to look at each would have the device waited for at every
    step. It takes 5 µs a batch (tests/benchmarks/divergence.py). Weights are looked at before each validation and
    checkpoint, by their sums. With a scaler of gradients, which leaves steps out whose gradients are infinite, only a
    long row of such losses counts.
    """

    def __init__(self) -> None:
        self._losses: list[tuple[int, Tensor]] = []  # (step, loss) since the last look
        self._num_skipped = 0  # batches in a row

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Keep the loss; look at those that were kept when values are logged."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, Tensor):
            self._losses.append((trainer.global_step, loss.detach()))
        if len(self._losses) >= min(max(1, log_interval(trainer)), _MAX_INTERVAL):
            self._check_losses(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do not validate what has diverged."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check_losses(trainer)
            self._check_weights(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Do not write what has diverged."""
        self._check_weights(trainer, pl_module)

    def _check_losses(self, trainer: pl.Trainer) -> None:
        if not self._losses:
            return
        steps = [step for step, _ in self._losses]
        are_finite = torch.stack([loss for _, loss in self._losses]).isfinite().tolist()
        self._losses = []
        bad = [step for step, is_finite in zip(steps, are_finite, strict=True) if not is_finite]
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            for is_finite in are_finite:
                self._num_skipped = 0 if is_finite else self._num_skipped + 1
            bad = bad[-1:] if self._num_skipped >= _MAX_SKIPPED else []
            what = f"the losses of the last {self._num_skipped} batches are"
        else:
            what = "the loss is"
            if not bad and (step := _step_of_bad_gradient(trainer)) is not None:
                bad, what = [step], "the gradient is"
        self._end_if(bool(bad), trainer, f"step {bad[0] if bad else steps[-1]}: {what}")

    def _check_weights(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        weights = [p.detach() for p in pl_module.parameters() if p.requires_grad and p.numel()]
        self._end_if(not are_finite(weights), trainer, f"step {trainer.global_step}: weights are")

    def _end_if(self, is_bad: bool, trainer: pl.Trainer, what: str) -> None:
        """Raise DivergedError in all ranks if there is cause to in any."""
        if trainer.strategy.reduce_boolean_decision(is_bad, all=False):
            raise DivergedError(
                f"{what} not finite, so the run has diverged; {_last_good(trainer)}. Lower model.lr, raise "
                "model.warmup_steps, or clip gradients (trainer.gradient_clip_val)"
            )


def are_finite(weights: Sequence[Tensor]) -> bool:
    """Return whether all numbers in some tensors are finite; the device is waited for once.

    A sum is finite only if all numbers are, and takes a tenth of the time of looking at each, and of writing them
    (tests/benchmarks/divergence.py, Intel Xeon, one core).
    """
    if not weights or bool(torch.stack([weight.sum(dtype=torch.float32) for weight in weights]).isfinite().all()):
        return True
    return bool(torch.stack([weight.isfinite().all() for weight in weights]).all())  # a sum may be too large alone


def _step_of_bad_gradient(trainer: pl.Trainer) -> int | None:
    """The last step at which the norm of the gradient was logged, if it is not finite."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, GradientNorm) and callback.norm is not None and not bool(callback.norm.isfinite()):
            return callback.step
    return None


def _last_good(trainer: pl.Trainer) -> str:
    """Say which checkpoint was written last."""
    saved = [
        (c._last_global_step_saved, c.best_model_path)
        for c in trainer.checkpoint_callbacks
        if isinstance(c, ModelCheckpoint) and c._last_global_step_saved and Path(c.best_model_path).exists()
    ]
    if not saved:
        return "no checkpoint was written before"
    step, path = max(saved)
    return f"its last good checkpoint is {path}, of step {step}"
