"""What a run shows while it trains: texts, speed, gradients.

Everything works with any logger, several, or none; what a logger cannot do is left out.
"""

from __future__ import annotations

import time
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_info
from torch import Tensor

from common import ByteTokenizer, check_positive
from retrieval.training.flops import (
    TrainingFlops,
    count_tokens,
    peak_flops_per_s,
    token_masks,
    trained_tokens,
    training_flops,
)
from retrieval.training.shown import shown


def log_text(module: pl.LightningModule, tag: str, text: str) -> None:
    """Log Markdown to every logger that takes text: TensorBoard's add_text, or a log_text method; see `shown`."""
    if not module.trainer.is_global_zero:
        return
    text = shown(text)
    for logger in module.loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(experiment, "add_text"):
            experiment.add_text(tag, text, module.global_step)
        elif hasattr(logger, "log_text"):
            logger.log_text(key=tag, columns=["text"], data=[[text]], step=module.global_step)


def log_interval(trainer: pl.Trainer) -> int:
    """Return after how many steps values are logged."""
    return int(trainer.log_every_n_steps)  # type: ignore[attr-defined]  # Lightning sets it from elsewhere


class ThroughputMonitor(pl.Callback):
    """Logs how fast training goes, counting tokens in the masks of batches and no padding.

    `useful_bytes_per_s`, or `useful_tokens_per_s` where a token is no byte, and `padding_share`; for transformers
    models `model_flops_per_s`, over all ranks, and, where the peak of the device is known, `mfu`: the share of it that
    the model's FLOPs take. The peak is that of bfloat16 whatever the precision. See `retrieval.training.flops`.

    An encoder-decoder names the mask of its targets in a class attribute `target_mask`.
    """

    def __init__(self, peak_flops_per_s: float | None = None) -> None:
        """Keep the peak.

        Args:
            peak_flops_per_s: of one device, for `mfu`; by default that of its data sheet, for the common NVIDIA GPUs
        """
        check_positive(peak_flops_per_s=peak_flops_per_s)
        self._peak = peak_flops_per_s
        self._flops: TrainingFlops | None = None
        self._counts: list[Tensor] = []  # of useful tokens, and what FLOPs depend on, int64 (7,) for each batch
        self._padded = 0
        self._since = 0.0
        self._unit = "tokens"

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Read the model's sizes, before a strategy shards it."""
        if stage == "fit":
            self._flops = training_flops(pl_module)
            self._unit = "bytes" if isinstance(getattr(pl_module, "tokenizer", None), ByteTokenizer) else "tokens"

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; validation between epochs does not count."""
        self._restart()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock again after a validation inside an epoch."""
        self._restart()

    def _restart(self) -> None:
        self._counts, self._padded, self._since = [], 0, time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Count the batch; log every log_every_n_steps. Only then is the device waited for."""
        masks = token_masks(batch)
        if not masks:
            return
        useful = torch.stack([mask.count_nonzero() for mask in masks.values()]).sum()
        by_kind = count_tokens(masks, getattr(pl_module, "target_mask", None), trained_tokens(batch))
        self._counts.append(torch.cat([useful[None], by_kind]))
        self._padded += sum(mask.numel() for mask in masks.values())
        if len(self._counts) < log_interval(trainer) * trainer.accumulate_grad_batches:
            return
        num_useful, *counts = torch.stack(self._counts).sum(dim=0).tolist()
        seconds = (time.perf_counter() - self._since) / trainer.world_size  # the other ranks do about as much
        pl_module.log(f"useful_{self._unit}_per_s", num_useful / seconds)
        pl_module.log("padding_share", 1 - num_useful / self._padded)
        if self._flops is not None:
            flops_per_s = self._flops.total(counts) / seconds
            pl_module.log("model_flops_per_s", flops_per_s)
            peak = self._peak or peak_flops_per_s(pl_module.device)
            if peak is not None:
                pl_module.log("mfu", flops_per_s / (peak * trainer.world_size))
        self._restart()


class ModelSize(pl.Callback):
    """Says in a line what is trained; Lightning's table counts no FLOPs, as nobody tells it an input."""

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Count before a strategy shards the model."""
        if stage == "fit":
            sizes = [(p.numel(), p.requires_grad, p.element_size()) for p in pl_module.parameters()]
            num, num_bytes = sum(n for n, _, _ in sizes), sum(n * size for n, _, size in sizes)
            num_trained = sum(n for n, is_trained, _ in sizes if is_trained)
            trained = "all trained" if num == num_trained else f"{num_trained:,} trained"
            name = type(getattr(pl_module, "generator", pl_module)).__name__
            rank_zero_info(f"{name}: {num:,} parameters, {trained}; {num_bytes / 1e6:,.1f} MB")


class GradientNorm(pl.Callback):
    """Logs the gradient's norm before clipping. Sharded strategies log the norm of a rank's share.

    Attributes:
        norm: the last one; on the device, so that to read it waits for the device
        step: of that norm
    """

    def __init__(self) -> None:
        self.norm: Tensor | None = None
        self.step = 0

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Compute the norm only at steps that are logged."""
        if (trainer.global_step + 1) % log_interval(trainer):
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if gradients:
            self.norm, self.step = torch.nn.utils.get_total_norm(gradients).detach(), trainer.global_step + 1
            pl_module.log("grad_norm", self.norm)
