"""What a run shows: texts, speed, gradients, and what remains when it is over.

Everything works with any logger, several, or none; what a logger cannot do is left out.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor

from common import ByteTokenizer, check_positive
from retrieval.training.files import write_json
from retrieval.training.flops import TrainingFlops, count_tokens, peak_flops_per_s, token_masks, training_flops

LAST = "last"  # name of the checkpoint to resume from


def log_text(module: pl.LightningModule, tag: str, text: str) -> None:
    """Log Markdown to every logger that takes text: TensorBoard's add_text, or a log_text method."""
    if not module.trainer.is_global_zero:
        return
    for logger in module.loggers:
        experiment: Any = getattr(logger, "experiment", None)
        if hasattr(experiment, "add_text"):
            experiment.add_text(tag, text, module.global_step)
        elif hasattr(logger, "log_text"):
            logger.log_text(key=tag, columns=["text"], data=[[text]], step=module.global_step)


def run_folder(trainer: pl.Trainer) -> Path:
    """Return the folder of this run: the logger's, or the default root without one.

    All ranks have to ask at the same point, since rank 0 tells the others.
    """
    return Path(trainer.log_dir or trainer.default_root_dir)


def _log_interval(trainer: pl.Trainer) -> int:
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
        self._counts: list[Tensor] = []  # of useful tokens, and what FLOPs depend on, int64 (6,) for each batch
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
        by_kind = count_tokens(masks, getattr(pl_module, "target_mask", None))
        self._counts.append(torch.cat([useful[None], by_kind]))
        self._padded += sum(mask.numel() for mask in masks.values())
        if len(self._counts) < _log_interval(trainer) * trainer.accumulate_grad_batches:
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


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt, the point to resume from: at each validation, and where training ends between two."""

    def __init__(self) -> None:
        super().__init__(filename=LAST, enable_version_counter=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save once more if steps were taken since the last time."""
        super().on_train_end(trainer, pl_module)
        if self.dirpath and self._last_global_step_saved != trainer.global_step:
            self.best_model_path = str(Path(self.dirpath) / f"{LAST}.ckpt")
            trainer.save_checkpoint(self.best_model_path)


class GradientNorm(pl.Callback):
    """Logs the gradient's norm before clipping. Sharded strategies log the norm of a rank's share."""

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Compute the norm only at steps that are logged."""
        if (trainer.global_step + 1) % _log_interval(trainer):
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        if gradients:
            pl_module.log("grad_norm", torch.nn.utils.get_total_norm(gradients))


class RunSummary(pl.Callback):
    """Writes metrics.json into the run folder, and the best metrics beside the hyper-parameters.

    Keys after `fit`: the metrics of the last validation by their names; `best`, those of the best validation by the
    checkpoint's monitor; `best_checkpoint`, `last_checkpoint`, `num_steps`, `num_epochs`, `seconds`, `status`.
    """

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._best: dict[str, float] = {}
        self._score = math.nan
        self._folder: Path | None = None  # not known before setup; what fails earlier leaves no file

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Learn the folder while all ranks are here."""
        self._folder = run_folder(trainer)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def state_dict(self) -> dict[str, Any]:
        """Remember the best metrics in checkpoints, so that a resumed run knows them."""
        return {"best": self._best, "score": self._score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what state_dict gave."""
        self._best, self._score = state_dict["best"], state_dict["score"]

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Keep the metrics if they are the best so far, and write them: a crash leaves the file."""
        if trainer.state.fn == "validate":
            self._write_evaluation(trainer)
        if trainer.sanity_checking or trainer.state.fn != "fit":
            return
        metrics, checkpoint = evaluation_metrics(trainer), _monitoring_checkpoint(trainer)
        if checkpoint is not None and checkpoint.monitor in metrics:
            score = metrics[checkpoint.monitor]
            better = score > self._score if checkpoint.mode == "max" else score < self._score
            if math.isnan(self._score) or better:
                self._best, self._score = metrics, score
        self._write(trainer, "running")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the file for good, and log the hyper-parameters with the final metrics."""
        self._write(trainer, "interrupted" if trainer.interrupted else "finished")
        for logger in trainer.loggers if self._best else []:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                # names of their own: those of scalars would get a second point, at step 0
                best = {f"val_best/{name}": value for name, value in self._best.items()}
                logger.log_hyperparams(dict(pl_module.hparams), best, trainer.global_step)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Say in the file that the run did not end well."""
        if trainer.state.fn == "fit" and self._folder is not None:
            self._write(trainer, "interrupted" if isinstance(exception, KeyboardInterrupt) else "failed")

    def on_test_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write what `test` found; `validate` writes the same keys."""
        self._write_evaluation(trainer)

    @rank_zero_only
    def _write_evaluation(self, trainer: pl.Trainer) -> None:
        assert self._folder is not None
        checkpoint = {"checkpoint": str(trainer.ckpt_path or "")}
        write_json(self._folder / "metrics.json", {**evaluation_metrics(trainer), **checkpoint})

    @rank_zero_only
    def _write(self, trainer: pl.Trainer, status: str) -> None:
        assert self._folder is not None
        summary = {
            **evaluation_metrics(trainer),
            "best": self._best,
            "best_checkpoint": best_checkpoint(trainer),
            "last_checkpoint": last_checkpoint(trainer),
            "num_steps": trainer.global_step,
            "num_epochs": trainer.current_epoch,
            "seconds": round(time.perf_counter() - self._since, 1),
            "status": status,
        }
        write_json(self._folder / "metrics.json", summary)


def evaluation_metrics(trainer: pl.Trainer) -> dict[str, float]:
    """Return the metrics of the last validation or test."""
    return {name: float(value) for name, value in trainer.callback_metrics.items() if name.endswith(("_val", "_test"))}


def best_checkpoint(trainer: pl.Trainer) -> str:
    """Return the path of the best checkpoint by its monitor, or "" where none was kept."""
    callback = _monitoring_checkpoint(trainer)
    return callback.best_model_path if callback else ""


def last_checkpoint(trainer: pl.Trainer) -> str:
    """Return the path of the checkpoint to resume from, or "" where none was kept."""
    paths = [c.best_model_path for c in _model_checkpoints(trainer) if c.filename == LAST and c.best_model_path]
    return paths[0] if paths else ""


def _monitoring_checkpoint(trainer: pl.Trainer) -> ModelCheckpoint | None:
    return next((c for c in _model_checkpoints(trainer) if c.monitor), None)


def _model_checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
