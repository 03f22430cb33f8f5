"""What a checkpoint says of where the run stands: behind its last optimizer step, wherever it was written.

Lightning counts while its loops run. A checkpoint that is written elsewhere finds these counters on their way: behind a
stopped epoch they say that it is over, inside a batch that it was done; and gradients that were accumulated but made no
step yet are in no checkpoint at all. Here the counters that are saved are those of the last step, so that a resumed run
trains on each example exactly as often as one that never stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.trainer.states import RunningStage

from common import ConfigError
from retrieval.training.datamodule import DEFAULT_BATCH_SIZE
from retrieval.training.resumable_loader import ResumableDataLoader

_BATCHES = "epoch_loop.batch_progress"
_VALIDATION = "epoch_loop.val_loop.batch_progress"


class ResumePoint(pl.Callback):
    """Lets every checkpoint of a run be one to resume from; stands before the callbacks that write them."""

    def __init__(self) -> None:
        self._step = 0  # the last optimizer step
        self._num_at_step = 0  # batches trained on until then, over all epochs

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let Lightning begin where the loader does: in other batches, as many examples are another number of them."""
        counts = trainer.fit_loop.epoch_loop.batch_progress
        self._step, self._num_at_step = trainer.global_step, counts.total.processed  # type: ignore[attr-defined]
        epoch = trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]
        for loader in _resumable_loaders(trainer):
            num_done = loader.resume(epoch)
            current: Any = counts.current
            if num_done and current.processed != num_done:
                current.ready = current.started = current.processed = num_done
                current.completed = num_done - (counts.total.completed != counts.total.ready)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Remember the batch if it made a step."""
        if trainer.global_step != self._step:
            self._step = trainer.global_step
            self._num_at_step = trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Write the counters of the last step."""
        loops = checkpoint["loops"]["fit_loop"]
        num_trained = loops[_BATCHES]["total"]["processed"]
        num_since = num_trained - self._num_at_step if trainer.global_step == self._step else 0
        is_validating = trainer.state.stage == RunningStage.VALIDATING
        set_back(loops, num_since, is_validating=is_validating)
        checkpoint["epoch"] = loops["epoch_progress"]["current"]["processed"]
        if loaders := _resumable_loaders(trainer):
            num_batches = loops[_BATCHES]["current"]["processed"]
            loops["state_dict"]["combined_loader"] = [loader.state_at(num_batches) for loader in loaders]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Mend what older versions wrote, and refuse what cannot go on.

        Raises:
            ConfigError: if the checkpoint is behind the end of the run
        """
        if trainer.state.fn != "fit" or "loops" not in checkpoint:
            return
        loops = checkpoint["loops"]["fit_loop"]
        if _counts_as_over(loops):
            set_back(loops, 0)
        if trainer.max_steps != -1:
            begin_next_epoch(loops)
        add_settings(loops, checkpoint.get("datamodule_hyper_parameters", {}))
        num_epochs, max_epochs = loops["epoch_progress"]["current"]["processed"], trainer.max_epochs
        if max_epochs is not None and -1 < max_epochs < num_epochs:
            raise ConfigError(
                f"trainer.max_epochs is {max_epochs}, but the checkpoint has {num_epochs} epochs behind it; raise it"
            )


def set_back(loops: MutableMapping[str, Any], num_since: int, *, is_validating: bool = False) -> None:
    """Set the counters of Lightning's fit loop to the last optimizer step, in the form they have behind a batch.

    Args:
        loops: the loop's state as checkpoints hold it; changed in place
        num_since: batches that were trained on since that step
        is_validating: whether it was saved in a validation, or behind it
    """
    batches, epochs = loops[_BATCHES], loops["epoch_progress"]
    current, total = batches["current"], batches["total"]
    if not epochs["current"]["ready"]:
        return  # nothing has begun
    is_over = batches["is_last_batch"] and current["processed"] == current["ready"]
    if not num_since:
        if is_validating:
            _repeat_validation(loops[_VALIDATION])
        if is_over or is_validating:
            return  # Lightning goes on from these
    is_behind_batch = current["completed"] == current["processed"]  # else the hooks of its end are running
    if is_behind_batch or num_since:
        loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # Lightning adds it again
    for counts in (current, total):
        num_trained = counts["processed"] - num_since
        counts |= {"ready": num_trained, "started": num_trained, "processed": num_trained, "completed": num_trained - 1}
    batches["is_last_batch"] = False
    for counts in (epochs["current"], epochs["total"]):
        num_begun = counts["ready"]
        counts |= {"started": num_begun, "processed": num_begun - 1, "completed": num_begun - 1}


def begin_next_epoch(loops: MutableMapping[str, Any]) -> None:
    """Let a run that ends at a step begin the next epoch where the last one is over.

    Lightning would go on in the old one, and train on a batch too many in it.

    Args:
        loops: the fit loop's state as checkpoints hold it; changed in place
    """
    batches, epochs = loops[_BATCHES], loops["epoch_progress"]
    is_over = batches["is_last_batch"] and batches["current"]["processed"] == batches["current"]["ready"]
    if not is_over or epochs["current"]["processed"] != epochs["current"]["ready"]:
        return
    batches["current"] |= {"ready": 0, "started": 0, "processed": 0, "completed": -1}
    batches["total"]["completed"] = batches["total"]["processed"] - 1
    batches["is_last_batch"] = False
    loops["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1  # Lightning adds it again
    for counts in (epochs["current"], epochs["total"]):
        counts["completed"] = counts["processed"]


def _repeat_validation(progress: MutableMapping[str, Any]) -> None:
    """Let a validation that was broken off begin anew: half of it would give the metrics of half the examples."""
    total = progress["total"]
    if progress["is_last_batch"] and total["completed"] == total["ready"]:
        return
    progress["current"] |= {"ready": 0, "started": 0, "processed": 0, "completed": 0}
    progress["total"] |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}  # "in the middle of it"
    progress["is_last_batch"] = False


def _counts_as_over(loops: Mapping[str, Any]) -> bool:
    """Whether the last epoch counts as trained though batches of it are left, as older versions wrote it."""
    batches, epoch = loops[_BATCHES], loops["epoch_progress"]["current"]
    return 0 < epoch["ready"] == epoch["processed"] and not batches["is_last_batch"] and batches["current"]["ready"] > 0


def add_settings(loops: MutableMapping[str, Any], data_options: Mapping[str, Any]) -> None:
    """Add how batches were made to the loaders' states of older versions, from the options of the data.

    Args:
        loops: the fit loop's state as checkpoints hold it; changed in place
        data_options: the data module's hyper-parameters
    """
    for state in loops.get("state_dict", {}).get("combined_loader", []):
        if "settings" in state or "batch_size" not in data_options:
            continue
        names = ("batch_size", "max_tokens_per_batch", "batches_per_pool", "seed")
        state["settings"] = {name: data_options[name] for name in names if name in data_options}
        if data_options["batch_size"] is None and data_options.get("max_tokens_per_batch") is None:
            state["settings"]["batch_size"] = DEFAULT_BATCH_SIZE


def _resumable_loaders(trainer: pl.Trainer) -> list[ResumableDataLoader]:
    combined: Any = trainer.fit_loop._combined_loader
    loaders = [] if combined is None else combined.flattened
    return [loader for loader in loaders if isinstance(loader, ResumableDataLoader)]
