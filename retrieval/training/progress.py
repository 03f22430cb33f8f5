"""How long a run will still take, validations included: said in a line from its first minute, and shown at the bar."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import EarlyStopping, Timer
from pytorch_lightning.utilities import rank_zero_info

from retrieval.training.durations import words

_FIRST_WORD_S = 20.0  # of training, after which something is said; with fewer than _MIN_BATCHES, three times as long
_MIN_BATCHES = 10
_BATCHES_PER_SHOW = 10  # as the bar is drawn
_WINDOW = 200  # batches whose mean is the pace: long enough for batches of all lengths, short enough for a new load


@dataclass(frozen=True)
class Plan:
    """The batches of a whole run, and after which of them it validates.

    Attributes:
        num_done: batches of training behind it, those before a resume included
        num_validated: how many of them have had the validation that follows them, if one does
        num_batches: of training in all; infinite where nothing but time ends the run
        epoch: batches of an epoch; infinite where the data does not say
        interval: batches between validations; infinite where there are none
        every_epochs: validations are in every n-th epoch, and intervals begin with it; None: they count on
        validation: batches of one validation
    """

    num_done: int
    num_validated: int
    num_batches: float
    epoch: float
    interval: float
    every_epochs: int | None
    validation: int

    @property
    def num_left(self) -> float:
        """Batches of training to come."""
        return max(0.0, self.num_batches - self.num_done)

    @property
    def validations_left(self) -> int:
        """Validations to come; 0 where the run has no end."""
        is_endless = math.isinf(self.num_batches)
        return 0 if is_endless else self._validations(self.num_batches) - self._validations(self.num_validated)

    def _validations(self, num_batches: float) -> int:
        """How many validations the first batches of the run bring."""
        if not self.validation or math.isinf(self.interval):
            return 0
        if self.every_epochs is None:
            return int(num_batches // self.interval)
        epochs, rest = (0.0, num_batches) if math.isinf(self.epoch) else divmod(num_batches, self.epoch)
        whole = 0.0 if math.isinf(self.epoch) else self.epoch // self.interval * (epochs // self.every_epochs)
        return int(whole + (rest // self.interval if (epochs + 1) % self.every_epochs == 0 else 0))


def plan_of(trainer: pl.Trainer, is_validated: bool = False) -> Plan:
    """Read the plan of a run at the end of a batch.

    Args:
        trainer: of the run
        is_validated: whether a validation has just followed the batch
    """
    epoch, loop = float(trainer.num_training_batches), trainer.fit_loop.epoch_loop
    num_done = loop.total_batch_idx + 1
    if math.isfinite(epoch):
        num_done = trainer.current_epoch * int(epoch) + loop.batch_idx + 1
    ends = [math.inf]
    if trainer.max_epochs is not None and trainer.max_epochs >= 0:
        ends.append(trainer.max_epochs * epoch)
    if trainer.max_steps >= 0:
        ends.append(num_done + (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches)
    interval: Any = getattr(trainer, "val_check_batch", None)
    return Plan(
        num_done=num_done,
        num_validated=num_done if is_validated else num_done - 1,
        num_batches=min(ends),
        epoch=epoch,
        interval=math.inf if interval is None else float(interval),
        every_epochs=trainer.check_val_every_n_epoch,
        validation=int(sum(trainer.num_val_batches)) if trainer.enable_validation else 0,
    )


class TimeLeft(pl.Callback):
    """Tells how long training will still take.

    A line in the log within the first minute and after the first validation, and `min_left`, minutes, beside the
    progress bar. Training goes on at the pace of the last batches; a validation takes as long as the last one, in this
    run or the one that it resumes. Before there was one, it is taken to cost what training on its examples would.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """Begin with nothing.

        Args:
            clock: seconds
        """
        self._clock = clock
        self._since = self._validating_since = 0.0
        self._batches: deque[float] = deque(maxlen=_WINDOW)
        self._validation_batch_s: float | None = None
        self._trained_s = 0.0
        self._has_spoken = False

    def state_dict(self) -> dict[str, Any]:
        """Remember what validation costs."""
        return {"validation_batch_s": self._validation_batch_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what state_dict gave."""
        self._validation_batch_s = state_dict["validation_batch_s"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, and let it be known how long a validation is, where the first epoch has none."""
        self._batches.clear()
        self._trained_s, self._has_spoken = 0.0, False
        if trainer.enable_validation and trainer.val_dataloaders is None:
            trainer.validating = True  # as Lightning does where the first epoch has one
            trainer.fit_loop.epoch_loop.val_loop.setup_data()
            trainer.training = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of a batch; what lies between epochs is not training."""
        self._since = self._clock()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock of a validation."""
        self._validating_since = self._clock()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Learn what a validation costs, and say so the first time."""
        if trainer.state.fn != "fit":
            return
        num_batches = sum(trainer.num_sanity_val_batches if trainer.sanity_checking else trainer.num_val_batches)
        was_guessed, self._since = self._validation_batch_s is None, self._clock()
        if num_batches:
            self._validation_batch_s = (self._since - self._validating_since) / num_batches
        if was_guessed and not trainer.sanity_checking and self._has_spoken:
            plan = plan_of(trainer, is_validated=True)
            if plan.num_left:
                self._say(trainer, plan)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the pace, and show what follows."""
        now = self._clock()
        seconds, self._since = now - self._since, now
        self._trained_s += seconds
        self._batches.append(seconds)
        if len(self._batches) == 2 and self._trained_s == sum(self._batches):
            self._batches.popleft()  # the first batch starts workers, chooses kernels, and may compile
        plan = plan_of(trainer)
        if len(self._batches) > 1 and plan.num_done % _BATCHES_PER_SHOW == 0:
            left_s = self._left_s(trainer, plan)
            if left_s is not None:
                pl_module.log("min_left", left_s / 60, prog_bar=True, logger=False, rank_zero_only=True)
        patience_s = _FIRST_WORD_S * (1 if len(self._batches) >= _MIN_BATCHES else 3)
        if not self._has_spoken and self._trained_s >= patience_s and plan.num_left + plan.validations_left:
            self._has_spoken = True
            self._say(trainer, plan)

    def _left_s(self, trainer: pl.Trainer, plan: Plan) -> float | None:
        """Seconds until the run is over; None where it has no end."""
        seconds = plan.num_left * self._pace()
        if plan.validations_left:
            seconds += plan.validations_left * self._validation_s(trainer, plan)
        limits = (timer.time_remaining() for timer in _timers(trainer))
        seconds = min([seconds, *(limit for limit in limits if limit is not None)])
        return max(0.0, seconds) if math.isfinite(seconds) else None

    def _pace(self) -> float:
        """Seconds of a batch of training."""
        return sum(self._batches) / len(self._batches)

    def _validation_s(self, trainer: pl.Trainer, plan: Plan) -> float:
        """Seconds of one validation; before one was seen, of training on its examples."""
        if self._validation_batch_s is not None:
            return self._validation_batch_s * plan.validation
        return self._pace() * plan.validation * _examples_ratio(trainer)

    def _say(self, trainer: pl.Trainer, plan: Plan) -> None:
        """Print the line."""
        left_s = self._left_s(trainer, plan)
        if left_s is None:
            return
        parts = [f"{self._pace():.2g} s a batch"]
        if math.isfinite(plan.num_batches):
            parts.insert(0, f"{plan.num_left:,.0f} of {plan.num_batches:,.0f} batches")
        if num := plan.validations_left:
            guess = ", a guess" if self._validation_batch_s is None else ""
            each = " each" if num > 1 else ""
            parts.append(
                f"{num} validation{'s' * (num > 1)} of {words(self._validation_s(trainer, plan))}{each}{guess}"
            )
        may_end = any(isinstance(callback, EarlyStopping | Timer) for callback in _callbacks(trainer))
        text = f"time left: about {words(left_s)}{' at most' * may_end} ({'; '.join(parts)})"
        bar = trainer.progress_bar_callback
        if bar is not None and getattr(bar, "is_enabled", False):
            bar.print(text)  # on a line of its own, and the bar goes on below
        else:
            rank_zero_info(text)


def _callbacks(trainer: pl.Trainer) -> list[pl.Callback]:
    found: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]  # Lightning sets it from elsewhere
    return found


def _timers(trainer: pl.Trainer) -> list[Timer]:
    """What ends the run by time."""
    return [callback for callback in _callbacks(trainer) if isinstance(callback, Timer)]


def _examples_ratio(trainer: pl.Trainer) -> float:
    """How many times the examples of a batch of training a batch of validation has; 1 where that is not known."""
    sizes = []
    validation: Any = trainer.val_dataloaders
    loaders: list[Any] = [validation[0] if isinstance(validation, list) else validation, trainer.train_dataloader]
    for loader in loaders:
        try:
            sizes.append(len(loader.dataset) / len(loader))
        except (AttributeError, TypeError, ZeroDivisionError):
            return 1.0
    return sizes[0] / sizes[1] if sizes[1] else 1.0
