"""Signals that end a run: what was trained is saved, a line says how to go on, and the exit status tells the signal.

A training step is never cut in two: a signal that comes during a batch waits for its end, a second Ctrl-C does not.
Several ranks stop at the same batch, since each of them would wait for the others for ever.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from common import NextstepError
from retrieval.training.last_checkpoint import LastCheckpoint, is_dev_run
from retrieval.training.signals import WORDS, Interrupted


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """End the process as `Interrupted` says for Ctrl-C in the block too, where Lightning would end it with status 1."""
    if threading.current_thread() is not threading.main_thread():  # only there may Python handle signals
        yield
        return
    before = signal.signal(signal.SIGINT, _stop_at_once)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_at_once(number: int, frame: FrameType | None) -> None:
    raise Interrupted(number)


class Interruption(pl.Callback):
    """Takes Ctrl-C, SIGTERM and SLURM's signal to requeue over from Lightning while it trains or evaluates.

    Lightning stops wherever it is, ends with status 0 or 1, and under several ranks talks to the others from inside the
    handler. It gives the signals back at the end of a run.
    """

    def __init__(self) -> None:
        self._requeue: tuple[int, Callable[..., object]] | None = None  # SLURM's signal, and what Lightning does then
        self._asked: set[int] = set()  # signals that wait for the end of the batch
        self._due: int | None = None  # the signal to act on when the validation begins
        self._in_batch = False
        self._can_save = False

    # -------------------------------------------------------------------- Lightning's own handlers are set before these

    def on_sanity_check_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over before the first batch of the sanity check."""
        self._take_over(trainer)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over before the first training batch."""
        self._take_over(trainer)
        self._can_save = True

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over in `validate`; in `fit`, stop here if it was asked for behind the last batch."""
        if trainer.state.fn == "validate":
            self._take_over(trainer)
        number, self._due = self._due, None
        if number is not None:
            self._do(number)

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over in `test`."""
        self._take_over(trainer)

    def on_predict_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over in `predict`."""
        self._take_over(trainer)

    def _take_over(self, trainer: pl.Trainer) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, frame: FrameType | None) -> None:
            self._stop(trainer, number)

        environment = trainer._accelerator_connector.cluster_environment
        if self._requeue is None and isinstance(environment, SLURMEnvironment) and environment.auto_requeue:
            number = environment.requeue_signal or signal.SIGUSR1
            handler = signal.getsignal(number)
            self._requeue = (number, handler) if callable(handler) else None
        for number in [*WORDS, *(self._requeue or ())[:1]]:
            signal.signal(number, stop)

    # ----------------------------------------------------------------------------------------------------- when to stop

    def _stop(self, trainer: pl.Trainer, number: int) -> None:
        """Do at once what loses nothing, and else ask for it."""
        is_fit = trainer.state.fn == "fit"
        if trainer.world_size > 1 and not is_fit and number == signal.SIGTERM and trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(number)  # the processes that this one has started
        if not is_fit or not self._in_batch and trainer.world_size == 1:
            self._do(number)
        elif number == signal.SIGINT and number in self._asked:
            self._can_save = False  # the batch may have changed half of the weights
            raise Interrupted(number)
        else:
            self._asked.add(number)
            if number == signal.SIGINT and trainer.is_global_zero:
                print("\nCtrl-C: stopping behind this batch; once more to stop at once", file=sys.stderr)

    def _do(self, number: int) -> None:
        if self._requeue is None or number != self._requeue[0]:
            raise Interrupted(number)
        self._requeue[1](number, None)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on the weights may change."""
        self._in_batch = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Do what was asked for."""
        self._in_batch = False
        self._do_what_was_asked(trainer)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Do what was asked for."""
        if trainer.state.fn == "fit":
            self._do_what_was_asked(trainer)

    def _do_what_was_asked(self, trainer: pl.Trainer) -> None:
        known = [*WORDS, *(self._requeue or ())[:1]]  # to requeue comes before SIGTERM, which follows it
        rank = max((known.index(number) + 1 for number in self._asked), default=0)
        if trainer.world_size > 1:
            # One number more beside the flag that Lightning sends before every batch of several ranks, and waits for.
            # Whichever rank has a signal, all act on it here.
            code = torch.tensor(float(rank), device=trainer.strategy.root_device)
            rank = int(trainer.strategy.reduce(code, reduce_op="max"))
        if rank:
            number = known[rank - 1]
            self._asked.discard(number)
            loop = trainer.fit_loop
            if not trainer.validating and loop.epoch_loop._should_check_val_fx(loop._data_fetcher):  # type: ignore[arg-type]
                self._due = number  # a resumed run then begins with the validation, which it would leave out from here
            else:
                self._do(number)

    # ----------------------------------------------------------------------------------------------------- what is left

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Save what was trained, and say how to go on."""
        if not isinstance(exception, Interrupted):
            return
        is_fit = trainer.state.fn == "fit"
        advice = self._save(trainer) if is_fit else "start it again"
        if trainer.is_global_zero:
            where = f" at step {trainer.global_step}" if is_fit else ""
            print(f"\ninterrupted by {exception}{where}: {advice}", file=sys.stderr)

    def _save(self, trainer: pl.Trainer) -> str:
        """Save the state of the last step, and return a line that says how to go on from it."""
        last = next((c for c in trainer.checkpoint_callbacks if isinstance(c, LastCheckpoint)), None)
        if last is None or is_dev_run(trainer):
            return "this run keeps no checkpoints"
        if not self._can_save and not last.best_model_path:
            return "nothing was saved; start it again"
        try:
            path = last.save_now(trainer) if self._can_save else last.best_model_path
        except NextstepError as error:
            return f"nothing was saved: {error}"
        if not path:
            return "nothing was trained yet; start it again"
        return f"go on with the same command and --ckpt_path {path}"
