"""The checkpoint that a run goes on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint

from retrieval.training.checkpoint_files import remove_leftovers

LAST = "last"  # its name


def is_dev_run(trainer: pl.Trainer) -> bool:
    """Whether the run only tries whether everything works (trainer.fast_dev_run), and keeps nothing."""
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]  # Lightning sets it from elsewhere


class LastCheckpoint(ModelCheckpoint):
    """Keeps last.ckpt, the point to resume from: at each validation, and where training ends between two."""

    def __init__(self) -> None:
        super().__init__(filename=LAST, enable_version_counter=False)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Know the point that the run went on from, until there is a new one."""
        self.best_model_path = state_dict["best_model_path"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Clean up behind runs that were killed while they wrote here, or where this one goes on from."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            for folder in (self.dirpath, trainer.ckpt_path and Path(trainer.ckpt_path).parent):
                if folder:
                    remove_leftovers(Path(folder))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save once more if steps were taken since the last time."""
        super().on_train_end(trainer, pl_module)
        self.save_now(trainer)

    def save_now(self, trainer: pl.Trainer) -> str:
        """Save if steps were taken since the last time, and return where; "" if none were ever taken.

        All ranks have to call it at the same point.
        """
        if self.dirpath and trainer.global_step != self._last_global_step_saved and not is_dev_run(trainer):
            self.best_model_path = str(Path(self.dirpath) / f"{LAST}{self.FILE_EXTENSION}")
            self._save_checkpoint(trainer, self.best_model_path)
        return self.best_model_path
