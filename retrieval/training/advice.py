"""Lines of advice about what options of the trainer lead to: a run without validation, steps of other sizes."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl


def why_no_validation(trainer: pl.Trainer, has_trained: bool) -> str:
    """Say which option had a run end without a validation.

    Args:
        trainer: at the end of a fit
        has_trained: whether it took steps
    """
    step, options = trainer.global_step, _options(trainer)
    if not has_trained:
        which = "max_steps" if step and trainer.max_steps == step else "max_epochs"
        return f"nothing was left to train on at step {step}; raise trainer.{which}, which is {getattr(trainer, which)}"
    if options.limit_val_batches == 0:
        return "trainer.limit_val_batches is 0"
    if not trainer.num_val_batches or not sum(_as_list(trainer.num_val_batches)):
        every = trainer.check_val_every_n_epoch
        if every is None or every <= trainer.current_epoch:
            return "there is no validation data"
    where = f"the run ended at step {step}, in epoch {max(1, trainer.current_epoch)}"
    loop = trainer.fit_loop
    num_batches, every, interval = loop.max_batches, trainer.check_val_every_n_epoch, options.val_check_interval
    num_done = loop.epoch_loop.batch_progress.total.ready
    if every is not None and every > 1:
        return f"trainer.check_val_every_n_epoch is {every}, and {where}"
    first = int(interval if isinstance(interval, int) else max(1, int(num_batches * interval)))
    end = _end(trainer, step)
    return f"the first one comes behind batch {first} (trainer.val_check_interval is {interval}), and {end} {num_done}"


def _end(trainer: pl.Trainer, step: int) -> str:
    """What ended the run."""
    if trainer.max_steps == step:
        return f"trainer.max_steps, which is {step}, ended the run behind batch"
    return "the run ended behind batch"


def about_accumulation(trainer: pl.Trainer) -> str | None:
    """Say that an epoch has too few batches for a step of as many as asked for; None if it has enough."""
    asked, num_batches = trainer.accumulate_grad_batches, trainer.num_training_batches
    if asked <= num_batches or trainer.strategy.handles_gradient_accumulation:
        return None
    return (
        f"trainer.accumulate_grad_batches is {asked}, but an epoch has {num_batches} batches, and a step ends with it: "
        f"each step is one of {num_batches} batches, and its gradient {num_batches / asked:.2g} of their mean"
    )


def _options(trainer: pl.Trainer) -> Any:
    """The trainer's options that Lightning sets from elsewhere, so that their types are not known."""
    return trainer


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
