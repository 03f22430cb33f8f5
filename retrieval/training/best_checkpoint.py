"""The checkpoint with the best metric, over all the runs that went on from each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.utilities import rank_zero_info


class _Checkpoint(ModelCheckpoint):
    """A ModelCheckpoint to files: its state stands in them under that name, whatever the class is called."""

    @property
    def state_key(self) -> str:
        """See Lightning."""
        return super().state_key.replace(type(self).__qualname__, ModelCheckpoint.__qualname__, 1)


class BestCheckpoint(_Checkpoint):
    """Knows the best checkpoint of the run that this one goes on from, in another folder, as its own.

    Lightning forgets it there, so that the next one counts as the best, however bad. It is never removed.
    """

    _is_fit = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """See Lightning."""
        super().setup(trainer, pl_module, stage)
        self._is_fit = stage == "fit"

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what is still there."""
        if not self._is_fit:
            return
        best = state_dict["best_model_path"]
        if best and not Path(best).exists():
            rank_zero_info(f"the best checkpoint so far, {best}, is gone; the next one will count as the best")
            return
        kept = {path: score for path, score in state_dict["best_k_models"].items() if Path(path).exists()}
        super().load_state_dict({**state_dict, "dirpath": self.dirpath, "best_k_models": kept})
        if self.kth_best_model_path not in kept and kept:
            choose = min if self.mode == "max" else max
            self.kth_best_model_path = choose(kept, key=lambda path: float(kept[path]))
            self.kth_value = kept[self.kth_best_model_path]


class TimedCheckpoint(_Checkpoint):
    """Keeps last.ckpt, which is to be found by its name alone, every so often."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Begin anew."""
