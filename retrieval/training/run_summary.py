"""What remains of a run when it is over: metrics.json, and the paths of its checkpoints."""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_info, rank_zero_only

from retrieval.training.advice import about_accumulation, why_no_validation
from retrieval.training.files import write_json
from retrieval.training.last_checkpoint import LAST
from retrieval.training.run_folder import run_folder
from retrieval.training.signals import Interrupted


class RunSummary(pl.Callback):
    """Writes metrics.json into the run folder, and the best metrics beside the hyper-parameters.

    Keys after `fit`: the metrics of the last validation by their names; `best`, those of the best validation by the
    checkpoint's monitor, or `no_validation`, why there was none; `best_checkpoint`, `last_checkpoint`, `num_steps`,
    `num_epochs`, `seconds`, `status` (running, finished, interrupted, failed); and what a model's `run_facts` tells.

    Attributes:
        no_validation: the option that had this run end without a validation; "" if there was one
    """

    def __init__(self) -> None:
        self._since = time.perf_counter()
        self._best: dict[str, float] = {}
        self._score = math.nan
        self.no_validation = ""
        self._has_trained = False
        self._folder: Path | None = None  # not known before setup; what fails earlier leaves no file

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Learn the folder while all ranks are here."""
        self._folder = run_folder(trainer)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say what the options lead to."""
        self._has_trained = True
        if advice := about_accumulation(trainer):
            rank_zero_info(advice)

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
        if not evaluation_metrics(trainer):
            self.no_validation = why_no_validation(trainer, self._has_trained)
        self._write(trainer, "interrupted" if trainer.interrupted else "finished")
        for logger in trainer.loggers if self._best else []:
            if isinstance(logger, pl.loggers.TensorBoardLogger):
                # names of their own: those of scalars would get a second point, at step 0
                best = {f"val_best/{name}": value for name, value in self._best.items()}
                logger.log_hyperparams(dict(pl_module.hparams), best, trainer.global_step)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Say in the file that the run did not end well."""
        if trainer.state.fn == "fit" and self._folder is not None:
            self._write(trainer, "interrupted" if isinstance(exception, KeyboardInterrupt | Interrupted) else "failed")

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
            **({"best": self._best} if self._best else {"no_validation": self.no_validation or "none yet"}),
            **own_facts(trainer.lightning_module),
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


def own_facts(module: Any) -> dict[str, Any]:
    """Return what a model tells of its run beside its metrics, plain values by name."""
    return dict(module.run_facts()) if hasattr(module, "run_facts") else {}


def best_checkpoint(trainer: pl.Trainer) -> str:
    """Return the path of the best checkpoint by its monitor, or "" where none was kept, or it is gone."""
    callback = _monitoring_checkpoint(trainer)
    return _if_there(callback.best_model_path) if callback else ""


def last_checkpoint(trainer: pl.Trainer) -> str:
    """Return the path of the checkpoint to resume from, or "" where none was kept, or it is gone."""
    paths = [c.best_model_path for c in _model_checkpoints(trainer) if c.filename == LAST]
    return next(filter(None, map(_if_there, paths)), "")


def why_not_validated(trainer: pl.Trainer) -> str:
    """Return the option that had a run end without a validation; "" if there was one."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
    return next((c.no_validation for c in callbacks if isinstance(c, RunSummary)), "")


def _if_there(path: str) -> str:
    """A path elsewhere than on a disk (s3://...), or that exists; "" for others."""
    return path if "://" in path or (path and Path(path).exists()) else ""


def _monitoring_checkpoint(trainer: pl.Trainer) -> ModelCheckpoint | None:
    return next((c for c in _model_checkpoints(trainer) if c.monitor), None)


def _model_checkpoints(trainer: pl.Trainer) -> list[ModelCheckpoint]:
    return [c for c in trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
